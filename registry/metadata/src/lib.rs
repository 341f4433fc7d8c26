//! Facts: what truth is, every way in which it can change, and the Raft group that agrees on it.
//!
//! ```text
//!  domain -- propose(Operation) --> Metadata --> raft/ (log, fsync, quorum) --> state/ (apply, redb)
//!         <-- Done | Refused ------------------------------------------------------'   |      |
//!         -- linearize(), query() ----------------------------------------------> Query       |
//!         -- changes(), subscribe() -------------------------------------------------> change feed
//! ```
//!
//! * Only a [`Command`] changes truth, and applying one reads no clock, no randomness and nothing but the state.
//! * `Done` means that a quorum has the command on disk and that this replica has applied it.
//! * `raft/` is the only folder that names openraft.

mod command;
mod disk;
mod encoding;
mod feed;
mod folder_format;
mod identity;
mod level;
mod log_clock;
mod metadata;
mod peer;
mod query;
mod raft;
mod snapshot;
mod state;

pub use command::{
    AdmitMirror, AdmitWriter, AdvanceInbox, AdvanceUploadRefused, Advanced, AllocateNode, Ancestor, AnnounceLevel,
    AnnounceLevelRefused, Arrival, BeginCompletion, BeginHistory, BeginMultipart, CancelUpload, CancelUploadRefused,
    CheckpointUpload, ClaimUpload, ClaimUploadRefused, CollectBlobs, Collected, Command, CommandId, Comparison,
    CondemnKeys, DeleteManifest, DeleteManifestRefused, DeleteTag, DeleteTagRefused, DismissAside, DismissMirror,
    Envelope, Epoch, Examined, ExpireUploads, FenceRegion, FenceRegionRefused, Fenced, FinishUpload,
    FinishUploadRefused, ForgetKeys, ForsakeBlob, HandOverRegion, HandoverStep, History, Incarnation, KeepAside,
    KeepAsideRefused, KeptAside, LandBlob, LandBlobRefused, LinkBlob, LinkBlobRefused, Linked, LogTime,
    ManifestContent, ManifestPut, MendManifest, MountBlob, MountBlobRefused, MovedTag, Multipart, NameFirstVolume,
    NeverRefused, NewManifest, NoteRemote, OpenUpload, OpenUploadRefused, Operation, Outcome, Precondition,
    PromoteRegion, PromoteRegionRefused, Promotion, PutManifest, PutManifestRefused, ReceiveChanges,
    ReceiveChangesRefused, ReceiveChosen, ReceiveSnapshot, ReceiveSnapshotRefused, ReceivedChange, Referrer,
    RegionEpoch, RemoteProgress, ReserveKeys, ReserveKeysRefused, ResolveManifest, ResolveManifestRefused,
    SetQuarantine, ShowParts, SnapshotStep, TagManifest, TagManifestRefused, Tail, TouchBlob, TouchBlobRefused,
    UnlinkBlob, UnlinkBlobRefused,
};
pub use disk::{Disk, DiskFile, LocalDisk, OpenMode};
pub use feed::{Change, ChangeKind, ChangesError, Position};
pub use identity::Identity;
pub use level::{LaterLevel, Level, Levels};
pub use metadata::{
    CheckpointError, ClusterOptions, Metadata, OpenError, Options, ProposeError, ReadError, Role, ShutdownError, Status,
};
pub use peer::{ClusterId, PeerError, PeerTransport, VolumeId};
pub use query::{
    AdmittedMirror, AnnouncedManifest, AnnouncedTag, AsideChange, AsideManifest, Blob, Condemned, Following,
    HeldManifest, HeldObject, KeyState, Progress, Query, QueryError, ReferrerEntry, Region, Repository, Standing,
    StoredManifest, Unresolved, Upload, UploadOutline, UploadState, Wanted,
};
pub use raft::{EntriesError, LogEntry, Rebuild, RebuildError, Until};
pub use snapshot::Snapshot;

pub use raft::{
    AnnounceError, BeginRefusal, Beginning, ChangeRefusal, Holding, Member, MemberChange, Members, Survivor,
    SurvivorError,
};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod golden;
