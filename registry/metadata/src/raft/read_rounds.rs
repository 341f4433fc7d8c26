//! Reading linearizably: a round of heartbeats for all who ask at the same time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::group::Group;
use crate::ReadError;

impl Group {
    /// Waits until this replica has applied all that was acknowledged anywhere before the call.
    pub(crate) async fn linearize(self: &Arc<Self>, patience: Duration) -> Result<(), ReadError> {
        let round = self.reads.join(|| {
            let group = Arc::clone(self);
            async move { group.read_index(patience).await }.boxed()
        });
        match timeout(patience, round).await {
            Ok(result) => result,
            Err(_) => Err(ReadError::NoLeader(format!("it took longer than {patience:?}"))),
        }
    }
}

/// Read indexes, one at a time: a read that comes while one is under way shares the next with all that came likewise.
#[derive(Default)]
pub(super) struct ReadRounds {
    /// The round that has not begun.
    next: Arc<Mutex<Option<ReadRound>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

type ReadRound = Shared<BoxFuture<'static, Result<(), ReadError>>>;

impl ReadRounds {
    fn join(&self, read: impl FnOnce() -> BoxFuture<'static, Result<(), ReadError>>) -> ReadRound {
        let mut next = self.next.lock();
        let begin = || {
            let (read, next, turn) = (read(), self.next.clone(), self.turn.clone());
            let round = async move {
                let _turn = turn.lock().await;
                // Whoever comes from now on needs an index that is taken later.
                *next.lock() = None;
                read.await
            };
            round.boxed().shared()
        };
        next.get_or_insert_with(begin).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn reads_that_come_during_a_read_index_share_the_next_one() {
        let rounds = ReadRounds::default();
        let (count, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let join = || {
            let (count, go) = (count.clone(), go.clone());
            rounds.join(|| {
                let read = async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    go.notified().await;
                    Ok(())
                };
                read.boxed()
            })
        };
        let mut first = join();
        assert!(futures_util::poll!(&mut first).is_pending(), "it takes its index");
        let mut later = [join(), join(), join()];
        for read in &mut later {
            assert!(futures_util::poll!(read).is_pending(), "it waits for its turn");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        go.notify_one();
        first.await.unwrap();
        for read in &mut later {
            assert!(futures_util::poll!(read).is_pending());
        }
        go.notify_one();
        for read in later {
            read.await.unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
