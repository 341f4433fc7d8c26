//! Bodies that are kept in memory as a whole.

use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::budget::Reservation;
use crate::limits::{MEMORY_DEADLINE, fill_time};
use crate::registry::Registry;
use crate::upload::{Body, BodyError};

/// Why a body was not collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// Other pushes hold all of the memory budget.
    #[error("other pushes hold all of the memory for content in transit")]
    Busy,
    /// There are more bytes than there may be.
    #[error("the body is too long")]
    TooLong,
    /// The body ended before its end, or came too slowly.
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl Registry {
    /// Reads a body of at most `most` bytes into memory of the budget. Waits for the memory and for the bytes no longer
    /// than a part of an upload session would.
    pub async fn collect(&self, mut body: Body, most: u64) -> Result<Reservation, CollectError> {
        let mut memory =
            timeout(MEMORY_DEADLINE, self.budget.reserve(most)).await.map_err(|_elapsed| CollectError::Busy)?;
        let due = Instant::now() + fill_time(most);
        while let Some(piece) = timeout_at(due, body.next()).await.map_err(|_elapsed| BodyError::Idle)? {
            let piece = piece?;
            if (memory.bytes.len() + piece.len()) as u64 > most {
                return Err(CollectError::TooLong);
            }
            memory.bytes.extend_from_slice(&piece);
        }
        Ok(memory)
    }
}
