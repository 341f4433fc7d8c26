//! One operator acts at a time: the one that holds the Lease.
//!
//! Whoever holds it renews it; whoever does not watches whether its holder does, by its own clock alone. A holder that
//! could not renew for [`GIVE_UP`], which is less than others wait, ends its process: so no two go on acting, however wrong
//! their clocks are. A request that was on its way when its process was suspended may still arrive late. So what cannot be
//! undone names what it is meant for: pods and volumes are deleted by their uid, and members by their node's number, which
//! is nobody else's.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::ambient;

/// The Lease's name.
pub(crate) const NAME: &str = "roadstead-operator";

/// Others wait so long after the last renewal that they have seen.
const DURATION: Duration = Duration::from_secs(15);

/// The holder ends when it could not renew for so long.
const GIVE_UP: Duration = Duration::from_secs(10);

/// How often it is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the Lease is not held any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LostLease {
    /// Another one has it.
    #[error("another operator has taken the Lease over")]
    Taken,
    /// Nobody knows.
    #[error("the Lease could not be renewed for {} s: {why}", GIVE_UP.as_secs())]
    Stale {
        /// What the last attempt met.
        why: String,
    },
}

/// The Lease, for one operator.
pub(crate) struct Election {
    leases: Api<Lease>,
    identity: String,
}

/// What others' renewals look like from here.
struct Sighting {
    holder: String,
    renewed: Option<MicroTime>,
    seen: Instant,
}

impl Election {
    pub(crate) fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity }
    }

    /// Waits until this operator holds it.
    pub(crate) async fn acquire(&self) {
        let mut last: Option<Sighting> = None;
        let mut looks = interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match timeout(PATIENCE, self.try_acquire(&mut last)).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(reason = %error, "the Lease could not be looked at: {error}"),
                Err(_) => tracing::warn!("the Lease could not be looked at in {} s", PATIENCE.as_secs()),
            }
        }
    }

    async fn try_acquire(&self, last: &mut Option<Sighting>) -> Result<bool, kube::Error> {
        let Some(lease) = self.leases.get_opt(NAME).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.held(None)),
            };
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let is_same = last.as_ref().is_some_and(|last| last.holder == holder && last.renewed == spec.renew_time);
        if !is_same {
            *last = Some(Sighting { holder: holder.clone(), renewed: spec.renew_time.clone(), seen: Instant::now() });
        }
        let is_stale = last.as_ref().is_some_and(|last| last.seen.elapsed() >= DURATION);
        if !holder.is_empty() && holder != self.identity && !is_stale {
            return Ok(false);
        }
        let taken = Lease { spec: Some(self.held(Some(&spec))), ..lease };
        won(self.leases.replace(NAME, &PostParams::default(), &taken).await)
    }

    /// Renews it until it is lost, or until `stop`; then gives it back.
    pub(crate) async fn hold(&self, stop: CancellationToken) -> Result<(), LostLease> {
        let mut renewals = interval(PERIOD);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        let mut why = String::new();
        loop {
            tokio::select! {
                _ = renewals.tick() => {}
                () = stop.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
            }
            let patience = PATIENCE.min(GIVE_UP.saturating_sub(renewed.elapsed()));
            match timeout(patience, self.renew()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return Err(LostLease::Taken),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = format!("no answer in {} ms", patience.as_millis()),
            }
            if renewed.elapsed() >= GIVE_UP {
                return Err(LostLease::Stale { why });
            }
        }
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let lease = self.leases.get(NAME).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        let renewed = Lease { spec: Some(self.held(Some(&spec))), ..lease };
        won(self.leases.replace(NAME, &PostParams::default(), &renewed).await)
    }

    /// So that another one need not wait.
    async fn release(&self) {
        let released = async {
            let lease = self.leases.get(NAME).await?;
            let spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                let spec = LeaseSpec { holder_identity: Some(String::new()), ..spec };
                let released = Lease { spec: Some(spec), ..lease };
                self.leases.replace(NAME, &PostParams::default(), &released).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match timeout(PATIENCE, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(reason = %error, "the Lease was not given back: {error}"),
            Err(_) => tracing::warn!("the Lease was not given back in {} s", PATIENCE.as_secs()),
        }
    }

    fn held(&self, former: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::try_from(ambient::now()).unwrap_or_default());
        let kept = former.filter(|former| former.holder_identity.as_deref() == Some(&self.identity));
        let changes = former.and_then(|former| former.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: kept.map_or_else(|| Some(now.clone()), |kept| kept.acquire_time.clone()),
            renew_time: Some(now),
            lease_transitions: Some(if kept.is_some() || former.is_none() { changes } else { changes + 1 }),
            ..LeaseSpec::default()
        }
    }
}

/// Of two that write at once, the API server lets one.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
