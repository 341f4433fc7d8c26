//! Clients that write down what they ask and what they are told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::register::{Answer, Call, Operation, State, Value, is_linearizable};
use crate::harness::{Client, MEDIA_TYPE_IMAGE, Reply, Request, sha256, until};

const REPOSITORY: &str = "team/app";
const SET: &str = "team/set";

/// Tags that are in use at once: few, so that clients meet on them.
const TAGS: usize = 3;

/// Operations that are begun on a tag before another takes its place: some partitions' worth, of which an order is found
/// quickly.
const BEGUN_ON_A_TAG: usize = 460;

/// Longer than the registry lets a request wait. One that takes longer is given up, and may be done or not.
const PATIENCE: Duration = Duration::from_secs(9);

/// The common memory of all clients; they run on one thread.
pub(super) struct Recorder {
    replicas: Vec<Client>,
    config: Vec<u8>,
    pages: RefCell<Pages>,
}

#[derive(Default)]
struct Pages {
    tags: Vec<Page>,
    /// Which of them clients meet on.
    in_use: [usize; TAGS],
    /// Every manifest of this run by its digest.
    values: BTreeMap<String, Value>,
    next_value: Value,
    set: BTreeSet<String>,
    next_of_set: u32,
    counts: BTreeMap<String, u32>,
    wrong: Vec<String>,
}

/// What happened to a tag.
#[derive(Default)]
struct Page {
    history: Vec<Operation>,
    begun: usize,
    /// What somebody saw last, to swap it.
    seen: State,
}

impl Recorder {
    /// Pushes what the manifests need.
    pub(super) async fn prepare(replicas: Vec<Client>) -> Self {
        let config = json!({"architecture": "amd64", "os": "linux"}).to_string().into_bytes();
        for repository in [REPOSITORY, SET] {
            replicas[0].push_blob(repository, &config).await;
        }
        let tags = (0..TAGS).map(|_| Page::default()).collect();
        let pages = Pages { tags, in_use: std::array::from_fn(|place| place), ..Pages::default() };
        Self { replicas, config, pages: RefCell::new(pages) }
    }

    /// One client, which asks for anything until `end`: mostly one replica, so that those that wait at one that is cut off
    /// are not all of them.
    pub(super) async fn run(&self, mut random: StdRng, home: usize, end: Instant) {
        while Instant::now() < end {
            let strays = random.random_bool(0.2);
            let replica = if strays { random.random_range(0..self.replicas.len()) } else { home % self.replicas.len() };
            let client = &self.replicas[replica];
            match random.random_range(0..10) {
                0 => self.add(client).await,
                1 => self.list(client).await,
                _ => self.operate(client, &mut random).await,
            }
        }
    }

    async fn operate(&self, client: &Client, random: &mut StdRng) {
        let (at, call) = self.choose(random);
        let called = Instant::now();
        let reply = self.send(self.request(client, at, call)).await;
        let answered = Instant::now();
        let stale = reply.as_ref().is_some_and(|reply| reply.header("registry-stale").is_some());
        let answer = reply.and_then(|reply| self.understand(call, &reply));
        let mut pages = self.pages.borrow_mut();
        let name = match (call, answer) {
            (Call::Read, _) if stale => "stale read".to_owned(),
            (_, Some(Answer::Shown(_))) => "read shown".to_owned(),
            (_, Some(Answer::Done)) => format!("{} done", name(call)),
            (_, Some(Answer::Refused)) => format!("{} refused", name(call)),
            (_, None) => format!("{} unknown", name(call)),
        };
        *pages.counts.entry(name).or_default() += 1;
        let page = &mut pages.tags[at];
        if let Some(Answer::Shown(state)) = answer {
            page.seen = state;
        }
        let says_something = call != Call::Read || (answer.is_some() && !stale);
        if says_something {
            page.history.push(Operation { call, called, answer: answer.map(|answer| (answer, answered)) });
        }
    }

    /// One of the tags in use, and something to do with it.
    fn choose(&self, random: &mut StdRng) -> (usize, Call) {
        let mut pages = self.pages.borrow_mut();
        let place = random.random_range(0..TAGS);
        if pages.tags[pages.in_use[place]].begun == BEGUN_ON_A_TAG {
            pages.in_use[place] = pages.tags.len();
            pages.tags.push(Page::default());
        }
        let at = pages.in_use[place];
        pages.tags[at].begun += 1;
        let seen = pages.tags[at].seen;
        let call = match (random.random_range(0..20), seen) {
            (0..9, _) => Call::Read,
            (9..13, Some(from)) => Call::Swap { from, to: self.new_value(&mut pages) },
            (13, _) => Call::Create(self.new_value(&mut pages)),
            (14, _) => Call::Update(self.new_value(&mut pages)),
            (15, _) => Call::Delete,
            // A manifest that is there already is put again.
            (16, Some(held)) => Call::Write(held),
            _ => Call::Write(self.new_value(&mut pages)),
        };
        (at, call)
    }

    fn new_value(&self, pages: &mut Pages) -> Value {
        let value = pages.next_value;
        pages.next_value += 1;
        pages.values.insert(sha256(&self.manifest(value)), value);
        value
    }

    fn manifest(&self, value: Value) -> Vec<u8> {
        let config = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(&self.config),
            "size": self.config.len(),
        });
        json!({
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_IMAGE,
            "config": config,
            "layers": [],
            "annotations": {"value": value.to_string()},
        })
        .to_string()
        .into_bytes()
    }

    fn request(&self, client: &Client, at: usize, call: Call) -> Request {
        let target = format!("/v2/{REPOSITORY}/manifests/t{at}");
        let put =
            |value: Value| client.put(&target).header("content-type", MEDIA_TYPE_IMAGE).body(self.manifest(value));
        match call {
            Call::Read => client.get(&target),
            Call::Write(value) => put(value),
            Call::Create(value) => put(value).header("if-none-match", "*"),
            Call::Update(value) => put(value).header("if-match", "*"),
            Call::Swap { from, to } => put(to).header("if-match", &format!("\"{}\"", sha256(&self.manifest(from)))),
            Call::Delete => client.delete(&target),
        }
    }

    /// `None`: no answer, whatever became of the request.
    async fn send(&self, request: Request) -> Option<Reply> {
        timeout(PATIENCE, request.try_send()).await.ok()?.ok()
    }

    /// What an answer says; `None` if that is nothing.
    fn understand(&self, call: Call, reply: &Reply) -> Option<Answer> {
        match (call, reply.status) {
            (_, 503) => None,
            (Call::Read, 200) => {
                let shown = self.pages.borrow().values.get(&sha256(&reply.body)).copied();
                if shown.is_none() {
                    self.wrong(format!("a tag shows {:?}, which nobody pushed", reply.body));
                }
                Some(Answer::Shown(shown))
            }
            (Call::Read, 404) => Some(Answer::Shown(None)),
            (Call::Delete, 202) | (Call::Write(_) | Call::Create(_) | Call::Update(_) | Call::Swap { .. }, 201) => {
                Some(Answer::Done)
            }
            (Call::Delete, 404) | (Call::Create(_) | Call::Update(_) | Call::Swap { .. }, 412) => Some(Answer::Refused),
            _ => {
                self.wrong(format!("{call:?} is answered {} {:?}", reply.status, reply.body));
                None
            }
        }
    }

    fn wrong(&self, what: String) {
        self.pages.borrow_mut().wrong.push(what);
    }

    /// Adds a tag to the set.
    async fn add(&self, client: &Client) {
        let (tag, value) = {
            let mut pages = self.pages.borrow_mut();
            pages.next_of_set += 1;
            (format!("s{}", pages.next_of_set), self.new_value(&mut pages))
        };
        let put = client.put(&format!("/v2/{SET}/manifests/{tag}")).header("content-type", MEDIA_TYPE_IMAGE);
        let reply = self.send(put.body(self.manifest(value))).await;
        let mut pages = self.pages.borrow_mut();
        match reply.map(|reply| reply.status) {
            Some(201) => {
                pages.set.insert(tag);
                *pages.counts.entry("set: added".to_owned()).or_default() += 1;
            }
            None | Some(503) => *pages.counts.entry("set: unknown".to_owned()).or_default() += 1,
            Some(status) => pages.wrong.push(format!("{tag} is answered {status}")),
        }
    }

    /// Lists the set, which must show what was acknowledged before, unless it says that it may be stale.
    async fn list(&self, client: &Client) {
        let acknowledged = self.pages.borrow().set.clone();
        let Some((listed, stale)) = self.listing(client).await else { return };
        let name = if stale { "set: stale listing" } else { "set: listed" };
        *self.pages.borrow_mut().counts.entry(name.to_owned()).or_default() += 1;
        let missing: Vec<_> = acknowledged.difference(&listed).collect();
        if !stale && !missing.is_empty() {
            self.wrong(format!("a listing lacks {missing:?}, which were acknowledged before it began"));
        }
    }

    /// All tags of the set, and whether one of its pages says that it may be stale; `None` without an answer.
    async fn listing(&self, client: &Client) -> Option<(BTreeSet<String>, bool)> {
        let (mut listed, mut stale) = (BTreeSet::new(), false);
        let mut last = String::new();
        loop {
            let reply = self.send(client.get(&format!("/v2/{SET}/tags/list?n=500{last}"))).await?;
            stale |= reply.header("registry-stale").is_some();
            match reply.status {
                200 => {}
                // The repository has no tags yet.
                404 => return Some((listed, stale)),
                503 => return None,
                status => {
                    self.wrong(format!("a listing is answered {status}"));
                    return None;
                }
            }
            let page = reply.json();
            let page: Vec<&str> =
                page["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str()).collect();
            let Some(end) = page.last() else { return Some((listed, stale)) };
            last = format!("&last={end}");
            listed.extend(page.into_iter().map(str::to_owned));
        }
    }

    pub(super) fn summary(&self) -> String {
        let Pages { tags, set, counts, .. } = &*self.pages.borrow();
        let operations: usize = tags.iter().map(|page| page.history.len()).sum();
        let mut told = format!("{operations} operations on {} tags; a set of {}\n", tags.len(), set.len());
        for (name, count) in counts {
            let _ = writeln!(told, "  {name}: {count}");
        }
        told
    }

    /// How often something was seen, by its name in the summary.
    pub(super) fn count(&self, name: &str) -> u32 {
        self.pages.borrow().counts.get(name).copied().unwrap_or_default()
    }

    /// Fails unless every tag's history can be told as one story.
    #[track_caller]
    pub(super) fn assert_linearizable(&self) {
        let Pages { tags, wrong, .. } = &*self.pages.borrow();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for (at, page) in tags.iter().enumerate() {
            assert!(
                is_linearizable(&page.history),
                "the history of t{at} is not linearizable:\n{}",
                told(&page.history)
            );
        }
    }

    /// Fails unless a replica lists all of the set, and does so without a reservation.
    pub(super) async fn assert_all_listed_by(&self, client: &Client) {
        let listed = until("a replica that has a leader lists the set", Duration::from_mins(1), async || {
            let (listed, stale) = self.listing(client).await?;
            (!stale).then_some(listed)
        })
        .await;
        let missing: Vec<_> = self.pages.borrow().set.difference(&listed).cloned().collect();
        assert!(missing.is_empty(), "{} does not list {missing:?}", client.base());
    }
}

fn name(call: Call) -> &'static str {
    match call {
        Call::Read => "read",
        Call::Write(_) => "write",
        Call::Create(_) => "create",
        Call::Update(_) => "update",
        Call::Swap { .. } => "swap",
        Call::Delete => "delete",
    }
}

/// A history in the order of its calls, in milliseconds from the first one.
fn told(history: &[Operation]) -> String {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.called);
    let start = history.first().map(|operation| operation.called);
    let millis = |at: Instant| start.map_or(0, |start| (at - start).as_millis());
    let line = |operation: &Operation| {
        let Operation { call, called, answer } = operation;
        let answer = answer.map(|(answer, at)| format!("{answer:?} at {}", millis(at)));
        format!("{:>6} {call:?} -> {}", millis(*called), answer.unwrap_or("unknown".to_owned()))
    };
    history.iter().map(line).collect::<Vec<_>>().join("\n")
}
