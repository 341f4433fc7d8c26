//! `roadstead dev`: a home region of three replicas behind one port, and a mirror of it, on this machine.
//!
//! ```text
//! clients -> front (one port) --each connection to the next replica that takes it--> replica 1, 2, 3
//!              ^                                                                     (processes of their own)
//!              '--follows-- mirror (a port and a process of its own) <- clients
//! ```
//!
//! Each of them is `roadstead serve` with the flags that anybody would give. One that ends is started again.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roadstead_domain::Entropy as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::ambient::OsEntropy;
use crate::failure::{Failure, report};
use crate::serve::{Signals, runtime};

/// How many replicas there are: one may be lost.
const REPLICAS: u16 = 3;

/// From the front's port to that of the first replica.
const FIRST_REPLICA: u16 = 1;

/// From the front's port to that of the mirror.
const MIRROR: u16 = 4;

/// What home calls the mirror.
const MIRROR_NAME: &str = "dev";

/// From the front's port to where the first replica listens for the others.
const FIRST_PEER: u16 = 11;

/// Connections that the front carries at once; more wait to be accepted. Each takes two of a process's file handles, of
/// which it has 1,024 on most systems.
const MAX_CONNECTIONS: usize = 256;

/// How long a replica on the same machine may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often it is looked whether a replica is ready, or has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long an ended replica stays away: long enough to see the others go on.
const ABSENCE: Duration = Duration::from_secs(5);

/// Starting, on a machine that is busy building.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// What a replica may take to drain, above its own `shutdown-grace`.
const STOP_TIMEOUT: Duration = Duration::from_secs(45);

/// Bytes of the secret by which replicas know each other.
const SECRET_BYTES: usize = 32;

/// Runs until a signal, or until the replicas cannot be started.
pub(crate) fn dev(listen: SocketAddr, data: &Path) -> anyhow::Result<()> {
    runtime()?.block_on(run(listen, data))
}

async fn run(listen: SocketAddr, data: &Path) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let region = Region::prepare(listen, data)?;
    let busy =
        || Failure::new(format!("cannot listen on {listen}"), "end what listens there, or give another --listen");
    let front = TcpListener::bind(listen).await.map_err(|error| busy().because(error))?;
    let stop = CancellationToken::new();
    let mut replicas = JoinSet::new();
    for number in 1..=REPLICAS {
        replicas.spawn(Arc::clone(&region).keep_running(Part::Replica(number), stop.clone()));
    }
    replicas.spawn(Arc::clone(&region).keep_mirror_running(stop.clone()));
    let ended = tokio::select! {
        result = region.serve(&front) => result,
        _ = signals.next() => Ok(()),
        Some(Ok(Err(failed))) = replicas.join_next() => Err(failed),
    };
    say("stopping the replicas")?;
    stop.cancel();
    while let Some(replica) = replicas.join_next().await {
        if let Ok(Err(failed)) = replica {
            report(&failed);
        }
    }
    ended
}

/// One of the processes.
#[derive(Clone, Copy)]
enum Part {
    Replica(u16),
    Mirror,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(number) => write!(f, "replica {number}"),
            Self::Mirror => f.write_str("the mirror"),
        }
    }
}

/// Three replicas, a mirror, and where they are.
struct Region {
    listen: SocketAddr,
    data: PathBuf,
    secret: PathBuf,
    /// Counts connections.
    next: AtomicUsize,
}

impl Region {
    fn prepare(listen: SocketAddr, data: &Path) -> anyhow::Result<Arc<Self>> {
        let most = u16::MAX - FIRST_PEER - REPLICAS;
        if !listen.ip().is_loopback() || listen.port() == 0 || listen.port() > most {
            let next = format!("give a loopback address and a port from 1 to {most}, such as 127.0.0.1:5000");
            return Err(
                Failure::new("cannot listen there", next).because(anyhow::anyhow!("{listen}: this is for one machine"))
            );
        }
        let cannot = || Failure::new(format!("cannot write to {}", data.display()), "give another --data");
        std::fs::create_dir_all(data).map_err(|error| cannot().because(error))?;
        let data = data.canonicalize().map_err(|error| cannot().because(error))?;
        let secret = data.join("cluster-secret");
        if !secret.exists() {
            write_secret(&secret, hex::encode(random_secret()).as_bytes()).map_err(|error| cannot().because(error))?;
        }
        Ok(Arc::new(Self { listen, data, secret, next: AtomicUsize::new(0) }))
    }

    fn address(&self, offset: u16) -> SocketAddr {
        SocketAddr::new(self.listen.ip(), self.listen.port() + offset)
    }

    fn replica(&self, number: u16) -> SocketAddr {
        self.address(FIRST_REPLICA + number - 1)
    }

    fn listens(&self, part: Part) -> SocketAddr {
        match part {
            Part::Replica(number) => self.replica(number),
            Part::Mirror => self.address(MIRROR),
        }
    }

    fn folder(&self, part: Part) -> PathBuf {
        match part {
            Part::Replica(number) => self.data.join(format!("replica-{number}")),
            Part::Mirror => self.data.join("mirror"),
        }
    }

    /// The token by which home knows the mirror.
    fn token(&self) -> PathBuf {
        self.data.join("mirror-token")
    }

    fn peer(&self, number: u16) -> SocketAddr {
        self.address(FIRST_PEER + number - 1)
    }

    fn log(&self, part: Part) -> PathBuf {
        self.folder(part).with_extension("log")
    }

    /// `roadstead serve`, as one would write it by hand.
    fn start(&self, part: Part) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(self.log(part))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--listen").arg(self.listens(part).to_string());
        command.arg("--data").arg(self.folder(part));
        match part {
            Part::Replica(number) => {
                command.arg("--blobs").arg(self.data.join("blobs"));
                command.arg("--peer-listen").arg(self.peer(number).to_string());
                command.arg("--cluster-secret-file").arg(&self.secret);
                for earlier in 1..number {
                    command.arg("--join").arg(self.peer(earlier).to_string());
                }
            }
            Part::Mirror => {
                command.arg("--upstream").arg(format!("http://{}", self.listen));
                command.arg("--upstream-token-file").arg(self.token());
            }
        }
        // It is told to stop by this process, not by the terminal as well.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// Runs the mirror, once home is there to let it follow.
    async fn keep_mirror_running(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = until_ready(self.listen) => {}
            () = stop.cancelled() => return Ok(()),
        }
        if !self.token().exists() {
            let data = self.folder(Part::Replica(1));
            let token = spawn_blocking(move || admin::mirror_token(&data, MIRROR_NAME, true, false)).await??;
            write_secret(&self.token(), token.trim().as_bytes())?;
        }
        self.keep_running(Part::Mirror, stop).await
    }

    /// Runs a process, again whenever it ends by other than `stop`. Fails if it ends before it was ever ready.
    async fn keep_running(self: Arc<Self>, part: Part, stop: CancellationToken) -> anyhow::Result<()> {
        let mut was_ready = false;
        loop {
            let log = self.log(part);
            let failed = |why: String| {
                let next = format!("see the end of {}", log.display());
                Failure::new(format!("{part} cannot run"), next).because(anyhow::anyhow!(why))
            };
            let mut replica = Replica(self.start(part).map_err(|error| failed(error.to_string()))?);
            if !was_ready {
                let (process, address) = (replica.0.id(), self.listens(part));
                say(&format!("{part}: process {process}, {address}, log {}", log.display()))?;
            }
            let ended = tokio::select! {
                ended = replica.ended() => ended?,
                never = self.note_ready(part, &mut was_ready) => match never {},
                () = stop.cancelled() => return replica.stop().await,
            };
            if !was_ready {
                return Err(failed(format!("it ended ({ended}) before it was ready")));
            }
            say(&format!(
                "{part} has ended ({ended}); the others go on, it is started again in {} s",
                ABSENCE.as_secs()
            ))?;
            if timeout(ABSENCE, stop.cancelled()).await.is_ok() {
                return Ok(());
            }
        }
    }

    /// Notes that the process is ready, and does not end.
    async fn note_ready(&self, part: Part, was_ready: &mut bool) -> Infallible {
        until_ready(self.listens(part)).await;
        if *was_ready {
            // Whether anybody reads this is no reason to end.
            let _ = say(&format!("{part} is back"));
        }
        *was_ready = true;
        std::future::pending().await
    }

    /// Carries connections, once every replica takes requests, and says so when the mirror does too.
    async fn serve(&self, front: &TcpListener) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        for number in 1..=REPLICAS {
            self.await_ready(Part::Replica(number), deadline).await?;
        }
        let announced = async {
            self.await_ready(Part::Mirror, deadline).await?;
            say(&self.next_commands())?;
            anyhow::Ok(())
        };
        let carried = self.carry(front);
        tokio::pin!(carried);
        tokio::select! {
            ended = &mut carried => return ended,
            announced = announced => announced?,
        }
        carried.await
    }

    async fn await_ready(&self, part: Part, deadline: Instant) -> anyhow::Result<()> {
        timeout_at(deadline, until_ready(self.listens(part))).await.map_err(|elapsed| {
            let next = format!("see the end of {}", self.log(part).display());
            Failure::new(format!("{part} is not ready after {} s", START_TIMEOUT.as_secs()), next).because(elapsed)
        })?;
        Ok(say(&format!("{part} is ready"))?)
    }

    async fn carry(&self, front: &TcpListener) -> anyhow::Result<()> {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let place = Arc::clone(&places).acquire_owned().await?;
            let Ok((mut client, _)) = front.accept().await else { continue };
            while connections.try_join_next().is_some() {}
            let first = self.next.fetch_add(1, Ordering::Relaxed);
            let others: Vec<_> = (0..REPLICAS).map(|number| self.replica(number + 1)).collect();
            connections.spawn(async move {
                let _place = place;
                for turn in 0..others.len() {
                    let Some(replica) = others.get((first + turn) % others.len()) else { return };
                    if let Ok(Ok(mut replica)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(replica)).await {
                        // A connection that breaks is the business of its two ends.
                        let _ = copy_bidirectional(&mut client, &mut replica).await;
                        return;
                    }
                }
            });
        }
    }

    fn next_commands(&self) -> String {
        let Self { listen, data, .. } = self;
        let host = format!("localhost:{}", listen.port());
        let mirror = self.listens(Part::Mirror);
        let (first, mirrored) = (self.folder(Part::Replica(1)), self.folder(Part::Mirror));
        format!(
            "\nroadstead is ready on http://{listen}: three replicas behind one port,\n\
             and on http://{mirror}: a mirror of them, as another region would have it\n\n\
             In another terminal:\n\
             \x20 docker tag my-image {host}/my-image\n\
             \x20 docker push {host}/my-image                  # at home\n\
             \x20 docker pull localhost:{}/my-image     # from the mirror\n\
             \x20 roadstead status --data {}    # who leads at home\n\
             \x20 roadstead status --data {}       # how far the mirror is behind\n\
             \x20 kill -9 <process of a replica>    # then push and pull again\n\n\
             Ctrl-C stops all of it; what was pushed stays in {}.",
            mirror.port(),
            first.display(),
            mirrored.display(),
            data.display()
        )
    }
}

/// A process of ours: it never outlives this one.
struct Replica(Child);

impl Replica {
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let mut looks = looks();
        loop {
            looks.tick().await;
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
        }
    }

    /// Has it drain.
    async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        // One that does not end in time is killed when it is dropped.
        let _ = timeout(STOP_TIMEOUT, self.ended()).await;
        Ok(())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // One that has ended needs no more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn looks() -> tokio::time::Interval {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

async fn until_ready(replica: SocketAddr) {
    let mut looks = looks();
    while !is_ready(replica).await {
        looks.tick().await;
    }
}

/// Whether `/readyz` of a replica says 200.
async fn is_ready(replica: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(replica).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {replica}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status).await?;
        io::Result::Ok(status.ends_with(b" 200"))
    };
    matches!(timeout(CONNECT_TIMEOUT, asked).await, Ok(Ok(true)))
}

fn random_secret() -> [u8; SECRET_BYTES] {
    let mut secret = [0; SECRET_BYTES];
    OsEntropy.fill(&mut secret);
    secret
}

fn write_secret(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(secret)
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
