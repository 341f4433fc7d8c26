//! How fresh an answer is (promise P6): pulls go on without a leader, and say how old what they show may be.

use std::time::Duration;

use roadstead_metadata::{Metadata, ReadError};

use crate::fault::Fault;
use crate::registry::Registry;

/// How long a read waits for a leader when there has been none for longer than [`Metadata::READ_DEADLINE`]: a few
/// heartbeats, since no election is about to end that.
const HOPELESS_DEADLINE: Duration = Duration::from_millis(500);

impl Registry {
    /// Waits until this replica has seen everything that was acknowledged anywhere: `None`. Where no leader confirms
    /// that, what it has is good enough for a read if it heard of one within the staleness that is allowed: how long ago.
    ///
    /// Only for what is *found*: that something does not exist, only a leader knows.
    pub async fn freshen(&self) -> Result<Option<Duration>, Fault> {
        let contact = self.metadata.status().contact;
        let is_hopeless = contact.is_some_and(|ago| ago > Metadata::READ_DEADLINE);
        let patience = if is_hopeless { HOPELESS_DEADLINE } else { Metadata::READ_DEADLINE };
        let read = match tokio::time::timeout(patience, self.metadata.linearize()).await {
            Ok(read) => read,
            Err(_) => Err(ReadError::NoLeader(format!("it took longer than {patience:?}"))),
        };
        match (read, self.metadata.status().contact) {
            (Ok(()), _) => Ok(None),
            (Err(_), Some(ago)) if ago <= self.options.max_staleness => Ok(Some(ago)),
            (Err(error), _) => Err(error.into()),
        }
    }
}
