//! Notices when the facts have stopped for good, which only a restart mends.

use std::sync::Arc;
use std::time::Duration;

use roadstead_domain::Registry;
use tokio::time::interval;

use crate::tasks::TaskResult;

/// How often the replica is asked. Until then requests get 503, which is right as well.
const LOOK: Duration = Duration::from_secs(1);

/// Ends with an error when the replica has stopped, which it does when its disk fails or its state is damaged.
pub(crate) async fn watch(registry: Arc<Registry>) -> TaskResult {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        if let Some(reason) = registry.metadata().status().fatal {
            return Err(format!("the metadata stopped: {reason}").into());
        }
    }
}
