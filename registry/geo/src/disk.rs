//! Work of the disk beside the tasks that others need.

use tokio::task::{JoinError, spawn_blocking};

/// Up to so many bytes are read or written where they are: they come from memory, or go there first, and the way to
/// another thread and back takes longer.
const IN_PLACE: usize = 32 << 10;

/// Does work that reads or writes about so many bytes of a file that is not synced.
pub(crate) async fn disk_work<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if bytes <= IN_PLACE { Ok(work()) } else { spawn_blocking(work).await }
}
