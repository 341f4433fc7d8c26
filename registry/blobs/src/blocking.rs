//! Running what blocks on threads where that is allowed.

use crate::error::BlobError;

/// Runs `work` on tokio's pool of blocking threads, whose size (512 unless the runtime says otherwise) bounds how much
/// is under way at once, and with it the open descriptors. `work` runs to its end even if the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(BlobError::Unavailable(format!("the work on the disk was cut off: {error}"))),
    }
}
