//! Following home's feed, on the replica that leads.
//!
//! ```text
//!  cursor (a fact) --feed after it--> line by line: received in one entry with the cursor --> published when whole
//!                      |                                                   '-- NotNext: somebody else has, or it was us
//!                      '-- trimmed, or another history: compare with home anew
//! ```

use std::sync::Arc;

use futures_util::StreamExt as _;
use roadstead_domain::{Fault, ReceivedManifestError};
use roadstead_metadata::{
    ChangeKind, ClusterId, ManifestContent, Position, PutManifest, ReceiveChangesRefused, ReceiveChosen,
    ReceivedChange, Region, Standing,
};
use tokio::time::{Duration, Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::choose::Chosen;
use crate::compare::SpoolError;
use crate::home::{HomeError, Lines};
use crate::limits::{ANSWER_PATIENCE, FIRST_PAUSE, LONGEST_PAUSE, LOOK, MAX_WAITING, SILENCE};
use crate::mirror::Mirror;
use crate::region::{EpochClaim, Judgement, WireRegion, judge};
use crate::wire::{FeedLine, WireChange, WireManifest};

/// Why following stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// Home failed, or is away.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// This registry failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Home's snapshot does not fit here.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Another replica goes on with it.
    #[error("another replica of this mirror compares it with home")]
    Superseded,
    /// Home sent what cannot be kept.
    #[error(transparent)]
    Manifest(#[from] ReceivedManifestError),
}

/// Growing pauses.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// It went well: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }

    pub(crate) async fn wait(&mut self, stop: &CancellationToken) {
        // Either way it is time to look again.
        let _ = timeout(self.0, stop.cancelled()).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

impl Mirror {
    /// Follows home until `stop`, while this replica leads.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut pauses = Pauses::new();
        let mut failing = false;
        while !stop.is_cancelled() {
            if !self.leads() {
                let _ = timeout(LOOK, stop.cancelled()).await;
                continue;
            }
            let mut received = false;
            let followed = tokio::select! {
                () = stop.cancelled() => return,
                followed = self.follow_once(&mut received) => followed,
            };
            if received {
                pauses.reset();
                failing = false;
            }
            match followed {
                Ok(()) => {}
                Err(FollowError::Home(HomeError::Resynchronise(why))) => {
                    warn!(home = self.home(), reason = %why, "comparing with home anew: {why}");
                    if let Err(error) = self.compare(&stop).await {
                        warn!(home = self.home(), reason = %error, "the comparison broke off and is made again: {error}");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(home = self.home(), reason = %error, "home's changes do not come: {error}");
                    }
                }
            }
            pauses.wait(&stop).await;
        }
    }

    /// One connection, for as long as it holds and this replica leads.
    async fn follow_once(self: &Arc<Self>, received: &mut bool) -> Result<(), FollowError> {
        let following = self.registry.metadata().query().map_err(Fault::from)?.following().map_err(Fault::from)?;
        if following.is_some_and(|following| following.comparing) {
            return Err(HomeError::Resynchronise("an earlier comparison did not end".to_owned()).into());
        }
        if following.is_none() && self.has_own_content()? {
            return Err(HomeError::Resynchronise("this region was home itself".to_owned()).into());
        }
        let chosen_by = self.registry.metadata().query().and_then(|query| query.chosen_by()).map_err(Fault::from)?;
        if following.is_some() && chosen_by != self.filter.hash() {
            return Err(HomeError::Resynchronise("what is here was chosen by another filter".to_owned()).into());
        }
        self.lacked.clear();
        let mut cursor = following.map(|following| following.position).unwrap_or_default();
        let mut lines = in_time(self.home.feed(cursor)).await?;
        info!(home = self.home(), after = cursor.sequence, "following home from change {} on", cursor.sequence);
        while self.leads() {
            let line = next(&mut lines).await?;
            self.heed(&line).await?;
            self.contact.heard(&line);
            *received = true;
            // Before what became of them is wanted.
            if let Some(uploads) = &line.uploads {
                self.hear_of_uploads(line.home.0, uploads);
            }
            if !line.changes.is_empty() {
                let Some(after) = self.receive(cursor, line).await? else { return Ok(()) };
                cursor = after;
                self.until_room().await?;
            }
            self.note_caught_up();
        }
        Ok(())
    }

    /// Looks at who is home, as a line says it; an error if this one is not to be followed.
    async fn heed(&self, line: &FeedLine) -> Result<(), FollowError> {
        let following = self.registry.metadata().query().map_err(Fault::from)?.following().map_err(Fault::from)?;
        let Some(following) = following else { return Ok(()) };
        let known = self.registry.region()?;
        let said = match line.region {
            Some(said) => said,
            None if known.epoch.number == 1 && following.home == line.home.0 => return Ok(()),
            None => in_time(self.home.region()).await?.region,
        };
        self.obey(&known, line.home.0, &said).await?;
        if following.home == line.home.0 {
            return Ok(());
        }
        Err(HomeError::Resynchronise("it is another cluster than this mirror has followed".to_owned()).into())
    }

    /// Remembers what the upstream says of who is home; an error if it is not to be followed.
    pub(crate) async fn obey(&self, known: &Region, upstream: ClusterId, said: &WireRegion) -> Result<(), FollowError> {
        let followed = self.registry.metadata().query().map_err(Fault::from)?.following().map_err(Fault::from)?;
        let followed = followed.map(|following| following.home);
        let claim = said.claim();
        match judge(known, followed, upstream, said) {
            Judgement::Follow => {}
            Judgement::Learn(EpochClaim { epoch, origin }) => {
                info!(epoch = epoch.number, "cluster {:032x} is home in epoch {}", epoch.home.0, epoch.number);
                // Somebody else may have told of it meanwhile; and a mirror that has nothing yet is of no line.
                let _known = self.registry.fence_region(epoch, origin).await?;
            }
            Judgement::Lower => {
                return Err(HomeError::Refused(format!(
                    "the upstream is of epoch {}, and cluster {:032x} is home since, in epoch {}: set `upstream` to it",
                    claim.epoch.number, known.epoch.home.0, known.epoch.number
                ))
                .into());
            }
            Judgement::Fenced => {
                return Err(HomeError::Refused(format!(
                    "the upstream is not home any more: cluster {:032x} is, in epoch {}. Set `upstream` to it",
                    claim.epoch.home.0, claim.epoch.number
                ))
                .into());
            }
        }
        let own = self.registry.metadata().identity().cluster;
        let notice = (said.standing == Standing::Fenced && claim.epoch.home != own).then(|| {
            format!(
                "home has been handed over to cluster {:032x}, in epoch {}: set `upstream` to it",
                claim.epoch.home.0, claim.epoch.number
            )
        });
        self.contact.note(notice);
        Ok(())
    }

    /// Takes in a line; where the cursor is then, or `None` if it was not where it was believed to be.
    async fn receive(&self, cursor: Position, line: FeedLine) -> Result<Option<Position>, FollowError> {
        let home = line.home.0;
        let last = line.changes.last().map_or(cursor, |change| change.position);
        match self.filter.hash() {
            None => {
                let mut changes = Vec::with_capacity(line.changes.len());
                for change in line.changes {
                    changes.push(self.received(change).await?);
                }
                let received = self.registry.receive_changes(home, cursor, changes).await?;
                has_moved(cursor, last, received)
            }
            Some(filter) => {
                let (mut chosen, mut after) = (Chosen::default(), cursor);
                for change in line.changes {
                    let until = change.position;
                    self.choose(change, &mut chosen).await?;
                    // What a change brings with it may be more than the line was.
                    if until == last || chosen.is_full() {
                        let changes = chosen.take();
                        let received = ReceiveChosen { home, filter, after, until, changes };
                        let received = self.registry.receive_chosen(received).await?;
                        let Some(at) = has_moved(after, until, received)? else { return Ok(None) };
                        after = at;
                        self.until_room().await?;
                    }
                }
                Ok(Some(after))
            }
        }
    }

    /// A change as it is received: with its manifest verified, if home has sent that along.
    pub(crate) async fn received(&self, change: WireChange) -> Result<ReceivedChange, FollowError> {
        let WireChange { position, at, kind } = change;
        let (kind, manifest) = kind.into_change();
        let manifest = match (&kind, manifest) {
            (ChangeKind::ManifestPut { repository, digest, tags }, Some(WireManifest { media_type, text })) => {
                let received =
                    self.registry.received_manifest(repository, *digest, &media_type, tags.clone(), text.into()).await;
                // What cannot be kept as it came is asked for when its turn comes: it may have been damaged on the way.
                match received {
                    Ok(manifest) if is_inline(&manifest) => Some(manifest),
                    Ok(_) => None,
                    Err(error @ ReceivedManifestError::Unfit { .. }) => {
                        warn!(reason = %error, "{error}");
                        None
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            _ => None,
        };
        Ok(ReceivedChange { position, at, kind, manifest })
    }

    /// Waits while too much waits here already. If that waits for what will not come before more is read, as for a blob
    /// that home has deleted since, or for what home cannot give, there will be no room: then a comparison has to make it,
    /// which leaves in the inbox what differs, and no more.
    pub(crate) async fn until_room(&self) -> Result<(), FollowError> {
        let mut applied = self.registry.metadata().subscribe_applied();
        loop {
            applied.borrow_and_update();
            let following = self.registry.metadata().query().map_err(Fault::from)?.following().map_err(Fault::from)?;
            if following.is_none_or(|following| following.waiting < MAX_WAITING) {
                return Ok(());
            }
            if let Some(why) = self.take_stuck() {
                return Err(HomeError::Resynchronise(format!("the inbox is full, and {why}")).into());
            }
            if !self.leads() {
                return Ok(());
            }
            let _ = timeout(LOOK, applied.changed()).await;
        }
    }

    /// Hears how far home is, until `stop`: on every replica, since each may be asked for what is not here.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut pauses = Pauses::new();
        while !stop.is_cancelled() {
            if self.is_over() {
                let _ = timeout(LOOK, stop.cancelled()).await;
                continue;
            }
            let watched = tokio::select! {
                () = stop.cancelled() => return,
                watched = self.watch_once(&mut pauses) => watched,
            };
            self.note_silence(&watched);
            debug!(home = self.home(), reason = %watched, "home is not heard of: {watched}");
            pauses.wait(&stop).await;
        }
    }

    async fn watch_once(&self, pauses: &mut Pauses) -> HomeError {
        let mut lines = match in_time(self.home.watermarks()).await {
            Ok(lines) => lines,
            Err(error) => return error,
        };
        loop {
            match next(&mut lines).await {
                Ok(line) => {
                    self.contact.heard(&line);
                    self.note_caught_up();
                    pauses.reset();
                    if self.is_over() {
                        return HomeError::Away("it is not followed any more: this region is home".to_owned());
                    }
                }
                Err(error) => return error,
            }
        }
    }
}

/// Where the cursor is after what was received, or `None` if it was not where it was believed to be.
fn has_moved<T>(
    believed: Position,
    until: Position,
    received: Result<T, ReceiveChangesRefused>,
) -> Result<Option<Position>, FollowError> {
    match received {
        Ok(_advanced) => Ok(Some(until)),
        Err(ReceiveChangesRefused::NotNext { cursor: actual }) => {
            debug!(believed = believed.sequence, actual = actual.sequence, "the cursor has moved meanwhile");
            Ok(None)
        }
        Err(refused @ ReceiveChangesRefused::Gap { .. }) => {
            Err(HomeError::Refused(format!("home's feed is not whole: {refused}")).into())
        }
        Err(ReceiveChangesRefused::OtherHome { .. }) => {
            Err(HomeError::Resynchronise("it is another cluster than this mirror has followed".to_owned()).into())
        }
        Err(refused @ ReceiveChangesRefused::OtherFilter) => Err(HomeError::Resynchronise(refused.to_string()).into()),
    }
}

fn is_inline(manifest: &PutManifest) -> bool {
    matches!(manifest.content, ManifestContent::Inline(_))
}

/// What home answers, if it begins to in time.
pub(crate) async fn in_time<T>(asking: impl Future<Output = Result<T, HomeError>>) -> Result<T, HomeError> {
    match timeout(ANSWER_PATIENCE, asking).await {
        Ok(answered) => answered,
        Err(_elapsed) => Err(HomeError::Away(format!("no answer within {} s", ANSWER_PATIENCE.as_secs()))),
    }
}

/// The next line, of which one comes each second.
async fn next(lines: &mut Lines<FeedLine>) -> Result<FeedLine, HomeError> {
    match timeout_at(Instant::now() + SILENCE, lines.next()).await {
        Ok(Some(line)) => line,
        Ok(None) => Err(HomeError::Away("it ended the feed".to_owned())),
        Err(_elapsed) => Err(HomeError::Away(format!("it said nothing for {} s", SILENCE.as_secs()))),
    }
}
