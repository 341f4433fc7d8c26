//! Operations of a mirror, which follows another registry's change feed, and of the home that it follows.
//!
//! ```text
//!  home's feed --ReceiveChanges--> inbox of each repository, in home's order; the cursor moves in the same entry
//!                                    |   a change is published when its turn has come and all that it needs is here
//!  bytes ------LinkBlob, ...---------'   (the entry that links the last blob publishes what waited for it)
//! ```
//!
//! No command of a mirror names a time or a tag of its own: what is published, and in which order, follows from home's
//! feed and from what has arrived.

use roadstead_oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use super::{LogTime, PutManifest};
use crate::{ChangeKind, ClusterId, Position};

/// Counts what a mirror has received, from 1: the order in which a repository's changes are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Arrival(pub u64);

/// A change of home's feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedChange {
    /// Its place in home's feed.
    pub position: Position,
    /// When it was applied at home, by home's time.
    pub at: LogTime,
    /// What changed there.
    pub kind: ChangeKind,
    /// Of a manifest that was put: what is to be put here, where home sent its bytes along. Its tags are those of `kind`.
    pub manifest: Option<PutManifest>,
}

/// Takes in the changes that come right after the cursor, and moves the cursor behind the last of them. What they need
/// and is not here is wanted from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveChanges {
    /// The cluster whose feed this is. The first one that is received from is the mirror's home.
    pub home: ClusterId,
    /// Where the cursor is believed to be; before everything, where none was set.
    pub after: Position,
    /// In home's order, without gaps.
    pub changes: Vec<ReceivedChange>,
}

/// Takes in what a mirror with a filter follows of the changes that come right after the cursor, and moves the cursor behind
/// all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveChosen {
    /// The cluster whose feed this is. The first one that is received from is the mirror's home.
    pub home: ClusterId,
    /// What the filter hashes to: what was received before was chosen by the same one.
    pub filter: Digest,
    /// Where the cursor is believed to be; before everything, where none was set.
    pub after: Position,
    /// The last change that was looked at.
    pub until: Position,
    /// In home's order. Where a manifest was chosen, the blobs that it names come before it at its place.
    pub changes: Vec<ReceivedChange>,
}

/// One comparison of a mirror with its home, drawn by whoever begins it: only the newest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Comparison(pub u128);

/// Takes in what makes the mirror like home as it was at one moment, whatever the feed has lost since: changes that were
/// found by comparing the two. They are published like those of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveSnapshot {
    /// The cluster that is compared with: the mirror's home from then on.
    pub home: ClusterId,
    /// Which comparison this is of.
    pub comparison: Comparison,
    /// What is taken in.
    pub step: SnapshotStep,
}

/// The steps of a comparison, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotStep {
    /// It begins, before home is asked: so what home says is no older than all that was received before, and nothing
    /// else is received until it ends. Another one that has not ended is given up.
    Begins,
    /// What waits in the inbox is forgotten, since the comparison has it all; a part of it at a time, until there is no
    /// [`more`](Advanced::more). Nothing of it is published any more.
    Forgets,
    /// Changes in an order in which they can be published.
    Changes(Vec<ReceivedChange>),
    /// It ends, and the cursor goes to the place in the feed of that moment.
    Ends(Position),
    /// What is followed from here on is chosen by the filter that hashes to this; everything, without.
    Chooses(Option<Digest>),
}

/// Why [`ReceiveSnapshot`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReceiveSnapshotRefused {
    /// Somebody else has begun another one, or it has ended.
    #[error("this comparison does not go on: another one was begun, or it has ended")]
    Superseded,
    /// What waited before is not forgotten yet.
    #[error("what waited before the comparison is not forgotten yet")]
    NotForgotten,
    /// This region was home, and what it has acknowledged and the new one lacks is not [kept aside](crate::KeepAside) yet.
    #[error("what this region has acknowledged as home is not kept aside yet")]
    NotKeptAside,
}

/// What a command of a mirror came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Advanced {
    /// How many changes were published.
    pub published: u32,
    /// Whether more could be published at once than one entry may: [`AdvanceInbox`] goes on. Of what is forgotten, whether
    /// there is more than one entry may forget.
    pub more: bool,
}

/// Why [`ReceiveChanges`] or [`ReceiveChosen`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReceiveChangesRefused {
    /// The cursor is elsewhere: somebody else received, or the answer to an earlier attempt was lost.
    #[error("the cursor is at {cursor:?}")]
    NotNext {
        /// Where it is.
        cursor: Position,
    },
    /// The changes do not follow each other without gaps.
    #[error("the changes have a gap after {after:?}")]
    Gap {
        /// The last one before it.
        after: Position,
    },
    /// This registry mirrors another one, or is being compared with its home anew.
    #[error("this registry mirrors the cluster {home:?}, or has to be compared with it anew")]
    OtherHome {
        /// Its home.
        home: ClusterId,
    },
    /// What is here was chosen by another filter, or by none: a comparison is due.
    #[error("what is here was chosen by another filter")]
    OtherFilter,
}

/// Says what became of a manifest whose bytes home did not send along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveManifest {
    /// The repository whose turn it is.
    pub repository: RepositoryName,
    /// The change that put it.
    pub arrival: Arrival,
    /// The manifest; `None` if home does not have it any more. Then its tags stay what they are until home's feed says
    /// what has become of them.
    pub manifest: Option<PutManifest>,
}

/// Why [`ResolveManifest`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ResolveManifestRefused {
    /// It is not that change's turn, or it needs no more.
    #[error("the repository does not wait for this manifest")]
    NotWaiting,
    /// Blobs that it names are still on their way.
    #[error("{} of its blobs are on their way", .0.len())]
    Incomplete(Vec<Digest>),
    /// Its content could not be put: its key is not reserved.
    #[error("the object's key is not reserved")]
    KeyNotReserved,
}

/// Stops waiting for a blob that home does not hold in that repository any more; not if home has said since that it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForsakeBlob {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// The change by which it was wanted when home was asked.
    pub arrival: Arrival,
}

/// Puts the bytes of a manifest that is set aside, which were had from home once more. Nothing, if it is not set aside any
/// more: then it was mended, or is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendManifest {
    /// The manifest, without tags: those that point at it do so still.
    pub manifest: PutManifest,
}

/// Publishes what a repository's inbox has waiting, as far as all that it needs is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvanceInbox {
    /// The repository.
    pub repository: RepositoryName,
}

/// Lets whoever has a token follow this registry as a mirror. Under a name that is known, the token is another one from
/// then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitMirror {
    /// For people.
    pub name: String,
    /// The hash of the token.
    pub token: Digest,
}

/// Takes a mirror's token back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DismissMirror {
    /// Its name.
    pub name: String,
}
