//! Taking in all rows of one moment, piece by piece.
//!
//! What has arrived waits in a file without a name: nothing of it is left after a crash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::messages::SnapshotPiece;
use super::records::{AppliedRecord, VoteRecord};
use crate::disk::{Disk, DiskFile, OpenMode, wait_for};
use crate::state::Export;

/// Receives one snapshot at a time: the newest that was begun.
pub(super) struct SnapshotReceiver {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    arriving: Arc<Mutex<Arriving>>,
}

#[derive(Default)]
struct Arriving {
    incoming: Option<Incoming>,
    /// The last one of which everything was here. Its sender may ask again: installing takes longer than an answer may.
    whole: Option<Whole>,
}

struct Whole {
    vote: VoteRecord,
    state: AppliedRecord,
    /// Until somebody installs them.
    rows: Option<Export>,
}

struct Incoming {
    vote: VoteRecord,
    state: AppliedRecord,
    file: Box<dyn DiskFile>,
    received: u64,
}

/// What a piece came to.
pub(super) enum Received {
    /// More has to come, from this offset on.
    Continue(u64),
    /// All rows are here, and whole.
    Whole,
    /// It is of a later release, or no snapshot at all.
    NotRead(String),
}

impl SnapshotReceiver {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder, arriving: Arc::default() }
    }

    /// The rows of the snapshot that is whole; `None` if somebody installs them already.
    pub(super) fn take_rows(&self) -> Option<Export> {
        self.arriving.lock().whole.as_mut()?.rows.take()
    }

    /// Forgets the snapshot that was whole: it is installed, or was not wanted.
    pub(super) fn forget_whole(&self) {
        self.arriving.lock().whole = None;
    }

    /// Takes in a piece. One that does not go on where the last one ended changes nothing. The rows of one moment are
    /// the same bytes from whoever sends them, so what one try brought, the next need not.
    pub(super) async fn receive(&self, piece: SnapshotPiece) -> io::Result<Received> {
        let (disk, folder, arriving) = (self.disk.clone(), self.folder.clone(), self.arriving.clone());
        wait_for(&*self.disk, move || take_in(&*disk, &folder, &mut arriving.lock(), piece)).await?
    }
}

fn take_in(disk: &dyn Disk, folder: &Path, arriving: &mut Arriving, piece: SnapshotPiece) -> io::Result<Received> {
    let SnapshotPiece { vote, state, offset, bytes, is_last } = piece;
    if offset == 0
        && let Err(error) = Export::check_format(&bytes)
    {
        return Ok(Received::NotRead(error.to_string()));
    }
    if arriving.whole.as_ref().is_some_and(|whole| whole.vote == vote && whole.state == state) {
        return Ok(Received::Whole);
    }
    let mut begun = match arriving.incoming.take() {
        Some(begun) if begun.vote == vote && begun.state == state => begun,
        former if offset > 0 => {
            arriving.incoming = former;
            return Ok(Received::Continue(0));
        }
        _ => Incoming { vote, state, file: nameless_file(disk, folder)?, received: 0 },
    };
    // A piece that came before says by its offset that its sender does not know of it.
    if begun.received == offset {
        begun.file.write_all_at(&bytes, offset)?;
        begun.received += bytes.len() as u64;
        if is_last {
            let rows = Some(Export::received(begun.file)?);
            arriving.whole = Some(Whole { vote: begun.vote, state: begun.state, rows });
            return Ok(Received::Whole);
        }
    }
    let received = begun.received;
    arriving.incoming = Some(begun);
    Ok(Received::Continue(received))
}

/// A file that is gone when it is closed.
fn nameless_file(disk: &dyn Disk, folder: &Path) -> io::Result<Box<dyn DiskFile>> {
    let path = folder.join("snapshot.incoming");
    let file = disk.open(&path, OpenMode::Empty)?;
    disk.remove(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDisk;
    use crate::raft::records::tests::{applied, vote};
    use crate::state::State;

    #[tokio::test]
    async fn rows_whose_sender_gave_up_are_there_once_for_whoever_asks_again() {
        let folder = tempfile::tempdir().unwrap();
        let receiver = SnapshotReceiver::new(Arc::new(LocalDisk), folder.path().to_owned());
        let rows = Export::View(State::in_memory().read().unwrap());
        let piece = rows.pieces().unwrap().next(1024 * 1024).unwrap().unwrap();
        assert!(piece.is_last);
        let piece =
            SnapshotPiece { vote: vote(), state: applied(), offset: 0, bytes: piece.bytes.into(), is_last: true };
        tokio::select! {
            biased;
            _ = receiver.receive(piece.clone()) => {} // with all rows there before it was given up, the same is true
            () = std::future::ready(()) => {} // the sender gives up
        }
        assert!(matches!(receiver.receive(piece.clone()).await.unwrap(), Received::Whole));
        assert!(receiver.take_rows().is_some());
        assert!(
            matches!(receiver.receive(piece.clone()).await.unwrap(), Received::Whole),
            "asked while it is installed"
        );
        assert!(receiver.take_rows().is_none());
        receiver.forget_whole();
        assert!(matches!(receiver.receive(piece).await.unwrap(), Received::Whole), "sent again from its beginning");
        assert!(receiver.take_rows().is_some());
    }
}
