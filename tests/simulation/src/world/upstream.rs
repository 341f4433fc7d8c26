//! What makes a region a mirror: whom it follows and by which way, and the tasks that do it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use parking_lot::Mutex;
use roadstead_domain::Registry;
use roadstead_geo::{Calendar, Filter, Home, Mirror, Options, Siblings};
use roadstead_metadata::ClusterId;
use roadstead_oci::Digest;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::home::SimulatedHome;
use super::process::Process;
use super::siblings::SimulatedSiblings;
use super::wan::Wan;

/// What a mirror follows of its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Everything,
    /// One repository, and of that one tag, if there is one: by their numbers.
    Of(usize, Option<usize>),
}

/// A mirror's home, and what came of asking it.
pub(crate) struct Upstream {
    /// The mirror's name.
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) home: Arc<Cluster>,
    pub(crate) wan: Wan,
    /// How many changes home's feed reaches back for this mirror.
    pub(crate) kept: u64,
    pub(crate) part: Part,
    pub(crate) filter: Filter,
    /// How often all that home has was asked for.
    pub(crate) snapshots: AtomicU64,
    /// Bytes of each blob that came, and those that came of what was here already.
    pub(crate) brought: Mutex<BTreeMap<Digest, u64>>,
    pub(crate) needless: AtomicU64,
    /// The last change that was ever sent: for the bug.
    pub(super) handed_over: AtomicU64,
}

impl Upstream {
    pub(crate) fn new(number: u64, home: &Arc<Cluster>, wan: Wan, kept: u64, part: Part, filter: Filter) -> Arc<Self> {
        Arc::new(Self {
            name: format!("m{number}"),
            number,
            home: Arc::clone(home),
            wan,
            kept,
            part,
            filter,
            snapshots: AtomicU64::new(0),
            brought: Mutex::default(),
            needless: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
        })
    }

    /// What the mirror's cluster is called.
    pub(super) fn mirror_id(&self) -> ClusterId {
        ClusterId(u128::from(100 + self.number))
    }
}

/// The mirror that a process is, if its region is one.
pub(super) fn follow(cluster: &Arc<Cluster>, process: &Arc<Process>, registry: &Arc<Registry>) -> Option<Arc<Mirror>> {
    let upstream = cluster.upstream.as_ref()?;
    let home = SimulatedHome::new(upstream, process, registry.metadata());
    let siblings = SimulatedSiblings::new(cluster, process, registry.metadata());
    // Files without names, of what is on its way.
    let spool = std::env::temp_dir().join("roadstead-simulation");
    let (calendar, filter) = (Calendar::default(), upstream.filter.clone());
    let options = Options { spool, disk_reserve: 0, link_rate: None, calendar, filter };
    let (home, siblings): (Arc<dyn Home>, Arc<dyn Siblings>) = (Arc::new(home), Arc::new(siblings));
    Some(Mirror::new(Arc::clone(registry), home, Some(siblings), options))
}

/// Does what the server's tasks of a mirror do.
pub(super) fn run(mirror: Arc<Mirror>) -> BoxFuture<'static, ()> {
    let stop = CancellationToken::new();
    let tasks = [
        Arc::clone(&mirror).follow(stop.clone()).boxed(),
        Arc::clone(&mirror).watch(stop.clone()).boxed(),
        Arc::clone(&mirror).move_blobs(stop.clone()).boxed(),
        Arc::clone(&mirror).report(stop.clone()).boxed(),
        mirror.resolve(stop).boxed(),
    ];
    join_all(tasks).map(drop).boxed()
}
