//! Clients, who do what docker, containerd and skopeo do, and ask again as they do.
//!
//! ```text
//! client --late, lost, broken off--> a verb of any replica's registry --late, lost--> client --> history
//! ```

mod images;
mod mirror_pushes;
mod mirrors;
mod pulls;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use roadstead_blobs::BlobError;
use roadstead_domain::Fault;
use roadstead_metadata::ProposeError;
use roadstead_oci::RepositoryName;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::history::{Held, History};
use crate::random::Random;
use crate::universe::{SCRATCH, Universe};
use crate::world::cluster::Cluster;
use crate::world::network::pause;
use crate::world::replica::{GRACE, Serving};

/// How often a client tries again, each time with another replica: above what an election takes.
const ATTEMPTS: usize = 10;

/// What an answer within the product's own deadlines may take on top of them, with the slowest disks and networks that a
/// world has: seconds of them are stalls, which are not counted.
const SLACK: Duration = Duration::from_secs(2);

/// By how much the log's time may be ahead of twice the time that has passed.
const AHEAD: Duration = Duration::from_secs(50);

/// What became of a request.
pub(crate) enum Asked<T> {
    Answered(T),
    /// It was certainly not heard.
    Refused,
    /// It may have been heard.
    Lost,
}

/// What a failed request says of its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Unknown,
}

/// One client.
pub(crate) struct Client {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) universe: Arc<Universe>,
    pub(crate) history: Arc<History>,
    pub(crate) random: Random,
    pub(crate) number: usize,
    /// How many answers of a thousand get lost.
    pub(crate) loses: usize,
}

impl Client {
    /// Does one thing after the other until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let until = self.random.time(Duration::from_millis(1), Duration::from_millis(400));
            pause(until).await;
            let repository = self.random.below(SCRATCH);
            let blob = self.random.below(self.universe.blobs.len());
            match self.random.below(36) {
                0..12 => self.read_tag(repository).await,
                12..17 => self.push_image(repository).await,
                17..23 => self.retag(repository).await,
                23 => self.delete_tag(repository).await,
                24 => self.delete_manifest(repository).await,
                25..28 => self.pull(repository).await,
                28 => self.push_wrongly(repository).await,
                29 => self.give_up(repository).await,
                30 => self.delete_blob((SCRATCH, blob)).await,
                31 | 32 => drop(self.push_blob((SCRATCH, blob)).await),
                _ => drop(self.push_blob((repository, blob)).await),
            }
        }
    }

    pub(crate) fn repository(&self, repository: usize) -> &RepositoryName {
        &self.universe.repositories[repository]
    }

    /// Any replica, if it is there.
    async fn somebody(&mut self) -> Option<Serving> {
        let replicas = self.cluster.replicas();
        let serving = self.random.pick(&replicas).serving();
        let serving = serving.filter(|serving| !serving.process.is_dead());
        if serving.is_none() {
            pause(Duration::from_millis(100)).await;
        }
        serving
    }

    /// Before it tries again.
    async fn back_off(&mut self) {
        let time = self.random.time(Duration::from_millis(100), Duration::from_secs(2));
        pause(time).await;
    }

    /// Sends a request and waits for its answer. `within` is how long the product says that it takes at most.
    pub(crate) async fn ask<T>(
        &mut self,
        what: &str,
        serving: &Serving,
        within: Option<Duration>,
        verb: BoxFuture<'_, T>,
    ) -> Asked<T> {
        let process = &serving.process;
        let [there, back] = [(); 2].map(|()| self.random.time(Duration::from_micros(200), Duration::from_millis(5)));
        let loses_answer = self.random.permille(self.loses);
        let patience = self.patience();
        pause(there).await;
        if process.pass().await.is_err() {
            return Asked::Refused;
        }
        let (stalls, began) = (process.stalls(), Instant::now());
        let verb = process.unless_dead(verb);
        let answer = match patience {
            Some(patience) => timeout(patience, verb).await.ok(),
            None => Some(verb.await),
        };
        let took = began.elapsed();
        if let Some(within) = within
            && took > within + SLACK
            && stalls == process.stalls()
            && matches!(answer, Some(Ok(_)))
        {
            let name = &process.name;
            self.cluster.violated(format!("P6: {what} took {took:?} at {name}, and may take {within:?}"));
        }
        let arrives = process.pass().await.is_ok() && !loses_answer;
        pause(back).await;
        match answer {
            Some(Ok(answer)) if arrives => {
                self.cluster.trace.note(format_args!("client {} is answered by {}: {what}", self.number, process.name));
                Asked::Answered(answer)
            }
            _ => {
                self.cluster
                    .trace
                    .note(format_args!("client {} hears nothing of {}: {what}", self.number, process.name));
                self.history.count(|tally| &mut tally.lost_answers);
                Asked::Lost
            }
        }
    }

    /// After how long it goes away, if it does not wait: at once, or as a proxy in between would.
    fn patience(&mut self) -> Option<Duration> {
        if self.random.permille(self.loses) {
            return Some(self.random.time(Duration::from_millis(1), Duration::from_millis(400)));
        }
        let is_impatient = self.random.chance(3);
        is_impatient.then(|| self.random.time(Duration::from_secs(1), Duration::from_secs(6)))
    }

    /// What a failure says, if it may be at all.
    pub(crate) fn failed(&self, what: &str, fault: &Fault, time_before: Duration) -> Effect {
        let slept = self.cluster.time.since(time_before) > GRACE;
        match fault {
            Fault::Propose(ProposeError::NotDone(_) | ProposeError::NotYet { .. } | ProposeError::Fenced(_))
            | Fault::Read(_)
            | Fault::Leaderless
            | Fault::Blobs(BlobError::Unavailable(_)) => {}
            Fault::Propose(ProposeError::Unknown(_)) => {
                self.history.count(|tally| &mut tally.unavailable);
                return Effect::Unknown;
            }
            // Hours passed in the middle of the request: what it was about may have been collected.
            Fault::Blobs(_) | Fault::Inconsistent(_) if slept => {}
            Fault::Query(_) | Fault::Blobs(_) | Fault::Inconsistent(_) => {
                self.cluster.violated(format!("P4: {what} failed for good: {fault}"));
            }
        }
        self.history.count(|tally| &mut tally.unavailable);
        Effect::None
    }

    /// Takes down that a blob was said to be there.
    pub(crate) fn told(&self, held: Held) {
        // Half a grace is promised, and of the log's time at least half really passes, but for what replicas may be ahead.
        let until = self.cluster.time.passed() + (GRACE / 4).saturating_sub(AHEAD);
        self.history.with(|records| {
            let promised = records.promised.entry(held).or_insert(until);
            *promised = (*promised).max(until);
        });
    }
}
