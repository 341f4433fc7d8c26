//! Sending all rows of one moment to a member that is too far behind for the log.
//!
//! The rows are read and sent piece by piece, and a piece is kept until it has arrived, so that a connection that
//! breaks costs one piece. If the whole try fails, openraft's next one goes on where the receiver stands, unless there
//! are newer rows to send.

use std::time::Duration;

use openraft::error::{NetworkError, RPCError, StreamingError};
use openraft::raft::SnapshotResponse;
use tokio::time::{MissedTickBehavior, interval};

use super::config::{Types, Vote};
use super::messages::{Reply, Request, SnapshotPiece, SnapshotReply};
use super::peers::{Peer, Snapshot};
use super::records::AppliedRecord;
use crate::QueryError;
use crate::disk::wait_for;
use crate::state::{Piece, Pieces};

/// Bytes of a piece: some milliseconds of any network, and few enough to wait in memory. Few in this crate's tests,
/// whose snapshots are small.
const PIECE_BYTES: usize = if cfg!(test) { 4 * 1024 } else { 1024 * 1024 };

/// How long a piece may take, at 256 KiB/s and a round trip.
const PIECE_PATIENCE: Duration = Duration::from_secs(5);

/// How often a piece is sent, with a pause between; the last one as often as the receiver says that it is installing.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// The pause before it is asked again whether all is installed.
const INSTALLING_PAUSE: Duration = Duration::from_secs(1);

/// Sends a snapshot whole.
pub(super) async fn send_snapshot(
    peer: &Peer,
    vote: Vote,
    snapshot: Snapshot,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let state = AppliedRecord::new(snapshot.meta.last_log_id, &snapshot.meta.last_membership);
    let mut pieces = Some(snapshot.snapshot.pieces().map_err(unread)?);
    // What holds on to the rows of a moment keeps their pages from being used again: no longer than they are read.
    drop(snapshot);
    let (mut end, mut wanted) = (0, 0);
    let mut following = read_piece(peer, &mut pieces).await?;
    while let Some(Piece { bytes, is_last }) = following {
        let offset = end;
        end += bytes.len() as u64;
        if end <= wanted && !is_last {
            following = read_piece(peer, &mut pieces).await?; // an earlier try brought it
            continue;
        }
        let piece = SnapshotPiece { vote: vote.into(), state: state.clone(), offset, bytes: bytes.into(), is_last };
        let (reply, next) = tokio::join!(send_piece(peer, piece), read_piece(peer, &mut pieces));
        match reply? {
            SnapshotReply::Done(vote) => return Ok(SnapshotResponse::new(vote.into())),
            SnapshotReply::Continue(next) if next >= end => wanted = next,
            SnapshotReply::Continue(_) | SnapshotReply::Installing => {
                return Err(NetworkError::from_string("the snapshot's receiver began anew").into());
            }
        }
        following = next?;
    }
    Err(NetworkError::from_string("the snapshot's receiver did not say that it is whole").into())
}

/// Reads the next piece, while the one before it is on its way.
async fn read_piece(peer: &Peer, pieces: &mut Option<Pieces>) -> Result<Option<Piece>, StreamingError<Types>> {
    let Some(mut reading) = pieces.take() else { return Ok(None) };
    let read = wait_for(peer.disk(), move || {
        let piece = reading.next(PIECE_BYTES);
        (reading, piece)
    });
    let (reading, piece) = read.await.map_err(|error| unread(QueryError::storage(error)))?;
    let piece = piece.map_err(unread)?;
    *pieces = piece.as_ref().is_some_and(|piece| !piece.is_last).then_some(reading);
    Ok(piece)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn unread(error: QueryError) -> StreamingError<Types> {
    NetworkError::from_string(format!("the snapshot cannot be read: {error}")).into()
}

async fn send_piece(peer: &Peer, piece: SnapshotPiece) -> Result<SnapshotReply, RPCError<Types>> {
    let mut turns = interval(PAUSE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tries = 0;
    loop {
        turns.tick().await;
        tries += 1;
        match peer.ask(Request::Snapshot(piece.clone()), PIECE_PATIENCE).await {
            Ok(Reply::Snapshot(SnapshotReply::Installing)) if piece.is_last => {
                tries = 0;
                turns.reset_after(INSTALLING_PAUSE);
            }
            Ok(Reply::Snapshot(reply)) => return Ok(reply),
            Ok(other) => return Err(peer.astray(&other)),
            Err(error) if tries == TRIES => return Err(error),
            Err(error) => tracing::debug!(%error, "a piece of a snapshot is sent again"),
        }
    }
}
