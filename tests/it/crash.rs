//! `kill -9` at random moments during mixed pushes, against a ledger of what was acknowledged (P2, P4).
//!
//! ```text
//! round: pushers write down what they attempt, and what was acknowledged --> kill -9 --> restart --> compare
//! ```
//!
//! What was acknowledged is there and right; what was not is absent or whole; a session goes on at the exact offset
//! that it tells. `ROADSTEAD_CRASH_ROUNDS` says how many rounds, `ROADSTEAD_CRASH_SEED` which.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{
    Client, Image, MEDIA_TYPE_IMAGE, Reply, Roadstead, S3, S3Kind, Setup, Upload, alone, random_bytes, sha256,
};

/// Enough to hit every kind of moment in each run of the tests; a full run has a hundred.
const ROUNDS: u32 = 10;
const PUSHERS: u64 = 4;
const PART: usize = 5 << 20;

/// A blob, by which its bytes can be made again.
#[derive(Clone, Copy, Debug)]
struct Content {
    seed: u64,
    length: usize,
}

impl Content {
    fn bytes(self) -> Vec<u8> {
        random_bytes(self.seed, self.length)
    }
}

/// What is known of something after requests of which the last may not have been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Its push was acknowledged.
    There,
    /// Its push, or its deletion, was attempted.
    Unknown,
    /// Its deletion was acknowledged.
    Gone,
}

#[derive(Debug)]
struct BlobFact {
    repository: String,
    digest: String,
    length: usize,
    known: Known,
}

/// A tag that only one pusher moves: its value is the acknowledged one, or the attempted one.
#[derive(Debug)]
struct TagFact {
    repository: String,
    tag: String,
    acknowledged: Option<Image>,
    attempted: Option<Image>,
}

/// An upload session that is open.
#[derive(Debug)]
struct SessionFact {
    repository: String,
    location: String,
    content: Content,
    /// Bytes of which the client was told that they have arrived.
    acknowledged: usize,
    /// Bytes that may have arrived.
    attempted: usize,
    /// Whether the closing request was sent.
    closing: bool,
}

/// What one pusher has done in one round.
#[derive(Default, Debug)]
pub(crate) struct Ledger {
    blobs: Vec<BlobFact>,
    tags: Vec<TagFact>,
    sessions: Vec<SessionFact>,
}

/// The connection broke: the process is gone.
struct Broken;

struct Pusher {
    client: Client,
    random: StdRng,
    repository: String,
    ledger: Ledger,
}

impl Pusher {
    /// Pushes in every way, until the process is gone.
    async fn run(mut self) -> Ledger {
        loop {
            let choice = self.random.random_range(0..100);
            let step = match choice {
                0..25 => self.monolithic().await,
                25..50 => self.chunked().await,
                50..60 => self.single_post().await,
                60..85 => self.image().await,
                85..92 => self.delete_blob().await,
                _ => self.mount().await,
            };
            if step.is_err() {
                return self.ledger;
            }
        }
    }

    /// Mostly small, sometimes of several parts.
    fn content(&mut self) -> Content {
        let length = match self.random.random_range(0..10) {
            0 => self.random.random_range(PART - 2..2 * PART + 10_000),
            1..4 => self.random.random_range(50_000..PART / 2),
            _ => self.random.random_range(2..20_000),
        };
        Content { seed: self.random.random(), length }
    }

    async fn send(request: crate::harness::Request, expected: u16) -> Result<Reply, Broken> {
        // Any answer that is not the expected one is a failure of its own, crash or not.
        request.try_send().await.map(|reply| reply.status(expected)).map_err(|_| Broken)
    }

    fn attempt_blob(&mut self, digest: &str, length: usize) -> usize {
        let repository = self.repository.clone();
        self.ledger.blobs.push(BlobFact { repository, digest: digest.to_owned(), length, known: Known::Unknown });
        self.ledger.blobs.len() - 1
    }

    async fn begin(&mut self, content: Content) -> Result<usize, Broken> {
        let reply = Self::send(self.client.post(&format!("/v2/{}/blobs/uploads/", self.repository)), 202).await?;
        self.ledger.sessions.push(SessionFact {
            repository: self.repository.clone(),
            location: reply.location(),
            content,
            acknowledged: 0,
            attempted: 0,
            closing: false,
        });
        Ok(self.ledger.sessions.len() - 1)
    }

    fn upload(&self, session: usize) -> Upload {
        Upload { client: self.client.clone(), location: self.ledger.sessions[session].location.clone() }
    }

    async fn close(&mut self, session: usize, rest: Vec<u8>) -> Result<(), Broken> {
        let fact = &mut self.ledger.sessions[session];
        (fact.closing, fact.attempted) = (true, fact.content.length);
        let content = fact.content;
        let digest = sha256(&content.bytes());
        let blob = self.attempt_blob(&digest, content.length);
        let request = self.client.put(&self.upload(session).closing(&digest)).body(rest);
        Self::send(request, 201).await?;
        self.ledger.blobs[blob].known = Known::There;
        self.ledger.sessions.swap_remove(session);
        Ok(())
    }

    async fn monolithic(&mut self) -> Result<(), Broken> {
        let content = self.content();
        let session = self.begin(content).await?;
        self.close(session, content.bytes()).await
    }

    async fn single_post(&mut self) -> Result<(), Broken> {
        let content = self.content();
        let bytes = content.bytes();
        let digest = sha256(&bytes);
        let blob = self.attempt_blob(&digest, content.length);
        let target = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        Self::send(self.client.post(&target).body(bytes), 201).await?;
        self.ledger.blobs[blob].known = Known::There;
        Ok(())
    }

    /// In pieces, with or without a range; now and then the session is left open.
    async fn chunked(&mut self) -> Result<(), Broken> {
        let content = self.content();
        let bytes = content.bytes();
        let session = self.begin(content).await?;
        let mut at = 0;
        while at < bytes.len() {
            // Two bytes at least: `Range: 0-0` is said of one byte and of none.
            let end = (at + self.random.random_range(2..=bytes.len())).min(bytes.len());
            self.ledger.sessions[session].attempted = end;
            let mut request = self.client.patch(&self.ledger.sessions[session].location);
            if self.random.random_bool(0.7) {
                request = request.header("content-range", &format!("{at}-{}", end - 1));
            }
            let reply = Self::send(request.body(bytes[at..end].to_vec()), 202).await?;
            assert_eq!(reply.range_end(), end as u64, "the offset that is acknowledged");
            let fact = &mut self.ledger.sessions[session];
            (fact.acknowledged, fact.location) = (end, reply.location());
            at = end;
            if self.random.random_bool(0.1) {
                return Ok(());
            }
        }
        self.close(session, Vec::new()).await
    }

    async fn image(&mut self) -> Result<(), Broken> {
        let tag = format!("v{}", self.random.random_range(0..3));
        let image = Image::random(self.random.random_range(0..1 << 50), &[self.random.random_range(1..5_000)]);
        for blob in image.blobs() {
            let digest = sha256(blob);
            let fact = self.attempt_blob(&digest, blob.len());
            let target = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
            Self::send(self.client.post(&target).body(blob.clone()), 201).await?;
            self.ledger.blobs[fact].known = Known::There;
        }
        let fact = self.tag(&tag);
        self.ledger.tags[fact].attempted = Some(image.clone());
        let target = format!("/v2/{}/manifests/{tag}", self.repository);
        let request = self.client.put(&target).header("content-type", MEDIA_TYPE_IMAGE).body(image.manifest.clone());
        Self::send(request, 201).await?;
        let fact = &mut self.ledger.tags[fact];
        (fact.acknowledged, fact.attempted) = (Some(image), None);
        Ok(())
    }

    fn tag(&mut self, tag: &str) -> usize {
        let (repository, tag) = (self.repository.clone(), tag.to_owned());
        self.ledger.tags.iter().position(|fact| fact.tag == tag).unwrap_or_else(|| {
            self.ledger.tags.push(TagFact { repository, tag, acknowledged: None, attempted: None });
            self.ledger.tags.len() - 1
        })
    }

    async fn delete_blob(&mut self) -> Result<(), Broken> {
        // Not one that an image needs: those are small.
        let can_go =
            |fact: &BlobFact| fact.known == Known::There && fact.length > 10_000 && fact.repository == self.repository;
        let found = self.ledger.blobs.iter().position(can_go);
        let Some(at) = found else { return Ok(()) };
        self.ledger.blobs[at].known = Known::Unknown;
        let target = format!("/v2/{}/blobs/{}", self.repository, self.ledger.blobs[at].digest);
        Self::send(self.client.delete(&target), 202).await?;
        self.ledger.blobs[at].known = Known::Gone;
        Ok(())
    }

    /// Into a repository beside this one.
    async fn mount(&mut self) -> Result<(), Broken> {
        let here = |fact: &&BlobFact| fact.known == Known::There && fact.repository == self.repository;
        let found = self.ledger.blobs.iter().rfind(here);
        let Some((digest, length)) = found.map(|fact| (fact.digest.clone(), fact.length)) else { return Ok(()) };
        let beside = format!("{}-mounted", self.repository);
        let target = format!("/v2/{beside}/blobs/uploads/?mount={digest}&from={}", self.repository);
        let blob = self.attempt_blob(&digest, length);
        self.ledger.blobs[blob].repository = beside;
        Self::send(self.client.post(&target), 201).await?;
        self.ledger.blobs[blob].known = Known::There;
        Ok(())
    }
}

/// Starts pushers that go on until the process is gone.
pub(crate) fn push(registry: &Roadstead, random: &mut StdRng, round: u64) -> JoinSet<Ledger> {
    let mut pushers = JoinSet::new();
    for pusher in 0..PUSHERS {
        let (client, random) = (registry.client(), StdRng::seed_from_u64(random.random()));
        let repository = format!("crash/{round}-{pusher}");
        pushers.spawn(Pusher { client, random, repository, ledger: Ledger::default() }.run());
    }
    pushers
}

/// The pushers must go on for so long: they end by themselves only if one of them fails.
pub(crate) async fn let_them_push(pushers: &mut JoinSet<Ledger>, moment: Duration, registry: &Roadstead) {
    if let Ok(Some(ended)) = timeout(moment, pushers.join_next()).await {
        let ledger = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        panic!("a pusher ended before the process was killed: {ledger:?}\n{}", registry.log());
    }
}

async fn check_blob(client: &Client, fact: &BlobFact) {
    let reply = client.blob(&fact.repository, &fact.digest).await;
    let whole = reply.status == 200 && reply.body.len() == fact.length && sha256(&reply.body) == fact.digest;
    let absent = reply.status == 404;
    let right = match fact.known {
        Known::There => whole,
        Known::Unknown => whole || absent,
        Known::Gone => absent,
    };
    assert!(right, "{fact:?} is answered {} with {} bytes", reply.status, reply.body.len());
}

async fn check_tag(client: &Client, fact: &TagFact) {
    let reply = client.manifest(&fact.repository, &fact.tag).await;
    let possible = [&fact.acknowledged, &fact.attempted];
    let image = match reply.status {
        200 => possible.into_iter().flatten().find(|image| image.manifest == reply.body),
        404 if fact.acknowledged.is_none() => return,
        _ => None,
    };
    let image = image.unwrap_or_else(|| panic!("{}:{} is answered {reply:?}", fact.repository, fact.tag));
    client.pull_image(&fact.repository, &fact.tag, image).await;
}

/// The session tells an offset that can be, refuses every other one, and goes on at it.
async fn check_session(client: &Client, fact: &SessionFact) {
    let mut upload = Upload { client: client.clone(), location: fact.location.clone() };
    let bytes = fact.content.bytes();
    let digest = sha256(&bytes);
    let told = upload.progress().await;
    if fact.closing && told.status == 404 {
        // It was closed before the crash; the repeated request is answered like the first.
        upload.put(&digest, Vec::new()).await.status(201);
    } else {
        let told = told.status(204);
        let offset = usize::try_from(told.range_end()).expect("an offset");
        assert!((fact.acknowledged..=fact.attempted).contains(&offset), "{fact:?} tells {offset}");
        upload.location = told.location();
        let wrong = upload.chunk(offset + 1..offset + 2, vec![0]).await.status(416);
        assert_eq!(wrong.range_end(), offset as u64);
        if offset < bytes.len() {
            upload.chunk(offset..bytes.len(), bytes[offset..].to_vec()).await.status(202);
        }
        upload.put(&digest, Vec::new()).await.status(201);
    }
    let blob = client.blob(&fact.repository, &digest).await.status(200);
    assert!(blob.body == bytes, "{fact:?}: the resumed blob has other bytes");
}

async fn crash(mut registry: Roadstead) {
    let _alone = alone().await;
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let rounds = number("ROADSTEAD_CRASH_ROUNDS").unwrap_or(ROUNDS.into());
    let seed = number("ROADSTEAD_CRASH_SEED").unwrap_or_else(|| StdRng::from_os_rng().random_range(0..1 << 32));
    #[expect(clippy::print_stdout, reason = "it is what a failure is tried again with")]
    {
        println!("ROADSTEAD_CRASH_SEED={seed} ROADSTEAD_CRASH_ROUNDS={rounds}");
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut ledgers: Vec<Ledger> = Vec::new();
    for round in 0..rounds {
        let mut pushers = push(&registry, &mut random, round);
        let moment = Duration::from_millis(random.random_range(5..600));
        let_them_push(&mut pushers, moment, &registry).await;
        registry.kill();
        let ended = pushers.join_all().await;
        registry.restart().await;
        let client = registry.client();
        for ledger in &ended {
            check(&client, ledger).await;
        }
        ledgers.extend(ended);
    }
    check_at_the_end(&registry.client(), &ledgers, rounds).await;
    registry.assert_unharmed();
}

/// What survived its own round survives the later ones too.
pub(crate) async fn check_at_the_end(client: &Client, ledgers: &[Ledger], rounds: u64) {
    for ledger in ledgers {
        check_content(client, ledger).await;
    }
    let there = |ledger: &Ledger| ledger.blobs.iter().filter(|fact| fact.known == Known::There).count();
    let acknowledged: usize = ledgers.iter().map(there).sum();
    assert!(
        acknowledged as u64 >= rounds,
        "only {acknowledged} blobs were acknowledged: the pushers did next to nothing"
    );
}

async fn check_content(client: &Client, ledger: &Ledger) {
    for fact in &ledger.blobs {
        check_blob(client, fact).await;
    }
    for fact in &ledger.tags {
        check_tag(client, fact).await;
    }
}

/// Compares what is there with what was acknowledged, and finishes what is open.
pub(crate) async fn check(client: &Client, ledger: &Ledger) {
    check_content(client, ledger).await;
    for fact in &ledger.sessions {
        check_session(client, fact).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_what_was_acknowledged_survives_kill_9_on_the_filesystem() {
    crash(Setup::filesystem().flag("--part-size", "5MiB").start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_what_was_acknowledged_survives_kill_9_on_s3() {
    let s3 = S3::start(S3Kind::Minio).await;
    crash(Setup::s3(&s3).flag("--part-size", "5MiB").start().await).await;
}
