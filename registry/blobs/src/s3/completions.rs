//! Completions under way: each runs to its end, and those of one upload one after the other.
//!
//! Two servers make this necessary. `MinIO` stops in the middle when its client hangs up, and may lose the parts by
//! it. Versity, asked twice at the same time, does it twice, and the object is absent for a moment in between. Both
//! happen when a client gives up on its last request and sends it again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use roadstead_oci::MultipartId;
use tokio::sync::Mutex;
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

/// Uploads are spread over so many turns. Two that share one wait for each other, which is seldom: few completions
/// are under way at a time, and each takes milliseconds on most servers.
const TURNS: usize = 64;

/// The completions of a store. They end by themselves, as requests do, and at the latest with the runtime.
pub(super) struct Completions {
    turns: [Arc<Mutex<()>>; TURNS],
    tasks: TaskTracker,
}

impl Default for Completions {
    fn default() -> Self {
        Self { turns: std::array::from_fn(|_| Arc::default()), tasks: TaskTracker::new() }
    }
}

impl Completions {
    /// Awaits `completion` when it is its turn; it goes on even if the caller goes away.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        id: &MultipartId,
        completion: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let turn = Arc::clone(&self.turns[usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default()]);
        let task = async move {
            let _turn = turn.lock().await;
            completion.await
        };
        self.tasks.spawn(task).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_completion_outlives_its_caller_and_the_next_waits_for_it() {
        let (completions, id) = (Completions::default(), MultipartId("id".into()));
        let (release, done) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let first = {
            let (release, done) = (release.clone(), Arc::clone(&done));
            async move {
                release.cancelled().await;
                done.store(true, Ordering::SeqCst);
            }
        };
        assert!(completions.run(&id, first).now_or_never().is_none());
        let second = completions.run(&id, async move { done.load(Ordering::SeqCst) });
        let (first_was_done, ()) = futures_util::join!(second, async { release.cancel() });
        assert!(first_was_done.unwrap());
    }
}
