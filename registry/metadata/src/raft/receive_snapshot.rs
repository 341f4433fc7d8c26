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
    incoming: Arc<Mutex<Option<Incoming>>>,
    /// The last one that was installed, and the vote that was answered: its sender may not have heard.
    installed: Mutex<Option<(VoteRecord, AppliedRecord, VoteRecord)>>,
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
    Whole(Export),
    /// It is of a later release, or no snapshot at all.
    NotRead(String),
}

impl SnapshotReceiver {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder, incoming: Arc::default(), installed: Mutex::default() }
    }

    /// What was answered to the snapshot of this piece, if it was installed last.
    pub(super) fn installed(&self, piece: &SnapshotPiece) -> Option<VoteRecord> {
        let installed = self.installed.lock();
        let (_, _, answer) =
            installed.as_ref().filter(|(vote, state, _)| (vote, state) == (&piece.vote, &piece.state))?;
        Some(*answer)
    }

    /// Remembers that a snapshot was installed.
    pub(super) fn remember(&self, vote: VoteRecord, state: AppliedRecord, answer: VoteRecord) {
        *self.installed.lock() = Some((vote, state, answer));
    }

    /// Takes in a piece. One that does not go on where the last one ended changes nothing. The rows of one moment are
    /// the same bytes from whoever sends them, so what one try brought, the next need not.
    pub(super) async fn receive(&self, piece: SnapshotPiece) -> io::Result<Received> {
        let (disk, folder, incoming) = (self.disk.clone(), self.folder.clone(), self.incoming.clone());
        wait_for(&*self.disk, move || take_in(&*disk, &folder, &mut incoming.lock(), piece)).await?
    }
}

fn take_in(
    disk: &dyn Disk,
    folder: &Path,
    incoming: &mut Option<Incoming>,
    piece: SnapshotPiece,
) -> io::Result<Received> {
    let SnapshotPiece { vote, state, offset, bytes, is_last } = piece;
    if offset == 0
        && let Err(error) = Export::check_format(&bytes)
    {
        return Ok(Received::NotRead(error.to_string()));
    }
    let mut begun = match incoming.take() {
        Some(begun) if begun.vote == vote && begun.state == state => begun,
        former if offset > 0 => {
            *incoming = former;
            return Ok(Received::Continue(0));
        }
        _ => Incoming { vote, state, file: nameless_file(disk, folder)?, received: 0 },
    };
    // A piece that came before says by its offset that its sender does not know of it.
    if begun.received == offset {
        begun.file.write_all_at(&bytes, offset)?;
        begun.received += bytes.len() as u64;
        if is_last {
            return Export::received(begun.file).map(Received::Whole);
        }
    }
    let received = begun.received;
    *incoming = Some(begun);
    Ok(Received::Continue(received))
}

/// A file that is gone when it is closed.
fn nameless_file(disk: &dyn Disk, folder: &Path) -> io::Result<Box<dyn DiskFile>> {
    let path = folder.join("snapshot.incoming");
    let file = disk.open(&path, OpenMode::Empty)?;
    disk.remove(&path)?;
    Ok(file)
}
