use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, interval, timeout};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Waits until `condition` gives a value. When it has not `within` that time, fails with `what` and with why the last
/// look gave none.
pub async fn until<T>(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut tick = interval(POLL);
    loop {
        tick.tick().await;
        // A look that hangs is none.
        let looked = timeout(within, condition()).await.context("the look itself hung").and_then(|looked| looked);
        match looked {
            Ok(value) => return Ok(value),
            Err(error) => {
                ensure!(Instant::now() < deadline, "waited {within:?} in vain until {what}: {error:#}");
            }
        }
    }
}
