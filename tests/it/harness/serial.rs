use tokio::sync::{Mutex, MutexGuard};

static HEAVY: Mutex<()> = Mutex::const_new(());

/// Taken by the tests that fill the machine (many processes, much memory, timing), so that no two of them run at once.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    HEAVY.lock().await
}
