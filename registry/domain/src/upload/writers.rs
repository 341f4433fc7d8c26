//! One writer a session: inside a process, the newest request on an upload session waits for the older one to leave,
//! and the older one leaves at once.
//!
//! Between processes the same is done by the epoch of the session's owner, see
//! [`ClaimUpload`](roadstead_metadata::ClaimUpload).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use roadstead_oci::UploadId;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// The sessions that requests of this process work on at the moment; as many entries as requests at most.
#[derive(Clone, Default)]
pub(crate) struct Writers(Arc<Mutex<HashMap<UploadId, Slot>>>);

#[derive(Default)]
struct Slot {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when a newer request comes.
    newest: CancellationToken,
    /// Requests that hold the turn or wait for it.
    requests: usize,
}

/// The right to work on a session until this is dropped.
pub(crate) struct Turn {
    superseded: CancellationToken,
    // Dropped in this order: the next request enters when the lock is free.
    _lock: OwnedMutexGuard<()>,
    _place: Place,
}

/// A newer request on the same session has come.
#[derive(Debug)]
pub(crate) struct Superseded;

impl Writers {
    /// Tells the present writer of `upload` to leave, and waits until it has.
    pub(crate) async fn enter(&self, upload: UploadId) -> Result<Turn, Superseded> {
        let (turn, superseded) = {
            let mut slots = self.0.lock();
            let slot = slots.entry(upload).or_default();
            slot.newest.cancel();
            slot.newest = CancellationToken::new();
            slot.requests += 1;
            (Arc::clone(&slot.turn), slot.newest.clone())
        };
        let place = Place { writers: self.clone(), upload };
        tokio::select! {
            biased;
            () = superseded.cancelled() => Err(Superseded),
            lock = turn.lock_owned() => Ok(Turn { superseded, _lock: lock, _place: place }),
        }
    }
}

impl Turn {
    /// Completes when a newer request has come.
    pub(crate) async fn superseded(&self) -> Superseded {
        self.superseded.cancelled().await;
        Superseded
    }
}

/// Keeps a session's slot as long as a request is there.
struct Place {
    writers: Writers,
    upload: UploadId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.writers.0.lock();
        if let Some(slot) = slots.get_mut(&self.upload) {
            slot.requests -= 1;
            if slot.requests == 0 {
                slots.remove(&self.upload);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn the_newest_request_wins_and_waits_for_the_older_to_leave() {
        let writers = Writers::default();
        let upload = UploadId::new(Uuid::from_u128(1));
        let first = writers.enter(upload).await.expect("nobody else is there");
        assert!(first.superseded().now_or_never().is_none());

        let mut second = Box::pin(writers.enter(upload));
        assert!(second.as_mut().now_or_never().is_none(), "the first has not left");
        assert!(first.superseded().now_or_never().is_some());

        let mut third = Box::pin(writers.enter(upload));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.await.is_err(), "overtaken while it waited");

        drop(first);
        let third = third.await.expect("the first has left");
        drop(third);
        assert!(writers.0.lock().is_empty());
    }
}
