//! Applying an entry of the log: the only code that changes facts.
//!
//! Pure but for the rows of one transaction: no clock, no randomness, no other I/O. An operation checks everything
//! before it writes anything, so a refused one has changed nothing.

mod aside;
mod blob;
mod collect;
mod history;
mod key;
mod manifest;
mod mirror;
mod node;
mod quarantine;
mod region;
mod upload;

pub(crate) use node::FIRST_NODE;

use roadstead_oci::RepositoryName;

use super::keyspace::{CHANGES, CONSENSUS, DEDUP, DEDUP_BY_AGE, HEAD, REPOSITORIES};
use super::rows::{ChangeRow, DedupRow, Head, RepositoryRow};
use super::table::WriteRows;
use crate::{ChangeKind, Command, CommandId, Envelope, Levels, LogTime, Outcome, Position, QueryError};

/// How long the result of a command is kept: a client, a proxy and a retry together give up much earlier.
pub(crate) const DEDUP_KEPT_MS: u64 = 15 * 60 * 1000;

/// How many outdated results one entry drops at most: more than the one it adds, so that the rows stay bounded by the
/// rate of 15 minutes, and few, so that no entry is slow.
const DEDUP_DROPPED_PER_ENTRY: usize = 4;

/// How many changes the feed keeps: an hour at 28 changes a second, in about 20 MB. Whoever is further behind
/// resynchronises from a snapshot.
pub(crate) const CHANGES_KEPT: u64 = 100_000;

/// Why an operation did not end well.
enum Halt<R> {
    /// By its own rules.
    Refused(R),
    /// The rows could not be read or written.
    Failed(QueryError),
}

impl<R> From<QueryError> for Halt<R> {
    fn from(error: QueryError) -> Self {
        Self::Failed(error)
    }
}

/// A refused operation, unless `holds`.
fn require<R>(holds: bool, refused: R) -> Result<(), Halt<R>> {
    if holds { Ok(()) } else { Err(Halt::Refused(refused)) }
}

fn settle<D, R>(result: Result<D, Halt<R>>) -> Result<Result<D, R>, QueryError> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(Halt::Refused(refused)) => Ok(Err(refused)),
        Err(Halt::Failed(error)) => Err(error),
    }
}

/// The rows while entries are being applied to them.
pub(crate) struct Apply<'txn> {
    rows: WriteRows<'txn>,
    head: Head,
}

impl<'txn> Apply<'txn> {
    pub(in crate::state) fn new(rows: WriteRows<'txn>) -> Result<Self, QueryError> {
        let head = rows.get(HEAD, ())?.unwrap_or_default();
        Ok(Self { rows, head })
    }

    /// Writes what was kept aside for the whole transaction.
    pub(in crate::state) fn finish(mut self) -> Result<(), QueryError> {
        self.rows.put(HEAD, (), &self.head)
    }

    /// The state's time.
    pub(crate) fn time(&self) -> LogTime {
        self.head.time
    }

    /// The newest change.
    pub(crate) fn position(&self) -> Position {
        self.head.position
    }

    /// Keeps what the consensus knows of itself.
    pub(crate) fn put_consensus(&mut self, consensus: &Vec<u8>) -> Result<(), QueryError> {
        self.rows.put(CONSENSUS, (), consensus)
    }

    /// Applies an entry, if this build reads it and what it comes to.
    pub(crate) fn apply_read_by(&mut self, levels: Levels, envelope: Envelope) -> Result<Outcome, QueryError> {
        levels.check((levels.since)(&envelope.command))?;
        let may_rise = matches!(envelope.command, Command::AnnounceLevel(_));
        let outcome = self.apply(envelope)?;
        if may_rise {
            levels.check(self.level()?)?;
        }
        Ok(outcome)
    }

    /// Applies an entry, or finds that it was applied already.
    pub(crate) fn apply(&mut self, envelope: Envelope) -> Result<Outcome, QueryError> {
        self.head.time = self.head.time.max(envelope.at);
        if let Some(known) = self.rows.get(DEDUP, &envelope.id)? {
            return Ok(known.outcome);
        }
        let outcome = match self.fenced(&envelope.command)? {
            Some(fenced) => Outcome::FenceRegion(Err(fenced)),
            None => self.decide(envelope.command)?,
        };
        self.remember(envelope.id, &outcome)?;
        Ok(outcome)
    }

    fn decide(&mut self, command: Command) -> Result<Outcome, QueryError> {
        Ok(match command {
            Command::ReserveKeys(operation) => Outcome::ReserveKeys(settle(self.reserve_keys(operation))?),
            Command::OpenUpload(operation) => Outcome::OpenUpload(settle(self.open_upload(operation))?),
            Command::ClaimUpload(operation) => Outcome::ClaimUpload(settle(self.claim_upload(&operation))?),
            Command::BeginMultipart(operation) => Outcome::BeginMultipart(settle(self.begin_multipart(operation))?),
            Command::CheckpointUpload(operation) => {
                Outcome::CheckpointUpload(settle(self.checkpoint_upload(operation))?)
            }
            Command::ShowParts(operation) => Outcome::ShowParts(settle(self.show_parts(operation))?),
            Command::BeginCompletion(operation) => Outcome::BeginCompletion(settle(self.begin_completion(operation))?),
            Command::FinishUpload(operation) => Outcome::FinishUpload(settle(self.finish_upload(&operation))?),
            Command::LinkBlob(operation) => Outcome::LinkBlob(settle(self.link_blob(&operation))?),
            Command::CancelUpload(operation) => Outcome::CancelUpload(settle(self.cancel_upload(&operation))?),
            Command::ExpireUploads(operation) => Outcome::ExpireUploads(settle(self.expire_uploads(&operation))?),
            Command::CondemnKeys(operation) => Outcome::CondemnKeys(settle(self.condemn_keys(operation))?),
            Command::ForgetKeys(operation) => Outcome::ForgetKeys(settle(self.forget_keys(operation))?),
            Command::MountBlob(operation) => Outcome::MountBlob(settle(self.mount_blob(operation))?),
            Command::UnlinkBlob(operation) => Outcome::UnlinkBlob(settle(self.unlink_blob(operation))?),
            Command::PutManifest(operation) => Outcome::PutManifest(settle(self.put_manifest(operation))?),
            Command::TagManifest(operation) => Outcome::TagManifest(settle(self.tag_manifest(operation))?),
            Command::DeleteManifest(operation) => Outcome::DeleteManifest(settle(self.delete_manifest(operation))?),
            Command::DeleteTag(operation) => Outcome::DeleteTag(settle(self.delete_tag(operation))?),
            Command::TouchBlob(operation) => Outcome::TouchBlob(settle(self.touch_blob(operation))?),
            Command::SetQuarantine(operation) => Outcome::SetQuarantine(settle(self.set_quarantine(operation))?),
            Command::CollectBlobs(operation) => Outcome::CollectBlobs(settle(self.collect_blobs(&operation))?),
            Command::NameFirstVolume(operation) => {
                Outcome::NameFirstVolume(settle(self.name_first_volume(&operation))?)
            }
            Command::AllocateNode(operation) => Outcome::AllocateNode(settle(self.allocate_node(&operation))?),
            Command::BeginHistory(operation) => Outcome::BeginHistory(settle(self.begin_history(&operation))?),
            Command::AnnounceLevel(operation) => Outcome::AnnounceLevel(settle(self.announce_level(&operation))?),
            Command::ReceiveChanges(operation) => Outcome::ReceiveChanges(settle(self.receive_changes(operation))?),
            Command::ReceiveChosen(operation) => Outcome::ReceiveChosen(settle(self.receive_chosen(operation))?),
            Command::ReceiveSnapshot(operation) => Outcome::ReceiveSnapshot(settle(self.receive_snapshot(operation))?),
            Command::ResolveManifest(operation) => Outcome::ResolveManifest(settle(self.resolve_manifest(operation))?),
            Command::ForsakeBlob(operation) => Outcome::ForsakeBlob(settle(self.forsake_blob(&operation))?),
            Command::AdvanceInbox(operation) => Outcome::AdvanceInbox(settle(self.advance_inbox(&operation))?),
            Command::AdmitMirror(operation) => Outcome::AdmitMirror(settle(self.admit_mirror(operation))?),
            Command::DismissMirror(operation) => Outcome::DismissMirror(settle(self.dismiss_mirror(&operation))?),
            Command::MendManifest(operation) => Outcome::MendManifest(settle(self.mend_manifest(operation))?),
            Command::LandBlob(operation) => Outcome::LandBlob(settle(self.land_blob(&operation))?),
            Command::AdmitWriter(operation) => Outcome::AdmitWriter(settle(self.admit_writer(operation))?),
            Command::FenceRegion(operation) => Outcome::FenceRegion(settle(self.fence_region(operation))?),
            Command::KeepAside(operation) => Outcome::KeepAside(settle(self.keep_aside(operation))?),
            Command::DismissAside(operation) => Outcome::DismissAside(settle(self.dismiss_aside(operation))?),
            Command::NoteRemote(operation) => Outcome::NoteRemote(settle(self.note_remote(&operation))?),
            Command::HandOverRegion(operation) => Outcome::HandOverRegion(settle(self.hand_over_region(operation))?),
            Command::PromoteRegion(operation) => Outcome::PromoteRegion(settle(self.promote_region(operation))?),
        })
    }

    /// The state's time, which never goes back.
    pub(crate) fn now(&self) -> LogTime {
        self.head.time
    }

    /// Adds a change to the feed and drops the one that is one too many.
    fn feed(&mut self, kind: ChangeKind) -> Result<(), QueryError> {
        let position = &mut self.head.position;
        position.sequence += 1;
        let position = *position;
        self.rows.put(CHANGES, &position, &ChangeRow { at: self.head.time, kind })?;
        if let Some(sequence) = position.sequence.checked_sub(CHANGES_KEPT) {
            self.rows.remove(CHANGES, &Position { sequence, ..position })?;
        }
        Ok(())
    }

    /// Changes a repository's counts; a repository without any does not exist.
    fn count(
        &mut self,
        repository: &RepositoryName,
        change: impl FnOnce(&mut RepositoryRow),
    ) -> Result<(), QueryError> {
        let mut row = self.rows.get(REPOSITORIES, repository)?.unwrap_or_default();
        change(&mut row);
        if row == RepositoryRow::default() {
            self.rows.remove(REPOSITORIES, repository)
        } else {
            self.rows.put(REPOSITORIES, repository, &row)
        }
    }

    fn remember(&mut self, id: CommandId, outcome: &Outcome) -> Result<(), QueryError> {
        let at = self.now();
        self.rows.put(DEDUP, &id, &DedupRow { at, outcome: outcome.clone() })?;
        self.rows.put(DEDUP_BY_AGE, (&at, &id), &())?;
        let since = LogTime(at.0.saturating_sub(DEDUP_KEPT_MS));
        if self.head.dedup_since >= since {
            return Ok(()); // nothing can be older: most entries stop here
        }
        let outdated = DEDUP_BY_AGE.all().before(DEDUP_BY_AGE.start_at(&since));
        let outdated = self.rows.keys(DEDUP_BY_AGE, outdated, DEDUP_DROPPED_PER_ENTRY)?;
        if outdated.len() < DEDUP_DROPPED_PER_ENTRY {
            self.head.dedup_since = since;
        }
        for (at, id) in outdated {
            self.rows.remove(DEDUP, &id)?;
            self.rows.remove(DEDUP_BY_AGE, (&at, &id))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
