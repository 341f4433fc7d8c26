//! Letting another replica lead before this one stops: an orderly end costs nobody an election.

use std::time::Duration;

use roadstead_metadata::{ChangeRefusal, MemberChange, Metadata, Role};
use tokio::time::{Instant, timeout_at};

/// How long a successor is looked for: others that are being restarted, or catch up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts: a voter that has just started is in contact after a heartbeat.
const PAUSE: Duration = Duration::from_millis(200);

/// Whose leadership it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// This replica did not lead.
    Elsewhere,
    /// It led, and another one does now.
    HandedOver,
    /// It leads a group in which nobody else could.
    Alone,
}

/// Lets another voter lead, if this replica does.
pub(crate) async fn hand_over(metadata: &Metadata) -> Result<Leadership, ChangeRefusal> {
    let node = metadata.identity().node;
    let deadline = Instant::now() + PATIENCE;
    let mut led = false;
    loop {
        if metadata.status().role != Role::Leader {
            return Ok(if led { Leadership::HandedOver } else { Leadership::Elsewhere });
        }
        led = true;
        if !metadata.members().iter().any(|member| member.is_voter && member.node != node) {
            return Ok(Leadership::Alone);
        }
        let refused = metadata.change_members(MemberChange::HandOver { from: node }).await.err();
        if let Some(refusal) = refused.filter(|_| Instant::now() >= deadline) {
            return Err(refusal);
        }
        // The role follows in a moment; or nobody could take over, and somebody may soon. Either way it is looked at again.
        if metadata.status().role == Role::Leader {
            let _ = timeout_at(deadline.min(Instant::now() + PAUSE), metadata.changed()).await;
        }
    }
}
