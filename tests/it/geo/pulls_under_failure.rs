//! Pulls at a mirror while its home, the link and its own replicas go away and come back: none fails (P6, P8).
//!
//! ```text
//!  pullers that retry as Skopeo does --> balancer --> replicas of the mirror <-- kill -9 of one
//!                                                               | link       <-- cut, reset
//!  pusher that moves the tags ---------> balancer --> replicas of home       <-- kill -9 of one, or of all
//! ```
//!
//! Each tag was whole at the mirror before anything happens, so there is always something that can be pulled.
//! `ROADSTEAD_PULLS` says how many pulls, `ROADSTEAD_PULLS_SEED` what happens meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{PATIENCE, mirror_of_three_behind, until_tag};
use crate::harness::{Balancer, Client, Cluster, Image, Request, Roadstead, Setup, Wan, alone, sha256, until};
use crate::ledger::{Manner, Piece, Trouble, broken};

/// In each run of the tests; `make pulls` has ten thousand.
const PULLS: u32 = 300;
const PULLERS: usize = 6;
const REPOSITORY: &str = "team/app";
const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "latest"];

/// For how long everything is well before something happens, and for how long that lasts.
const BEFORE_MS: std::ops::Range<u64> = 100..1_000;
/// Below and above what it takes until a mirror knows that its home is away, and until others stand for election.
const LASTS_MS: std::ops::Range<u64> = 200..5_000;

/// Between two pushes: a tag moves several times while something is away.
const PUSH_MS: std::ops::Range<u64> = 50..300;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Cut,
    Reset,
    KillOneOfHome,
    KillAllOfHome,
    KillOneOfMirror,
    KillOneOfMirrorWhileCut,
}

const DEEDS: [Deed; 6] = [
    Deed::Cut,
    Deed::Reset,
    Deed::KillOneOfHome,
    Deed::KillAllOfHome,
    Deed::KillOneOfMirror,
    Deed::KillOneOfMirrorWhileCut,
];

/// What was done and what came of it.
#[derive(Default)]
struct Record {
    /// The digests that each tag may have.
    versions: Mutex<BTreeMap<&'static str, Vec<String>>>,
    deeds: Mutex<Vec<(Instant, String)>>,
    pulls: Mutex<Pulls>,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Pulls {
    done: u32,
    /// What clients tried again, by the trouble.
    absorbed: BTreeMap<String, u32>,
    failures: Vec<String>,
}

impl Record {
    fn is_open(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn pulls(&self) -> std::sync::MutexGuard<'_, Pulls> {
        self.pulls.lock().expect("no client panics under this lock")
    }

    fn note_deed(&self, what: String) {
        self.deeds.lock().expect("no client panics under this lock").push((Instant::now(), what));
    }

    fn note_version(&self, tag: &'static str, digest: String) {
        self.versions.lock().expect("no client panics under this lock").entry(tag).or_default().push(digest);
    }

    fn may_be(&self, tag: &str, digest: &str) -> bool {
        let versions = self.versions.lock().expect("no client panics under this lock");
        versions[tag].iter().any(|version| version == digest)
    }

    fn note_absorbed(&self, trouble: &Trouble) {
        let what = match trouble {
            Trouble::Broken { .. } => "broken".to_owned(),
            Trouble::Refused { status, .. } => status.to_string(),
            Trouble::Wrong(_) => "wrong".to_owned(),
        };
        *self.pulls().absorbed.entry(what).or_default() += 1;
    }

    fn summary(&self) -> String {
        let versions: usize =
            self.versions.lock().expect("no client panics under this lock").values().map(Vec::len).sum();
        let Pulls { done, absorbed, failures } = &*self.pulls();
        format!("{done} pulls of {versions} versions; tried again: {absorbed:?}; failed: {}", failures.len())
    }

    /// A pull that its client has given up, with what happened before it.
    fn note_failure(&self, tag: &str, trouble: &Trouble) {
        let deeds = self.deeds.lock().expect("no client panics under this lock");
        let before = deeds.iter().rev().take(4);
        let before: Vec<_> = before.map(|(at, what)| format!("{what} {} ms ago", at.elapsed().as_millis())).collect();
        let failure = format!("{REPOSITORY}:{tag}: {trouble}; {}", before.join(", "));
        drop(deeds);
        self.pulls().failures.push(failure);
    }
}

/// A home and a mirror of three replicas each.
struct World {
    home: Cluster,
    mirror: Cluster,
    wan: Wan,
    to_home: Balancer,
    to_mirror: Balancer,
    _token: TempDir,
}

impl World {
    async fn start() -> Self {
        let home = Cluster::start(3, Setup::filesystem).await;
        let to_home = Balancer::over(home.replicas.iter().map(Roadstead::address).collect()).await;
        let (wan, mirror, token) =
            mirror_of_three_behind(to_home.address(), &home.replicas[0], "mirror token test").await;
        let to_mirror = Balancer::over(mirror.replicas.iter().map(Roadstead::address).collect()).await;
        Self { home, mirror, wan, to_home, to_mirror, _token: token }
    }

    async fn happens(&mut self, deed: Deed, record: &Record, random: &mut StdRng) {
        let victim = random.random_range(0..3);
        let end = Instant::now() + Duration::from_millis(random.random_range(LASTS_MS));
        record.note_deed(format!("{deed:?}, replica {victim}"));
        match deed {
            Deed::Reset => self.wan.reset(),
            Deed::Cut | Deed::KillOneOfMirrorWhileCut => self.wan.cut(),
            Deed::KillOneOfHome => self.home.replicas[victim].kill(),
            Deed::KillAllOfHome => self.home.replicas.iter_mut().for_each(Roadstead::kill),
            Deed::KillOneOfMirror => {}
        }
        if matches!(deed, Deed::KillOneOfMirror | Deed::KillOneOfMirrorWhileCut) {
            self.mirror.replicas[victim].kill();
        }
        sleep_until(end).await;
        match deed {
            Deed::Reset => {}
            Deed::Cut => self.wan.mend(),
            Deed::KillOneOfHome => self.home.replicas[victim].restart().await,
            Deed::KillAllOfHome => drop(join_all(self.home.replicas.iter_mut().map(Roadstead::restart)).await),
            Deed::KillOneOfMirror => self.mirror.replicas[victim].restart().await,
            Deed::KillOneOfMirrorWhileCut => {
                self.mirror.replicas[victim].restart().await;
                self.wan.mend();
            }
        }
        record.note_deed(format!("the end of {deed:?}"));
    }
}

/// Moves tags at home, each push again until it is done.
struct Pusher {
    home: Client,
    random: StdRng,
    record: Arc<Record>,
}

impl Pusher {
    async fn run(mut self) {
        while self.record.is_open() {
            let tag = TAGS[self.random.random_range(0..TAGS.len())];
            self.push(tag).await;
            let pause = Duration::from_millis(self.random.random_range(PUSH_MS));
            sleep_until(Instant::now() + pause).await;
        }
    }

    async fn push(&mut self, tag: &'static str) {
        let lengths: Vec<usize> = (0..self.random.random_range(1..3)).map(|_| self.length()).collect();
        let image = Image::random(self.random.random_range(0..1 << 50), &lengths);
        for blob in image.blobs() {
            let target = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", sha256(blob));
            self.until_done(|home| home.post(&target).body(blob.clone())).await;
        }
        self.record.note_version(tag, image.digest());
        let target = format!("/v2/{REPOSITORY}/manifests/{tag}");
        let media_type = crate::harness::MEDIA_TYPE_IMAGE;
        self.until_done(|home| home.put(&target).header("content-type", media_type).body(image.manifest.clone())).await;
    }

    /// Mostly small, sometimes more than comes in one piece.
    fn length(&mut self) -> usize {
        if self.random.random_bool(0.1) {
            self.random.random_range(300_000..1_500_000)
        } else {
            self.random.random_range(2..20_000)
        }
    }

    async fn until_done(&self, request: impl Fn(&Client) -> Request) {
        while self.record.is_open() {
            if request(&self.home).try_send().await.is_ok_and(|reply| reply.status == 201) {
                return;
            }
            sleep_until(Instant::now() + Duration::from_millis(200)).await;
        }
    }
}

/// Pulls at the mirror, the whole again after trouble, as often as Skopeo does.
struct Puller {
    mirror: Client,
    random: StdRng,
    record: Arc<Record>,
}

impl Puller {
    async fn run(mut self) {
        while self.record.is_open() {
            let tag = TAGS[self.random.random_range(0..TAGS.len())];
            let mut pauses = Manner::Skopeo.pauses(Piece::Push).iter();
            let pulled = loop {
                let Err(trouble) = self.pull(tag).await else { break Ok(()) };
                let pause = pauses.next().filter(|_| Manner::Skopeo.goes_on_after(&trouble));
                let Some(pause) = pause else { break Err(trouble) };
                self.record.note_absorbed(&trouble);
                sleep_until(Instant::now() + *pause).await;
            };
            match pulled {
                Ok(()) => self.record.pulls().done += 1,
                Err(trouble) => self.record.note_failure(tag, &trouble),
            }
        }
    }

    async fn pull(&self, tag: &str) -> Result<(), Trouble> {
        let manifest = self.get(&format!("/v2/{REPOSITORY}/manifests/{tag}")).await?;
        let digest = sha256(&manifest);
        if !self.record.may_be(tag, &digest) {
            return Err(Trouble::Wrong(format!("{digest} was never pushed under it")));
        }
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("what was pushed is JSON");
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for descriptor in std::iter::once(&manifest["config"]).chain(layers) {
            let named = descriptor["digest"].as_str().expect("a digest");
            let content = self.get(&format!("/v2/{REPOSITORY}/blobs/{named}")).await?;
            if sha256(&content) != named {
                return Err(Trouble::Wrong(format!("{named} is served with other bytes")));
            }
        }
        Ok(())
    }

    async fn get(&self, target: &str) -> Result<bytes::Bytes, Trouble> {
        let since = Instant::now();
        let reply = self.mirror.get(target).try_send().await.map_err(|error| broken(since, &error))?;
        match reply.status {
            200 => Ok(reply.body),
            // What a tag names is there, and so is each of the tags.
            404 => Err(Trouble::Wrong(format!("{target} is answered 404"))),
            status => {
                let body = String::from_utf8_lossy(&reply.body).into_owned();
                Err(Trouble::Refused { since, status, body })
            }
        }
    }
}

/// Whoever reads the result must know what was done.
#[expect(clippy::print_stdout, reason = "it is what a failure is tried again with, and what a run has shown")]
fn say(what: &str) {
    println!("{what}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_1_no_pull_fails_while_links_break_and_replicas_of_home_and_mirror_are_killed() {
    let _alone = alone().await;
    let wanted = number("ROADSTEAD_PULLS").map_or(PULLS, |pulls| u32::try_from(pulls).expect("a number of pulls"));
    let seed = number("ROADSTEAD_PULLS_SEED").unwrap_or_else(|| StdRng::from_os_rng().random_range(0..1 << 32));
    say(&format!("ROADSTEAD_PULLS_SEED={seed} ROADSTEAD_PULLS={wanted}"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start().await;
    let record = Arc::new(Record::default());
    let home = Client::with_authorities(&world.to_home.base(), &[]);
    for (number, tag) in (0..).zip(TAGS) {
        let image = Image::random(number, &[1_000]);
        record.note_version(tag, image.digest());
        home.push_image(REPOSITORY, tag, &image).await;
        for replica in &world.mirror.replicas {
            until_whole(&replica.client(), tag, &image).await;
        }
    }

    let mut clients = JoinSet::new();
    let (front, mut seeds) = (world.to_mirror.base(), StdRng::seed_from_u64(random.random()));
    clients.spawn(Pusher { home, random: StdRng::seed_from_u64(seeds.random()), record: Arc::clone(&record) }.run());
    for _ in 0..PULLERS {
        let (mirror, random) = (Client::with_authorities(&front, &[]), StdRng::seed_from_u64(seeds.random()));
        clients.spawn(Puller { mirror, random, record: Arc::clone(&record) }.run());
    }
    let mut deeds = BTreeMap::<Deed, u32>::new();
    while record.pulls().done < wanted || deeds.len() < DEEDS.len() {
        let mut order = DEEDS;
        order.shuffle(&mut random);
        for deed in order {
            let before = Duration::from_millis(random.random_range(BEFORE_MS));
            if let Ok(Some(Err(panicked))) = timeout(before, clients.join_next()).await {
                std::panic::resume_unwind(panicked.into_panic());
            }
            world.happens(deed, &record, &mut random).await;
            *deeds.entry(deed).or_default() += 1;
        }
        assert_none_failed(&record);
    }
    record.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
    }
    say(&format!("{deeds:?}: {}", record.summary()));
    assert_none_failed(&record);
    assert_same(&mut world).await;
}

fn assert_none_failed(record: &Record) {
    let failures = record.pulls().failures.join("\n");
    assert!(failures.is_empty(), "no client's own retries make this good:\n{failures}");
}

/// When everything is there again, each replica of the mirror has what home has.
async fn assert_same(world: &mut World) {
    for tag in TAGS {
        let at_home = world.home.replicas[0].client().manifest(REPOSITORY, tag).await.status(200).body;
        for replica in &world.mirror.replicas {
            until_tag(&replica.client(), REPOSITORY, tag, &at_home).await;
        }
    }
    world.home.replicas.iter_mut().chain(&mut world.mirror.replicas).for_each(Roadstead::assert_unharmed);
}

/// Waits until a replica of the mirror lists a tag, which it does when all of it has come.
async fn until_whole(mirror: &Client, tag: &str, image: &Image) {
    let is_listed = async || mirror.tags(REPOSITORY).await.iter().any(|listed| listed == tag).then_some(());
    until("the tag is whole", PATIENCE, is_listed).await;
    mirror.pull_image(REPOSITORY, tag, image).await;
}
