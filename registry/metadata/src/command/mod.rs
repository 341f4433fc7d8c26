//! Every way in which truth can change.
//!
//! ```text
//! domain --Operation--> Envelope{id, at, Command} --Raft log--> State::apply --Outcome--> Done | Refused
//! ```
//!
//! Each operation is a struct of its own, with its own result and its own reasons to be refused; [`Command`] is the
//! closed sum of them that the log carries, [`Outcome`] the sum of their results. A refusal is decided inside `apply`,
//! so it holds at that place of the one history, and it changes nothing. `apply` reads no clock: `at` of the envelope
//! is the time.

mod aside;
mod blob;
mod collect;
mod history;
mod key;
mod landing;
mod manifest;
mod mirror;
mod node;
mod quarantine;
mod region;
mod remote;
mod upload;

pub use aside::{DismissAside, KeepAside, KeepAsideRefused, KeptAside};
pub use blob::{LinkBlob, LinkBlobRefused, Linked, MountBlob, MountBlobRefused, UnlinkBlob, UnlinkBlobRefused};
pub use collect::{CollectBlobs, Collected, TouchBlob, TouchBlobRefused};
pub use history::{Ancestor, BeginHistory, History};
pub use key::{CondemnKeys, ForgetKeys, ReserveKeys, ReserveKeysRefused};
pub use landing::{AdmitWriter, LandBlob, LandBlobRefused};
pub use manifest::{
    DeleteManifest, DeleteManifestRefused, DeleteTag, DeleteTagRefused, ManifestContent, ManifestPut, MovedTag,
    NewManifest, Precondition, PutManifest, PutManifestRefused, Referrer, TagManifest, TagManifestRefused,
};
pub use mirror::{
    AdmitMirror, AdvanceInbox, Advanced, Arrival, Comparison, DismissMirror, ForsakeBlob, MendManifest, ReceiveChanges,
    ReceiveChangesRefused, ReceiveChosen, ReceiveSnapshot, ReceiveSnapshotRefused, ReceivedChange, ResolveManifest,
    ResolveManifestRefused, SnapshotStep,
};
pub use node::{AllocateNode, AnnounceLevel, AnnounceLevelRefused, NameFirstVolume};
pub use quarantine::{Examined, SetQuarantine};
pub use region::{
    FenceRegion, FenceRegionRefused, Fenced, HandOverRegion, HandoverStep, PromoteRegion, PromoteRegionRefused,
    Promotion, RegionEpoch,
};
pub use remote::{NoteRemote, RemoteProgress};
use serde::{Deserialize, Serialize};
pub use upload::{
    AdvanceUploadRefused, BeginCompletion, BeginMultipart, CancelUpload, CancelUploadRefused, CheckpointUpload,
    ClaimUpload, ClaimUploadRefused, ExpireUploads, FinishUpload, FinishUploadRefused, Multipart, OpenUpload,
    OpenUploadRefused, ShowParts, Tail,
};

use crate::Level;

/// Milliseconds since the Unix epoch, as the proposer of an entry saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LogTime(pub u64);

/// The identity of one change as its client meant it, drawn by the proposing replica: a command that reaches the log
/// twice is applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId(pub u128);

/// The identity of one run of one replica: who owns an upload session at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u128);

/// How often the ownership of an upload session has changed. Only the owner of the newest epoch may advance it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The refusal of an operation that is never refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NeverRefused {}

/// What an entry of the log carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Applied once, however often it reaches the log.
    pub id: CommandId,
    /// When it was proposed. The state's own time never goes back, whatever this says.
    pub at: LogTime,
    /// What to do.
    pub command: Command,
}

impl Command {
    /// Whether the facts grow by it. What ends, deletes and collects is what makes room on a full disk.
    pub(crate) const fn grows(&self) -> bool {
        match self {
            Self::ReserveKeys(_)
            | Self::OpenUpload(_)
            | Self::ClaimUpload(_)
            | Self::BeginMultipart(_)
            | Self::CheckpointUpload(_)
            | Self::ShowParts(_)
            | Self::BeginCompletion(_)
            | Self::FinishUpload(_)
            | Self::LinkBlob(_)
            | Self::MountBlob(_)
            | Self::PutManifest(_)
            | Self::TagManifest(_)
            | Self::ReceiveChanges(_)
            | Self::ReceiveChosen(_)
            | Self::ReceiveSnapshot(_)
            | Self::ResolveManifest(_)
            | Self::MendManifest(_)
            | Self::LandBlob(_)
            | Self::KeepAside(_) => true,
            Self::CancelUpload(_)
            | Self::ExpireUploads(_)
            | Self::CondemnKeys(_)
            | Self::ForgetKeys(_)
            | Self::UnlinkBlob(_)
            | Self::DeleteManifest(_)
            | Self::DeleteTag(_)
            | Self::TouchBlob(_)
            | Self::CollectBlobs(_)
            | Self::AllocateNode(_)
            | Self::NameFirstVolume(_)
            | Self::BeginHistory(_)
            | Self::SetQuarantine(_)
            | Self::ForsakeBlob(_)
            | Self::AdvanceInbox(_)
            | Self::AdmitMirror(_)
            | Self::DismissMirror(_)
            | Self::AdmitWriter(_)
            | Self::FenceRegion(_)
            | Self::PromoteRegion(_)
            | Self::DismissAside(_)
            | Self::NoteRemote(_)
            | Self::HandOverRegion(_)
            | Self::AnnounceLevel(_) => false,
        }
    }

    /// The level that it came with: builds that read less must never see it. By its fields too, where a release adds to
    /// an operation that there was before.
    pub fn since(&self) -> Level {
        match self {
            Self::ReserveKeys(_)
            | Self::OpenUpload(_)
            | Self::ClaimUpload(_)
            | Self::BeginMultipart(_)
            | Self::CheckpointUpload(_)
            | Self::BeginCompletion(_)
            | Self::FinishUpload(_)
            | Self::LinkBlob(_)
            | Self::CancelUpload(_)
            | Self::ExpireUploads(_)
            | Self::CondemnKeys(_)
            | Self::ForgetKeys(_)
            | Self::MountBlob(_)
            | Self::UnlinkBlob(_)
            | Self::PutManifest(_)
            | Self::DeleteManifest(_)
            | Self::DeleteTag(_)
            | Self::TouchBlob(_)
            | Self::CollectBlobs(_)
            | Self::AllocateNode(_)
            | Self::BeginHistory(_)
            | Self::SetQuarantine(_)
            | Self::NameFirstVolume(_)
            | Self::TagManifest(_)
            | Self::AnnounceLevel(_)
            | Self::ReceiveChanges(_)
            | Self::ReceiveSnapshot(_)
            | Self::ResolveManifest(_)
            | Self::ForsakeBlob(_)
            | Self::AdvanceInbox(_)
            | Self::AdmitMirror(_)
            | Self::DismissMirror(_)
            | Self::MendManifest(_)
            | Self::LandBlob(_)
            | Self::AdmitWriter(_)
            | Self::FenceRegion(_)
            | Self::PromoteRegion(_)
            | Self::KeepAside(_)
            | Self::DismissAside(_)
            | Self::NoteRemote(_)
            | Self::HandOverRegion(_)
            | Self::ReceiveChosen(_)
            | Self::ShowParts(_) => Level::FIRST,
        }
    }
}

/// One kind of change, with the results that it has. Implemented by the structs of this module only.
pub trait Operation: Into<Command> + sealed::Sealed {
    /// What it answers where it was applied.
    type Done;
    /// Why it was not.
    type Refused;

    /// Its own part of the sum; `None` if `outcome` is of another operation.
    #[doc(hidden)]
    fn result(outcome: Outcome) -> Option<Result<Self::Done, Self::Refused>>;
}

mod sealed {
    pub trait Sealed {}
}

/// Declares the closed sums. Entries of the log and of the deduplication carry the position in this list: append only.
macro_rules! operations {
    ($($operation:ident -> $done:ty | $refused:ty,)*) => {
        /// Every operation.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "each variant is the operation of its name")]
        pub enum Command {
            $($operation($operation),)*
        }

        /// The result of every operation.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "each variant is the operation of its name")]
        pub enum Outcome {
            $($operation(Result<$done, $refused>),)*
        }

        #[cfg(test)]
        impl Outcome {
            /// Whether the operation was applied.
            pub(crate) fn is_done(&self) -> bool {
                match self {
                    $(Self::$operation(result) => result.is_ok(),)*
                }
            }

            /// Which operation's it is.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$operation(_) => stringify!($operation),)*
                }
            }
        }

        #[cfg(test)]
        impl Command {
            /// The names of all.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($operation)),*];

            /// Which operation it is.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$operation(_) => stringify!($operation),)*
                }
            }
        }

        $(
            impl From<$operation> for Command {
                fn from(operation: $operation) -> Self {
                    Self::$operation(operation)
                }
            }

            impl sealed::Sealed for $operation {}

            impl Operation for $operation {
                type Done = $done;
                type Refused = $refused;

                fn result(outcome: Outcome) -> Option<Result<$done, $refused>> {
                    if let Outcome::$operation(result) = outcome { Some(result) } else { None }
                }
            }
        )*
    };
}

operations! {
    ReserveKeys -> () | ReserveKeysRefused,
    OpenUpload -> () | OpenUploadRefused,
    ClaimUpload -> Epoch | ClaimUploadRefused,
    BeginMultipart -> () | AdvanceUploadRefused,
    CheckpointUpload -> () | AdvanceUploadRefused,
    BeginCompletion -> () | AdvanceUploadRefused,
    FinishUpload -> Linked | FinishUploadRefused,
    LinkBlob -> Linked | LinkBlobRefused,
    CancelUpload -> () | CancelUploadRefused,
    ExpireUploads -> u32 | NeverRefused,
    CondemnKeys -> u32 | NeverRefused,
    ForgetKeys -> u32 | NeverRefused,
    MountBlob -> () | MountBlobRefused,
    UnlinkBlob -> () | UnlinkBlobRefused,
    PutManifest -> ManifestPut | PutManifestRefused,
    DeleteManifest -> u64 | DeleteManifestRefused,
    DeleteTag -> () | DeleteTagRefused,
    TouchBlob -> () | TouchBlobRefused,
    CollectBlobs -> Collected | NeverRefused,
    AllocateNode -> u64 | NeverRefused,
    BeginHistory -> History | NeverRefused,
    SetQuarantine -> bool | NeverRefused,
    NameFirstVolume -> () | NeverRefused,
    TagManifest -> ManifestPut | TagManifestRefused,
    AnnounceLevel -> Level | AnnounceLevelRefused,
    ReceiveChanges -> Advanced | ReceiveChangesRefused,
    ReceiveSnapshot -> Advanced | ReceiveSnapshotRefused,
    ResolveManifest -> Advanced | ResolveManifestRefused,
    ForsakeBlob -> Advanced | NeverRefused,
    AdvanceInbox -> Advanced | NeverRefused,
    AdmitMirror -> () | NeverRefused,
    DismissMirror -> bool | NeverRefused,
    MendManifest -> bool | NeverRefused,
    LandBlob -> () | LandBlobRefused,
    AdmitWriter -> () | NeverRefused,
    FenceRegion -> Fenced | FenceRegionRefused,
    PromoteRegion -> Promotion | PromoteRegionRefused,
    KeepAside -> KeptAside | KeepAsideRefused,
    DismissAside -> u32 | NeverRefused,
    NoteRemote -> () | NeverRefused,
    HandOverRegion -> Fenced | FenceRegionRefused,
    ReceiveChosen -> Advanced | ReceiveChangesRefused,
    ShowParts -> () | AdvanceUploadRefused,
}
