//! Three replicas under pushes and pulls, while a seeded killer takes one after the other away, against a ledger of what
//! was acknowledged (P2, P3, P4).
//!
//! ```text
//! clients that retry as real ones do --> balancer --> replica 1, 2, 3 <-- killer: kill -9 or SIGSTOP, the leader half of
//!        |                                                                the time; then a restart or SIGCONT
//!        '--> book: attempted, acknowledged --------------------------> at the end: every replica shows all of it
//! ```
//!
//! `ROADSTEAD_CRASH_ROUNDS` says how many rounds, `ROADSTEAD_CRASH_SEED` which.

mod book;
mod manner;
mod puller;
mod pusher;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Balancer, Client, Cluster, Roadstead, S3, S3Kind, Setup, alone};
use book::{Book, Deed};
pub(crate) use manner::{Manner, Piece, Trouble};
use puller::Puller;
pub(crate) use puller::broken;
use pusher::Pusher;

/// One of each kind on average; a full run has a hundred.
const ROUNDS: u64 = 4;
const PULLERS: u64 = 2;

/// For how long the load runs before somebody is taken away, and for how long after that at most.
const BEFORE_MS: std::ops::Range<u64> = 50..1_200;
const GONE_MS: std::ops::Range<u64> = 0..1_500;
/// Below and above what it takes until others stand for election.
const STOPPED_MS: std::ops::Range<u64> = 200..3_500;

/// The clients, and what they share.
struct Load {
    clients: JoinSet<()>,
    book: Arc<Book>,
}

impl Load {
    fn start(front: &str, random: &mut StdRng) -> Self {
        let book = Arc::new(Book::default());
        let mut clients = JoinSet::new();
        for manner in Manner::ALL {
            let client = Client::with_authorities(front, &[]);
            let random = StdRng::seed_from_u64(random.random());
            clients.spawn(Pusher::new(client, manner, random, Arc::clone(&book)).run());
        }
        for _ in 0..PULLERS {
            let client = Client::with_authorities(front, &[]);
            let random = StdRng::seed_from_u64(random.random());
            clients.spawn(Puller::new(client, random, Arc::clone(&book)).run());
        }
        Self { clients, book }
    }

    /// Lets it go on for so long: no client ends by itself.
    async fn go_on(&mut self, moment: Duration) {
        if let Ok(Some(Err(panicked))) = timeout(moment, self.clients.join_next()).await {
            std::panic::resume_unwind(panicked.into_panic());
        }
    }

    /// Lets every client come to the end of what it does.
    async fn end(mut self) -> Arc<Book> {
        self.book.close();
        while let Some(client) = self.clients.join_next().await {
            client.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        }
        self.book
    }
}

/// What the killer has done.
#[derive(Default, Debug)]
struct Counts {
    killed: u32,
    stopped: u32,
    of_the_leader: u32,
}

async fn one_round(cluster: &mut Cluster, load: &mut Load, random: &mut StdRng, deeds: &mut Counts) {
    let leader = cluster.leader().await;
    let victim = if random.random_bool(0.5) { leader } else { (leader + random.random_range(1..3)) % 3 };
    deeds.of_the_leader += u32::from(victim == leader);
    let name = if victim == leader { format!("replica {victim}, which led,") } else { format!("replica {victim}") };
    let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(random.random_range(range));
    load.go_on(millis(BEFORE_MS)).await;
    if random.random_bool(0.5) {
        deeds.killed += 1;
        load.book.note_deed(Deed::Kill, name.clone());
        cluster.replicas[victim].kill();
        let gone = Duration::from_millis(random.random_range(GONE_MS));
        load.go_on(gone).await;
        load.book.note_deed(Deed::Restart, name);
        cluster.replicas[victim].restart().await;
    } else {
        deeds.stopped += 1;
        load.book.note_deed(Deed::Stop, name.clone());
        cluster.replicas[victim].signal(Signal::STOP);
        let stopped = Duration::from_millis(random.random_range(STOPPED_MS));
        load.go_on(stopped).await;
        load.book.note_deed(Deed::Wake, name);
        cluster.replicas[victim].signal(Signal::CONT);
    }
}

async fn hundred_times(store: &str, setup: impl Fn() -> Setup) {
    let _alone = alone().await;
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let rounds = number("ROADSTEAD_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("ROADSTEAD_CRASH_SEED").unwrap_or_else(|| StdRng::from_os_rng().random_range(0..1 << 32));
    say(&format!("ROADSTEAD_CRASH_SEED={seed} ROADSTEAD_CRASH_ROUNDS={rounds}"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(3, setup).await;
    let front = Balancer::over(cluster.replicas.iter().map(Roadstead::address).collect()).await;
    let mut load = Load::start(&front.base(), &mut random);
    let mut deeds = Counts::default();
    for _ in 0..rounds {
        one_round(&mut cluster, &mut load, &mut random, &mut deeds).await;
        load.book.assert_sound();
    }
    let book = load.end().await;
    say(&format!("{store}: {deeds:?}\n{}", book.summary()));
    book.assert_sound();
    assert!(book.acknowledged() >= rounds, "the pushers did next to nothing");
    // Power comes back to all of them at once.
    cluster.replicas.iter_mut().for_each(Roadstead::kill);
    join_all(cluster.replicas.iter_mut().map(Roadstead::restart)).await;
    for replica in &mut cluster.replicas {
        book.assert_shown_by(&replica.client()).await;
        replica.assert_unharmed();
    }
}

/// Whoever reads the result must know what was done.
#[expect(clippy::print_stdout, reason = "it is what a failure is tried again with, and what a run has shown")]
fn say(what: &str) {
    println!("{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_replicas_taken_away_lose_nothing_and_fail_no_client_on_the_filesystem() {
    hundred_times("filesystem", || Setup::filesystem().flag("--part-size", "5MiB")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in make crash"]
async fn p2_replicas_taken_away_lose_nothing_and_fail_no_client_on_s3() {
    let s3 = S3::start(S3Kind::Minio).await;
    hundred_times("MinIO", || Setup::s3(&s3).flag("--part-size", "5MiB")).await;
}
