//! Whether traffic should come here.

use tokio::sync::watch;

/// What `/readyz` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Readiness {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// Not any more.
    Draining,
}

/// Readiness goes one way: once reached it stays, whatever the bucket and the quorum do (pulls go on without either),
/// until the process drains.
#[derive(Debug)]
pub(crate) struct Health(watch::Sender<Readiness>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(Readiness::Starting))
    }
}

impl Health {
    /// The process can serve.
    pub(crate) fn ready(&self) {
        self.advance(Readiness::Ready);
    }

    /// The process is about to end.
    pub(crate) fn draining(&self) {
        self.advance(Readiness::Draining);
    }

    pub(crate) fn readiness(&self) -> Readiness {
        *self.0.borrow()
    }

    /// Waits until the process can serve, or is about to end.
    pub(crate) async fn started(&self) {
        // The sender is here, so that it cannot be gone.
        let _ = self.0.subscribe().wait_for(|readiness| *readiness != Readiness::Starting).await;
    }

    fn advance(&self, to: Readiness) {
        self.0.send_if_modified(|readiness| {
            let is_later = *readiness < to;
            *readiness = to.max(*readiness);
            is_later
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_never_goes_back() {
        let health = Health::default();
        assert_eq!(health.readiness(), Readiness::Starting);
        health.ready();
        health.started().await;
        assert_eq!(health.readiness(), Readiness::Ready);
        health.draining();
        health.ready();
        assert_eq!(health.readiness(), Readiness::Draining);
    }
}
