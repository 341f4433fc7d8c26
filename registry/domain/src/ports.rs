//! What the domain does not decide by itself: what time it is, and randomness.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roadstead_metadata::{CommandId, Incarnation, LogTime, Metadata};
use roadstead_oci::UploadId;
use uuid::{Builder, Uuid};

/// The machine's clocks. Used only to stamp proposals, to judge ages, and to name changes; nothing is decided by an order
/// of theirs.
pub trait Clock: Send + Sync + 'static {
    /// The present time by the wall clock, which may be wrong, and jump.
    fn now(&self) -> SystemTime;

    /// The time that has passed since some moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Time and randomness, as they are passed in.
#[derive(Clone)]
pub struct Ports {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where random names come from.
    pub entropy: Arc<dyn Entropy>,
}

impl Ports {
    /// The present time by the wall clock.
    pub fn wall(&self) -> LogTime {
        let since_epoch = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LogTime(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// The present time of the log, which is stamped into proposals.
    pub(crate) fn now(&self, metadata: &Metadata) -> LogTime {
        metadata.log_time(self.wall(), self.clock.monotonic())
    }

    /// The time `ago` before now.
    pub(crate) fn before(&self, metadata: &Metadata, ago: Duration) -> LogTime {
        LogTime(self.now(metadata).0.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A fresh random name (RFC 9562, version 4).
    pub(crate) fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The name of a new upload session.
    pub(crate) fn upload_id(&self) -> UploadId {
        UploadId::new(self.uuid())
    }

    /// The identity of one change: by the wall clock first (RFC 9562, version 7), so that the results which the state
    /// remembers by it lie together where they were written together. With random names each result of a transaction
    /// had a page of its own to be copied and written.
    pub(crate) fn command_id(&self) -> CommandId {
        let mut bytes = [0; 10];
        self.entropy.fill(&mut bytes);
        CommandId(Builder::from_unix_timestamp_millis(self.wall().0, &bytes).into_uuid().as_u128())
    }

    /// The identity of this run of the process.
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation(self.uuid().as_u128())
    }
}
