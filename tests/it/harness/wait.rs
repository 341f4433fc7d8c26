use std::time::Duration;

use tokio::time::{Instant, interval};

/// How often a condition is looked at: often enough not to add to a test's time, seldom enough not to load two cores.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value, and fails with `what` when it has not `within` that time.
pub(crate) async fn until<T>(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    let mut tick = interval(POLL);
    loop {
        tick.tick().await;
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain until {what}");
    }
}
