//! What was attempted, what was acknowledged, what went wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::manner::{Manner, Trouble};
use crate::harness::{Client, sha256};

/// A request whose connection breaks this long after a kill was on its way when it came.
const BREAKS_WITHIN: Duration = Duration::from_secs(1);

/// Requests at once when everything is compared.
const COMPARING: usize = 8;

/// The ledger of one run, which all clients write and read.
#[derive(Default)]
pub(super) struct Book {
    pages: Mutex<Pages>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Pages {
    tags: Vec<TagEntry>,
    blobs: Vec<BlobEntry>,
    /// What the killer has done.
    deeds: Vec<(Instant, Deed, String)>,
    pushes: BTreeMap<Manner, u32>,
    pulls: u32,
    stale_pulls: u32,
    /// What clients tried again, by client and trouble.
    absorbed: BTreeMap<String, u32>,
    /// Requests that the registry asked to come back with, and what had been done to it.
    turned_away: Vec<String>,
    /// Requests that were on their way to a process that was killed, of a kind that their client sends only once.
    cut: Vec<String>,
    /// What no client's retries made good.
    failures: Vec<String>,
}

/// What is done to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Kill,
    Restart,
    Stop,
    Wake,
}

/// A tag that one client moves from version to version.
struct TagEntry {
    repository: String,
    tag: String,
    versions: Vec<Version>,
}

struct Version {
    digest: String,
    acknowledged: bool,
}

impl TagEntry {
    /// The newest version that was acknowledged.
    fn floor(&self) -> Option<usize> {
        self.versions.iter().rposition(|version| version.acknowledged)
    }
}

/// A blob whose push was acknowledged.
#[derive(Clone)]
struct BlobEntry {
    repository: String,
    digest: String,
    length: usize,
}

/// A tag in the book.
#[derive(Clone)]
pub(super) struct TagAt {
    at: usize,
    pub(super) repository: String,
    pub(super) tag: String,
    /// The version that was acknowledged when this was looked up.
    floor: usize,
}

impl Book {
    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().expect("no client panics under this lock")
    }

    /// Tells the clients to begin nothing more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Notes that a version is going to be put under a tag.
    pub(super) fn attempt(&self, repository: &str, tag: &str, digest: &str) -> (usize, usize) {
        let mut pages = self.pages();
        let known = pages.tags.iter().position(|entry| entry.repository == repository && entry.tag == tag);
        let at = known.unwrap_or_else(|| {
            pages.tags.push(TagEntry { repository: repository.to_owned(), tag: tag.to_owned(), versions: Vec::new() });
            pages.tags.len() - 1
        });
        let versions = &mut pages.tags[at].versions;
        versions.push(Version { digest: digest.to_owned(), acknowledged: false });
        (at, versions.len() - 1)
    }

    pub(super) fn acknowledge(&self, (tag, version): (usize, usize), manner: Manner) {
        let mut pages = self.pages();
        pages.tags[tag].versions[version].acknowledged = true;
        *pages.pushes.entry(manner).or_default() += 1;
    }

    pub(super) fn acknowledge_blob(&self, repository: &str, digest: &str, length: usize) {
        let entry = BlobEntry { repository: repository.to_owned(), digest: digest.to_owned(), length };
        self.pages().blobs.push(entry);
    }

    /// A tag of which a version was acknowledged, mostly one of the newest.
    pub(super) fn some_tag(&self, random: &mut StdRng) -> Option<TagAt> {
        let pages = self.pages();
        let count = pages.tags.len();
        let back = random.random_range(0..20_usize);
        let at =
            if random.random_bool(0.7) { count.checked_sub(1 + back)? } else { random.random_range(0..count.max(1)) };
        let entry = pages.tags.get(at)?;
        let (repository, tag, floor) = (entry.repository.clone(), entry.tag.clone(), entry.floor()?);
        Some(TagAt { at, repository, tag, floor })
    }

    /// Whether a tag may show this manifest to whoever asked after the version that `tag` tells was acknowledged.
    pub(super) fn may_show(&self, tag: &TagAt, digest: &str, stale: bool) -> bool {
        let mut pages = self.pages();
        pages.stale_pulls += u32::from(stale);
        let floor = if stale { 0 } else { tag.floor };
        pages.tags[tag.at].versions[floor..].iter().any(|version| version.digest == digest)
    }

    pub(super) fn note_pull(&self) {
        self.pages().pulls += 1;
    }

    /// Notes what is done to which replica, before it is.
    pub(super) fn note_deed(&self, deed: Deed, to: String) {
        self.pages().deeds.push((Instant::now(), deed, to));
    }

    /// Notes trouble after which a client tries again.
    pub(super) fn note_absorbed(&self, who: &str, trouble: &Trouble) {
        let mut pages = self.pages();
        let what = match trouble {
            Trouble::Broken { .. } => format!("{who}: broken"),
            Trouble::Refused { status, .. } => {
                let before = pages.deeds.iter().rev().take(3);
                let before: Vec<_> = before
                    .map(|(at, deed, to)| format!("{deed:?} of {to} {} ms ago", at.elapsed().as_millis()))
                    .collect();
                pages.turned_away.push(format!("{who}: {trouble}; {}", before.join(", ")));
                format!("{who}: {status}")
            }
            Trouble::Wrong(_) => format!("{who}: wrong"),
        };
        *pages.absorbed.entry(what).or_default() += 1;
    }

    /// Notes that a client has given up: a failure, unless a request that it sends only once was on its way to a process
    /// that was killed.
    pub(super) fn note_given_up(&self, what: &str, sent_once: bool, trouble: &Trouble) {
        let mut pages = self.pages();
        let cut = match trouble {
            Trouble::Broken { since, timed_out: false, .. } => {
                let mut kills = pages.deeds.iter().filter(|(_, deed, _)| *deed == Deed::Kill);
                sent_once && kills.any(|(at, ..)| *at + BREAKS_WITHIN >= *since)
            }
            _ => false,
        };
        let told = format!("{what}: {trouble}");
        if cut { pages.cut.push(told) } else { pages.failures.push(told) }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.pages().pushes.values().copied().map(u64::from).sum()
    }

    #[track_caller]
    pub(super) fn assert_sound(&self) {
        let pages = self.pages();
        assert!(pages.failures.is_empty(), "no client's own retries make this good:\n{}", pages.failures.join("\n"));
    }

    pub(super) fn summary(&self) -> String {
        let Pages { tags, blobs, pushes, pulls, stale_pulls, absorbed, turned_away, cut, failures, .. } =
            &*self.pages();
        let bytes: usize = blobs.iter().map(|blob| blob.length).sum();
        let mut told = format!(
            "acknowledged: pushes {pushes:?}, {} tags, {} blobs of {} MiB; pulls {pulls}, {stale_pulls} of them stale\n\
             tried again: {absorbed:?}\nfailures: {}\ncut off in what its client sends only once: {}\n",
            tags.len(),
            blobs.len(),
            bytes >> 20,
            failures.len(),
            cut.len(),
        );
        for request in cut {
            let _ = writeln!(told, "  {request}");
        }
        let _ = writeln!(told, "asked to come back: {}", turned_away.len());
        for request in turned_away {
            let _ = writeln!(told, "  {request}");
        }
        told
    }

    /// Everything that was acknowledged is there, byte by byte, as `client` sees it; and every tag is listed.
    pub(super) async fn assert_shown_by(&self, client: &Client) {
        let (blobs, tags) = self.expected();
        let compared = stream::iter(&blobs).map(async |blob| {
            let reply = client.blob(&blob.repository, &blob.digest).await;
            let whole = reply.status == 200 && reply.body.len() == blob.length && sha256(&reply.body) == blob.digest;
            let BlobEntry { repository, digest, .. } = blob;
            assert!(whole, "{repository}@{digest} is answered {} with {} bytes", reply.status, reply.body.len());
        });
        compared.buffer_unordered(COMPARING).collect::<()>().await;
        let compared = stream::iter(&tags).map(async |tag| {
            let reply = client.manifest(&tag.repository, &tag.tag).await;
            let digest = sha256(&reply.body);
            let right = reply.status == 200 && self.may_show(tag, &digest, false);
            assert!(right, "{}:{} is answered {} with {digest}", tag.repository, tag.tag, reply.status);
        });
        compared.buffer_unordered(COMPARING).collect::<()>().await;
        self.assert_listed_by(client, &tags).await;
    }

    async fn assert_listed_by(&self, client: &Client, tags: &[TagAt]) {
        let mut listed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for TagAt { repository, tag, .. } in tags {
            if !listed.contains_key(repository.as_str()) {
                listed.insert(repository, all_tags(client, repository).await);
            }
            assert!(listed[repository.as_str()].contains(tag), "{repository} does not list {tag}");
        }
    }

    /// The blobs and tags that must be there.
    fn expected(&self) -> (Vec<BlobEntry>, Vec<TagAt>) {
        let pages = self.pages();
        let tags = pages.tags.iter().enumerate().filter_map(|(at, entry)| {
            let (repository, tag) = (entry.repository.clone(), entry.tag.clone());
            entry.floor().map(|floor| TagAt { at, repository, tag, floor })
        });
        (pages.blobs.clone(), tags.collect())
    }
}

/// All tags of a repository, page by page.
async fn all_tags(client: &Client, repository: &str) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    loop {
        let last = tags.last().map(|last| format!("&last={last}")).unwrap_or_default();
        let page = client.get(&format!("/v2/{repository}/tags/list?n=1000{last}")).send().await.status(200).json();
        let page = page["tags"].as_array().expect("a list of tags");
        if page.is_empty() {
            return tags;
        }
        tags.extend(page.iter().map(|tag| tag.as_str().expect("a tag").to_owned()));
    }
}
