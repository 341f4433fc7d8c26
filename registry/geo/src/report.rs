//! Telling home how far this mirror is, where home acknowledges pushes by that.

use std::sync::Arc;

use roadstead_domain::Fault;
use roadstead_metadata::RemoteProgress;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::follow::in_time;
use crate::limits::LOOK;
use crate::mirror::Mirror;

impl Mirror {
    /// Tells home of each step, until `stop`, while this replica leads and home wants to know.
    pub async fn report(self: Arc<Self>, stop: CancellationToken) {
        let mut applied = self.registry.metadata().subscribe_applied();
        let mut told: Option<RemoteProgress> = None;
        while !stop.is_cancelled() {
            applied.borrow_and_update();
            let is_wanted = self.leads() && self.contact.is_there() && self.contact.wants_reports();
            match is_wanted.then(|| self.progress()) {
                Some(Ok(Some(progress))) if told.as_ref() != Some(&progress) => {
                    match in_time(self.home.report(&progress)).await {
                        Ok(()) => {
                            told = Some(progress);
                            continue;
                        }
                        Err(error) => debug!(reason = %error, "home could not be told how far this mirror is: {error}"),
                    }
                    let _ = timeout(LOOK, stop.cancelled()).await;
                    continue;
                }
                Some(Err(fault)) => debug!(reason = %fault, "how far this mirror is could not be read: {fault}"),
                Some(Ok(_)) | None => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // Something may have come.
                _ = timeout(LOOK, applied.changed()) => {}
            }
        }
    }

    /// `None` while it has nothing of the home that it hears of: of another it says nothing to this one. A mirror of a part
    /// has not what it passes over, so no push is acknowledged by what it has; neither while the filter is not set any more
    /// and what it left out has not come.
    pub(crate) fn progress(&self) -> Result<Option<RemoteProgress>, Fault> {
        if !self.filter.is_everything() {
            return Ok(None);
        }
        let query = self.registry.metadata().query()?;
        if query.chosen_by()?.is_some() {
            return Ok(None);
        }
        let home = self.contact.seen().map(|seen| seen.home);
        let is_of_home = query.following()?.is_some_and(|following| Some(following.home) == home);
        Ok(if is_of_home { query.progress()? } else { None })
    }
}
