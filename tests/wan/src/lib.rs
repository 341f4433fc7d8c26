//! A wide area network between a mirror and its home, on one machine: one link that all connections share.
//!
//! ```text
//!  client --accept, a round trip later--> packets --window--> bucket of the direction (shared)--> delay line --> server
//!                                                      '-----------acknowledged a round trip later-------'
//! ```
//!
//! * A direction carries so many bytes a second, whichever connections they belong to.
//! * Connecting takes a round trip. A connection has at most its window on its way, which may begin small and grow as TCP's
//!   does (slow start).
//! * It may be cut without anybody being told, its connections reset, one bit of what it carries changed.
//!
//! It is believed because of its tests: a transfer takes its bytes over the rate and a round trip.

mod window;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use window::Window;

/// Bytes that are carried as one packet: as many as a fast link carries in a tenth of a millisecond.
const PACKET: usize = 16 << 10;

/// What the bucket of a direction holds, in time: timers wake up to a millisecond late.
const BUCKET: Duration = Duration::from_millis(5);

/// No number of bytes.
const NEVER: u64 = u64::MAX;

/// What a connection may send before it has heard anything: ten packets of an Ethernet.
pub const SLOW_START: usize = 14_600;

/// How a link is.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// From one end to the other: half a round trip.
    pub delay: Duration,
    /// What all connections together may carry in each direction; any number, without.
    pub bytes_per_second: Option<u64>,
    /// Bytes of one connection that may be on their way in one direction: its window.
    pub window: usize,
    /// What the window is at first, and after a while in which nothing was sent. It grows by what is acknowledged.
    pub first_window: usize,
}

impl Link {
    /// No link at all.
    pub const SHORT: Self =
        Self { delay: Duration::ZERO, bytes_per_second: None, window: 4 << 20, first_window: 4 << 20 };

    /// One of this round trip and rate.
    pub const fn new(round_trip_ms: u64, bytes_per_second: u64) -> Self {
        let delay = Duration::from_micros(round_trip_ms * 500);
        Self { delay, bytes_per_second: Some(bytes_per_second), ..Self::SHORT }
    }

    /// The same, where no connection has more than this on its way, and each begins with [`SLOW_START`].
    #[must_use]
    pub const fn with_window(self, bytes: usize) -> Self {
        Self { window: bytes, first_window: SLOW_START, ..self }
    }
}

/// What becomes of what is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// It arrives.
    Fine,
    /// It is swallowed, and so are attempts to connect: nobody is told.
    Blackhole,
}

/// A link, and a port of this machine behind which its other end is.
pub struct Wan {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends all connections when it is dropped.
    _tasks: JoinSet<()>,
}

struct Shared {
    link: watch::Sender<Link>,
    weather: watch::Sender<Weather>,
    /// Counts up when all connections are reset.
    resets: watch::Sender<u64>,
    towards: Direction,
    back: Direction,
}

struct Direction {
    /// When the link is free for the next packet.
    free: Mutex<Option<Instant>>,
    carried: AtomicU64,
    /// How many bytes have been carried when a bit is changed.
    flip: AtomicU64,
}

impl Default for Direction {
    fn default() -> Self {
        Self { free: Mutex::default(), carried: AtomicU64::new(0), flip: AtomicU64::new(NEVER) }
    }
}

impl Wan {
    /// A link to `target`; an error if there is no port for it.
    pub async fn to(target: SocketAddr, link: Link) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(link));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on the link is like that.
    pub fn change(&self, link: Link) {
        self.shared.link.send_replace(link);
    }

    /// Nothing arrives any more, and nobody is told.
    pub fn cut(&self) {
        self.shared.weather.send_replace(Weather::Blackhole);
    }

    /// What is sent from now on arrives. Connections of before are broken.
    pub fn mend(&self) {
        self.shared.weather.send_replace(Weather::Fine);
        self.reset();
    }

    /// Breaks every connection.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// Changes one bit of what comes from the server, so many bytes from now.
    pub fn flip(&self, after: u64) {
        let at = self.carried_back() + after;
        self.shared.back.flip.store(at, Ordering::Relaxed);
    }

    /// Whether that has happened.
    pub fn has_flipped(&self) -> bool {
        self.shared.back.flip.load(Ordering::Relaxed) == NEVER
    }

    /// Bytes that went from the server to the clients, all connections together.
    pub fn carried_back(&self) -> u64 {
        self.shared.back.carried.load(Ordering::Relaxed)
    }

    /// Bytes that went from the clients to the server.
    pub fn carried_towards(&self) -> u64 {
        self.shared.towards.carried.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn new(link: Link) -> Self {
        Self {
            link: watch::Sender::new(link),
            weather: watch::Sender::new(Weather::Fine),
            resets: watch::Sender::new(0),
            towards: Direction::default(),
            back: Direction::default(),
        }
    }

    fn link(&self) -> Link {
        *self.link.borrow()
    }

    /// Waits until the weather is fine.
    async fn fine(&self) {
        let mut weather = self.weather.subscribe();
        let _ = weather.wait_for(|weather| *weather == Weather::Fine).await;
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let mut resets = shared.resets.subscribe();
            resets.borrow_and_update();
            tokio::select! {
                () = connect(client, target, &shared) => {}
                _ = resets.changed() => {}
            }
        });
    }
}

async fn connect(client: TcpStream, target: SocketAddr, shared: &Shared) {
    shared.fine().await;
    // The handshake of a connection is a round trip.
    sleep_until(Instant::now() + shared.link().delay * 2).await;
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    carry(client, server, shared).await;
}

/// Carries a connection in both directions, until one of them ends.
async fn carry<C, S>(client: C, server: S, shared: &Shared)
where
    C: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    tokio::join!(
        one_way(from_client, to_server, &shared.towards, shared),
        one_way(from_server, to_client, &shared.back, shared),
    );
}

/// Packets in order, each not before it can have arrived.
async fn one_way<R, W>(mut from: R, mut to: W, direction: &Direction, shared: &Shared)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // The window bounds what is in either of them.
    let (line, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let (acknowledge, acknowledged) = mpsc::unbounded_channel();
    let sending = async move {
        let mut packet = vec![0; PACKET];
        let mut window = Window::new(shared.link(), acknowledged);
        loop {
            let Ok(length) = from.read(&mut packet).await else { return };
            if length == 0 || !window.open(length, shared.link()).await {
                return;
            }
            let arrives = direction.send(length, shared.link()).await;
            let carried = direction.carried.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
            let is_due = carried >= direction.flip.load(Ordering::Relaxed);
            if is_due
                && direction.flip.swap(NEVER, Ordering::Relaxed) != NEVER
                && let Some(byte) = packet.get_mut(length / 2)
            {
                *byte ^= 1;
            }
            if line.send((arrives, packet.get(..length).unwrap_or_default().to_vec())).is_err() {
                return;
            }
        }
    };
    let receiving = async move {
        while let Some((arrives, packet)) = arriving.recv().await {
            sleep_until(arrives).await;
            // What was on its way when the link was cut is gone with the connection.
            shared.fine().await;
            if to.write_all(&packet).await.is_err() {
                return;
            }
            // Taken by the other end: the sender hears of it half a round trip later, if it is there still.
            let _ = acknowledge.send((Instant::now() + shared.link().delay, packet.len()));
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(sending, receiving);
}

impl Direction {
    /// Waits for the link to take so many bytes, and says when they arrive.
    async fn send(&self, length: usize, link: Link) -> Instant {
        let Some(rate) = link.bytes_per_second else { return Instant::now() + link.delay };
        let mut free = self.free.lock().await;
        // A sender that woke up late by less than the bucket holds has lost nothing.
        let now = Instant::now();
        let begins = free.filter(|free| *free + BUCKET >= now).unwrap_or(now);
        let ends = begins + time_of(length as u64, rate);
        *free = Some(ends);
        drop(free);
        sleep_until(ends).await;
        ends + link.delay
    }
}

/// What so many bytes take at a rate.
fn time_of(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(bytes * 1_000_000_000 / rate)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// How long `bytes` take over so many connections at once, by a clock that only passes while all wait.
    async fn carried_in(bytes: usize, connections: usize, link: Link) -> Duration {
        let shared = Arc::new(Shared::new(link));
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for _ in 0..connections {
            let (mut client, near) = duplex(PACKET);
            let (far, mut server) = duplex(PACKET);
            let carried = Arc::clone(&shared);
            tasks.spawn(async move { carry(near, far, &carried).await });
            let share = bytes / connections;
            tasks.spawn(async move {
                // A request that takes half a round trip, and an answer that takes the other half.
                server.read_u8().await.expect("a request");
                server.write_all(&vec![7; share]).await.expect("an answer");
            });
            tasks.spawn(async move {
                client.write_u8(1).await.expect("a request");
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.expect("an answer");
                assert_eq!(answer.len(), share);
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task panics");
        }
        began.elapsed()
    }

    /// The link is believed in other tests because of this one: a transfer takes its bytes over the rate and a round trip,
    /// with one connection as with several, which share the link.
    #[tokio::test(start_paused = true)]
    async fn a_transfer_takes_its_bytes_over_the_rate_and_a_round_trip() {
        for (round_trip, rate, connections) in
            [(20, 25_000_000, 1), (80, 25_000_000, 4), (150, 25_000_000, 1), (150, 125_000_000, 8)]
        {
            let bytes = 8_000_000;
            let wide = Link { window: 64 << 20, first_window: 64 << 20, ..Link::new(round_trip, rate) };
            let taken = carried_in(bytes, connections, wide).await;
            let floor = time_of(bytes as u64, rate) + Duration::from_millis(round_trip);
            assert!(taken >= floor, "{taken:?} is faster than the link, which takes {floor:?}");
            assert!(taken < floor.mul_f64(1.01) + Duration::from_millis(5), "{taken:?} for {floor:?}");
        }
    }

    /// One connection carries a window each round trip at most, however fast the link is.
    #[tokio::test(start_paused = true)]
    async fn a_window_holds_one_connection_back() {
        let link = Link { window: 1 << 20, first_window: 1 << 20, ..Link::new(100, 1_000_000_000) };
        let one = carried_in(8 << 20, 1, link).await;
        let eight = carried_in(8 << 20, 8, link).await;
        assert!(one > Duration::from_millis(800) && one < Duration::from_millis(900), "{one:?}");
        assert!(eight < Duration::from_millis(220), "{eight:?}");
    }

    /// It doubles each round trip until it is as large as it may be: 14.6 KB to 1 MiB takes seven of them.
    #[tokio::test(start_paused = true)]
    async fn a_window_begins_small() {
        let link = Link::new(100, 1_000_000_000).with_window(1 << 20);
        let small = carried_in(14_000, 1, link).await;
        assert!(small < Duration::from_millis(105), "{small:?}");
        let large = carried_in(8 << 20, 1, link).await;
        assert!(large > Duration::from_millis(1_200) && large < Duration::from_millis(1_700), "{large:?}");
    }
}
