//! Promotion: a mirror becomes the home.
//!
//! ```text
//!  home is there:  near? --handover--> home takes nothing any more: its last change --caught up--> ended there --> home
//!  home is away:   forced: what was received and is whole becomes the home's; the rest stays with the one that was
//! ```

use std::fmt;
use std::sync::Arc;

use roadstead_domain::Fault;
use roadstead_metadata::{
    Change, MemberChange, Position, PromoteRegionRefused, Promotion, Region, RegionEpoch, Standing,
};
use tokio::time::{Duration, Instant, timeout};
use tracing::{info, warn};

use crate::follow::in_time;
use crate::home::HomeError;
use crate::lag::Lag;
use crate::limits::{CATCH_UP_PATIENCE, LOOK, MAX_NOT_WHOLE, NEAR_BYTES, NEAR_CHANGES, NEAR_PATIENCE};
use crate::mirror::Mirror;
use crate::region::HandoverRequest;
use crate::wire::HomeId;

/// What a promotion would come to, if it were forced now. A handover loses nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// What this region is.
    pub region: Region,
    /// The epoch that would begin.
    pub epoch: RegionEpoch,
    /// How far behind home this mirror is: what would be lost, and of how long.
    pub lag: Lag,
    /// Manifests that were received and are not whole, the oldest first, at most [`MAX_NOT_WHOLE`].
    pub not_whole: Vec<Change>,
    /// The promotion that is under way, or was without success.
    pub attempt: Attempt,
}

/// How far a promotion is: whoever had it begun may have ceased to wait for it. Kept by the replica that does it, until it
/// restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// With force or without, and in which epoch at least.
    asked: Option<(bool, Option<u64>)>,
    /// What the one that is under way waits for.
    pub awaits: Option<Awaits>,
    /// Why the one before came to nothing, if the same was asked for then.
    pub failure: Option<Failure>,
}

/// What a promotion waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// That little is missing; home goes on taking pushes meanwhile.
    Nearness,
    /// That home stops, or ends its part.
    Home,
    /// Everything up to home's last change; nobody takes pushes meanwhile.
    Change(u64),
}

impl fmt::Display for Awaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearness => f.write_str("home goes on taking pushes until less is missing"),
            Self::Home => f.write_str("home is asked to hand over"),
            Self::Change(last) => {
                write!(f, "home takes no changes any more, and what is missing up to its change {last} is brought")
            }
        }
    }
}

/// Why a promotion came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kept it.
    pub obstacle: Obstacle,
    /// In words.
    pub why: String,
}

/// What keeps a mirror from being promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Home does not answer, or has stopped and what it has does not come: only force goes on without it.
    Home,
    /// It is too far behind.
    Distance,
    /// Another one is under way.
    Promotion,
    /// It is none that could be promoted, or is refused.
    Unfit,
    /// What the registry stands on fails.
    Fault,
}

/// A mirror that is home.
#[derive(Clone, Debug, PartialEq)]
pub struct Promoted {
    /// Its epoch.
    pub epoch: RegionEpoch,
    /// How it came to be.
    pub promotion: Promotion,
    /// Whether the home that was has handed over: then nothing is lost.
    pub handed_over: bool,
    /// How far behind it was when it was promoted, as far as was known.
    pub lag: Lag,
}

/// Why a mirror was not promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// Nothing was done: home cannot be asked to hand over.
    #[error("nothing was done: {home} does not answer, so it cannot hand over ({why})")]
    HomeAway {
        /// Home's URL.
        home: String,
        /// What was tried.
        why: String,
    },
    /// Nothing was done: it would take too long.
    #[error("nothing was done: the mirror is {changes} changes and {bytes} bytes behind, too far for a handover")]
    Behind {
        /// How far.
        changes: u64,
        /// Bytes of blobs.
        bytes: u64,
    },
    /// Home has handed over, and what it has did not come in time.
    #[error(
        "home takes no changes any more, and the mirror has not caught up with its change {last} within {} s: {changes} \
         changes and {bytes} bytes are missing",
        CATCH_UP_PATIENCE.as_secs()
    )]
    NotLevel {
        /// Home's last change.
        last: u64,
        /// How far it is.
        changes: u64,
        /// Bytes of blobs.
        bytes: u64,
    },
    /// Somebody has to look.
    #[error("{0}")]
    Refused(String),
    /// Another promotion is under way on this replica.
    #[error("a promotion is under way")]
    Busy,
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl PromoteError {
    /// What kept it.
    pub const fn obstacle(&self) -> Obstacle {
        match self {
            Self::HomeAway { .. } | Self::NotLevel { .. } => Obstacle::Home,
            Self::Behind { .. } => Obstacle::Distance,
            Self::Busy => Obstacle::Promotion,
            Self::Refused(_) => Obstacle::Unfit,
            Self::Fault(_) => Obstacle::Fault,
        }
    }
}

impl From<PromoteRegionRefused> for PromoteError {
    fn from(refused: PromoteRegionRefused) -> Self {
        Self::Refused(refused.to_string())
    }
}

impl Mirror {
    /// What a forced promotion would come to.
    pub fn outlook(&self) -> Result<Outlook, Fault> {
        let region = self.registry.region()?;
        let query = self.registry.metadata().query()?;
        let not_whole = query.waiting_manifests(MAX_NOT_WHOLE)?;
        let attempt = self.attempt.lock().clone();
        Ok(Outlook { region, epoch: self.next_epoch(&region, 0), lag: self.lag()?, not_whole, attempt })
    }

    /// Makes this mirror the home: by a handover, or if that is not to be had and `force` says so, without one. Goes on to
    /// its end when nobody waits for it any more. Its epoch is the next one, or `at_least` this one.
    pub async fn promote(self: &Arc<Self>, force: bool, at_least: Option<u64>) -> Result<Promoted, PromoteError> {
        let mirror = Arc::clone(self);
        let promoting = self.tasks.spawn(async move {
            let Ok(_alone) = mirror.promoting.try_lock() else { return Err(PromoteError::Busy) };
            let asked = Some((force, at_least));
            {
                // What kept another promotion says nothing of this one.
                let mut attempt = mirror.attempt.lock();
                if attempt.asked != asked {
                    *attempt = Attempt { asked, ..Attempt::default() };
                }
            }
            let promoted = mirror.promote_alone(force, at_least.unwrap_or_default()).await;
            let failure = promoted.as_ref().err();
            let failure = failure.map(|error| Failure { obstacle: error.obstacle(), why: error.to_string() });
            *mirror.attempt.lock() = Attempt { asked, awaits: None, failure };
            promoted
        });
        promoting.await.unwrap_or_else(|_| Err(PromoteError::Refused("the registry is being stopped".to_owned())))
    }

    async fn promote_alone(&self, force: bool, at_least: u64) -> Result<Promoted, PromoteError> {
        let region = self.registry.region()?;
        if region.standing != Standing::Mirror {
            let why = "this region is no mirror that has followed anybody: there is nothing to promote";
            return Err(PromoteError::Refused(why.to_owned()));
        }
        let chosen_by = self.registry.metadata().query().and_then(|query| query.chosen_by()).map_err(Fault::from)?;
        let part = if !self.filter.is_everything() {
            Some(
                "this mirror follows a part of its home, and what its filter leaves out would be lost: take \
                 `upstream-filter` and `upstream-platform` out of its settings and promote it when it is level, or use \
                 --force",
            )
        } else if chosen_by.is_some() {
            Some(
                "what this mirror has was chosen by a filter that is not set any more, and the rest would be lost: promote it \
                 when it has been compared with its home and is level, or use --force",
            )
        } else {
            None
        };
        if let Some(why) = part.filter(|_| !force) {
            return Err(PromoteError::Refused(why.to_owned()));
        }
        let lag = self.lag()?;
        let (epoch, last) = match self.hand_over(self.next_epoch(&region, at_least), part.is_some()).await {
            // What was left out home has alone, and keeps aside.
            Ok((epoch, last)) => (epoch, part.is_none().then_some(last)),
            Err(error) if force => {
                warn!(home = self.home(), reason = %error, "promoting without a handover: {error}");
                (self.epoch_without_handover(at_least).await?, None)
            }
            Err(error) => return Err(error),
        };
        let promotion = self.registry.promote_region(epoch, last).await??;
        info!(
            epoch = epoch.number,
            from_change = promotion.fork.sequence,
            "this region is home now, in epoch {}: all of {} up to change {} is here, {} changes behind it were given up",
            epoch.number,
            self.home(),
            promotion.fork.sequence,
            promotion.given_up
        );
        Ok(Promoted { epoch, promotion, handed_over: last.is_some(), lag })
    }

    /// An earlier attempt may have had its epoch announced already.
    fn next_epoch(&self, region: &Region, at_least: u64) -> RegionEpoch {
        let own = self.registry.metadata().identity().cluster;
        let next = if region.epoch.home == own { region.epoch } else { region.epoch.next(own) };
        RegionEpoch { number: next.number.max(at_least), ..next }
    }

    /// The epoch of a promotion without a handover: above all that home knows of, if it can be asked.
    async fn epoch_without_handover(&self, at_least: u64) -> Result<RegionEpoch, PromoteError> {
        if self.contact.is_there()
            && let Ok(report) = in_time(self.home.region()).await
        {
            // Whether it is to be followed is of no matter any more.
            let _learnt = self.obey(&self.registry.region()?, report.cluster.0, &report.region).await;
        }
        let epoch = self.next_epoch(&self.registry.region()?, at_least);
        if self.contact.is_there() {
            // It stands still from now on, and must not take that back.
            for ends in [false, true] {
                let _told = self.ask_to_hand_over(epoch, ends).await;
            }
        }
        Ok(epoch)
    }

    /// Lets home stop, catches up with it, and lets it end that; the epoch, and home's last change. `of_part`: of what a filter
    /// has chosen.
    async fn hand_over(&self, epoch: RegionEpoch, of_part: bool) -> Result<(RegionEpoch, Position), PromoteError> {
        if !self.contact.is_there() {
            let why = "it is not heard of".to_owned();
            return Err(PromoteError::HomeAway { home: self.home().to_owned(), why });
        }
        self.awaits(Awaits::Nearness);
        self.lead_outside_of_windows().await;
        self.until_near().await?;
        self.awaits(Awaits::Home);
        let last = self.ask_to_hand_over(epoch, false).await?;
        info!(home = self.home(), last = last.sequence, "home takes no changes any more: {}", last.sequence);
        self.awaits(Awaits::Change(last.sequence));
        self.until_level(last, of_part).await?;
        self.awaits(Awaits::Home);
        // Only now: until then, somebody may have home go on.
        self.ask_to_hand_over(epoch, true).await?;
        Ok((epoch, last))
    }

    /// Has this replica lead where it is not the time to copy large blobs ahead: who leads copies them all the same only while
    /// it knows of a promotion that waits for them, and others do not know of this one.
    async fn lead_outside_of_windows(&self) {
        if self.leads() || self.calendar.is_open(self.registry.log_time()) {
            return;
        }
        let metadata = self.registry.metadata();
        let change = MemberChange::TransferLeadership { to: metadata.identity().node };
        if let Err(refused) = metadata.change_members(change).await {
            warn!(reason = %refused, "large blobs may have to wait for their window, since another replica leads: {refused}");
        }
    }

    fn awaits(&self, awaits: Awaits) {
        self.attempt.lock().awaits = Some(awaits);
    }

    /// Has home take a step of the handover, of which its last change is told.
    async fn ask_to_hand_over(&self, epoch: RegionEpoch, ends: bool) -> Result<Position, PromoteError> {
        let away = |why: String| PromoteError::HomeAway { home: self.home().to_owned(), why };
        let origin = HomeId(self.registry.region()?.origin);
        let request = HandoverRequest { epoch: epoch.number, home: HomeId(epoch.home), origin, ends };
        match in_time(self.home.hand_over(request)).await {
            Ok(token) => Ok(token.last),
            Err(HomeError::Refused(why)) => Err(PromoteError::Refused(why)),
            Err(error @ HomeError::NotServed) => Err(PromoteError::Refused(error.to_string())),
            Err(error) => Err(away(error.to_string())),
        }
    }

    /// Home goes on until little is missing, so that it stands still for a moment only.
    async fn until_near(&self) -> Result<(), PromoteError> {
        let deadline = Instant::now() + NEAR_PATIENCE;
        loop {
            let lag = self.lag()?;
            if !lag.comparing && lag.changes <= NEAR_CHANGES && lag.bytes <= NEAR_BYTES {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PromoteError::Behind { changes: lag.changes, bytes: lag.bytes });
            }
            self.look_again().await;
        }
    }

    async fn until_level(&self, last: Position, of_part: bool) -> Result<(), PromoteError> {
        let deadline = Instant::now() + CATCH_UP_PATIENCE;
        loop {
            let query = self.registry.metadata().query().map_err(Fault::from)?;
            let following = query.following().map_err(Fault::from)?;
            // Another replica may have been started with a filter meanwhile.
            let is_all = of_part || query.chosen_by().map_err(Fault::from)?.is_none();
            drop(query);
            let is_level = is_all
                && following.is_some_and(|following| {
                    !following.comparing
                        && following.position == last
                        && following.waiting == 0
                        && following.wanted_blobs == 0
                });
            if is_level {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let lag = self.lag()?;
                return Err(PromoteError::NotLevel { last: last.sequence, changes: lag.changes, bytes: lag.bytes });
            }
            self.look_again().await;
        }
    }

    /// Waits until something was applied here, or a moment.
    async fn look_again(&self) {
        let mut applied = self.registry.metadata().subscribe_applied();
        applied.borrow_and_update();
        let _ = timeout(LOOK.min(Duration::from_millis(50)), applied.changed()).await;
    }
}
