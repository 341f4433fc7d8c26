//! A mirror: what its tasks and its pulls share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use roadstead_domain::Registry;
use roadstead_metadata::{Position, Role};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ahead::Ahead;
use crate::calendar::Calendar;
use crate::choose::Lacked;
use crate::contact::Contact;
use crate::fetch::Fetches;
use crate::filter::Filter;
use crate::home::{Home, HomeError, Siblings};
use crate::limits::{MAX_PASSED_ON, STUCK_NOTED};
use crate::link::Link;
use crate::promote::Attempt;
use crate::ship::Ships;

/// How a mirror behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where blobs are on their way through. Emptied by the system when the process ends.
    pub spool: PathBuf,
    /// Bytes of that disk that stay free.
    pub disk_reserve: u64,
    /// How much of the link to home may be used, in bytes a second; any number, without.
    pub link_rate: Option<u64>,
    /// When large blobs are copied ahead.
    pub calendar: Calendar,
    /// What of home is followed.
    pub filter: Filter,
}

/// A registry that follows another one. What its tasks do is in the files beside this one: `follow`, `watch`, `move_blobs`
/// and `resolve` do not end by themselves and are to be run by whoever supervises tasks.
pub struct Mirror {
    pub(crate) registry: Arc<Registry>,
    pub(crate) home: Arc<dyn Home>,
    pub(crate) siblings: Option<Arc<dyn Siblings>>,
    pub(crate) contact: Contact,
    pub(crate) fetches: Fetches,
    pub(crate) ahead: Ahead,
    pub(crate) link: Link,
    pub(crate) calendar: Calendar,
    pub(crate) filter: Filter,
    /// The other direction of the link.
    pub(crate) way_home: Arc<Link>,
    pub(crate) ships: Ships,
    /// Carries fetches, which outlive the pulls that began them.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the process ends: what is on its way is left in order.
    ending: CancellationToken,
    /// When nothing was known to be missing last.
    caught_up: Mutex<Option<Instant>>,
    /// What waited in vain last, and when that was noted.
    stuck: Mutex<Option<(Instant, String)>>,
    /// For how many more questions of its own mirrors its home may be asked.
    pub(crate) passing_on: Semaphore,
    /// What is followed and was not at home yet.
    pub(crate) lacked: Lacked,
    /// Whether home does not say what refers to a manifest.
    pub(crate) lists_no_referrers: AtomicBool,
    /// The newest change of its own feed, whose epoch a promotion raises.
    newest: watch::Receiver<Position>,
    /// The epoch of its own feed when this began.
    begun_in: u64,
    /// Had by whoever promotes it.
    pub(crate) promoting: tokio::sync::Mutex<()>,
    /// How far that is, and why the one before came to nothing.
    pub(crate) attempt: Mutex<Attempt>,
}

impl Mirror {
    /// The mirror of `home`, which has other replicas if there are `siblings`.
    pub fn new(
        registry: Arc<Registry>,
        home: Arc<dyn Home>,
        siblings: Option<Arc<dyn Siblings>>,
        options: Options,
    ) -> Arc<Self> {
        let newest = registry.metadata().subscribe();
        let begun_in = newest.borrow().epoch;
        Arc::new(Self {
            newest,
            begun_in,
            promoting: tokio::sync::Mutex::default(),
            attempt: Mutex::default(),
            registry,
            home,
            siblings,
            contact: Contact::new(),
            ahead: Ahead::new(),
            link: Link::new(options.link_rate),
            way_home: Arc::new(Link::new(options.link_rate)),
            calendar: options.calendar.clone(),
            filter: options.filter.clone(),
            ships: Ships::default(),
            fetches: Fetches::new(options),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            caught_up: Mutex::new(None),
            stuck: Mutex::new(None),
            passing_on: Semaphore::new(MAX_PASSED_ON),
            lacked: Lacked::default(),
            lists_no_referrers: AtomicBool::new(false),
        })
    }

    /// What people call its home: its URL.
    pub fn home(&self) -> &str {
        self.home.name()
    }

    /// Why somebody has to look at the connection to home, if somebody has to.
    pub fn problem(&self) -> Option<String> {
        self.contact.problem()
    }

    /// Whether home is of an earlier release, that does not say what refers to a manifest: a mirror of a part copies with an
    /// image only what is put there after it.
    pub fn lists_no_referrers(&self) -> bool {
        self.lists_no_referrers.load(Ordering::Relaxed)
    }

    /// Ends what is on its way, and waits until it is left in order.
    pub async fn end(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How many blobs are on their way.
    pub fn fetching(&self) -> usize {
        self.fetches.count()
    }

    pub(crate) fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Whether it is no mirror any more, since it was promoted: then nothing is followed, and pulls are a home's.
    pub fn is_over(&self) -> bool {
        self.newest.borrow().epoch != self.begun_in
    }

    /// Whether this replica brings things for all.
    pub fn leads(&self) -> bool {
        !self.is_over() && self.registry.metadata().status().role == Role::Leader
    }

    /// Whether large blobs are copied ahead at this time: while a promotion waits for them too, since then nobody can push.
    pub(crate) fn copies_ahead(&self) -> bool {
        let is_awaited = self.attempt.lock().awaits.is_some();
        is_awaited || self.calendar.0.is_empty() || self.calendar.is_open(self.registry.log_time())
    }

    /// Notes whether everything is received of which is known.
    pub(crate) fn note_caught_up(&self) {
        let Some(seen) = self.contact.seen() else { return };
        let received = self.registry.metadata().query().and_then(|query| query.following());
        if let Ok(Some(following)) = received
            && following.position >= seen.newest
            && !following.comparing
        {
            *self.caught_up.lock() = Some(Instant::now());
        }
    }

    /// How long ago everything was received of which was known then.
    pub(crate) fn caught_up(&self) -> Option<Duration> {
        self.caught_up.lock().map(|at| at.elapsed())
    }

    /// Notes that the first change of some inbox waits for what will not come.
    pub(crate) fn note_stuck(&self, why: &str) {
        *self.stuck.lock() = Some((Instant::now(), why.to_owned()));
    }

    /// What waits in vain, if something does; told once.
    pub(crate) fn take_stuck(&self) -> Option<String> {
        let noted = self.stuck.lock().take();
        noted.filter(|(at, _)| at.elapsed() < STUCK_NOTED).map(|(_, why)| why)
    }

    /// Notes why home is not heard of any more, if somebody has to look.
    pub(crate) fn note_silence(&self, error: &HomeError) {
        match error {
            HomeError::Refused(why) => self.contact.refused(why),
            HomeError::NotServed => self.contact.refused(&error.to_string()),
            // It is away when nothing was heard for a while.
            HomeError::Away(_) | HomeError::Unknown { .. } | HomeError::Resynchronise(_) => {}
        }
    }
}
