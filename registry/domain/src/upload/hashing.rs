//! Hashing beside the task that receives, which would otherwise do nothing else for half of its time.
//!
//! ```text
//!   part 1 --hash--> hasher --> part 2 --hash--> hasher --> ...      each on another thread, when it is its turn
//!     '----put             '-----'----put                            at the same time
//! ```

use roadstead_oci::{HashState, Hasher};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::fault::Fault;

/// Up to so many bytes are hashed where they are, since the way to another thread and back takes as long.
const HASHED_IN_PLACE: usize = 64 << 10;

/// The hasher of a session, on its way from part to part.
pub(super) struct Hashing(oneshot::Receiver<Hasher>);

impl Hashing {
    pub(super) fn new(hasher: Hasher) -> Self {
        let (pass, next) = oneshot::channel();
        let _ = pass.send(hasher); // the receiver is here
        Self(next)
    }

    /// Hashes bytes, after those of every call before, and says where the hasher then stands. `sha512` says whether
    /// they count for SHA-512 too; once some did not, there is none any more. The future has to be run to its end.
    pub(super) fn update<B: AsRef<[u8]> + Send + 'static>(
        &mut self,
        bytes: B,
        sha512: bool,
    ) -> impl Future<Output = Result<(HashState, B), Fault>> + Send + use<B> {
        let (pass, next) = oneshot::channel();
        let former = std::mem::replace(&mut self.0, next);
        async move {
            let mut hasher = former.await.map_err(|_| lost())?;
            if !sha512 {
                hasher.drop_sha512();
            }
            let is_short = bytes.as_ref().len() <= HASHED_IN_PLACE;
            let work = move || {
                hasher.update(bytes.as_ref());
                (hasher, bytes)
            };
            let (hasher, bytes) = if is_short { work() } else { spawn_blocking(work).await.map_err(|_| lost())? };
            let state = hasher.state();
            let _ = pass.send(hasher); // nobody waits for it where the session ends here
            Ok((state, bytes))
        }
    }

    /// The hasher, when all bytes are hashed.
    pub(super) async fn hasher(&mut self) -> Result<Hasher, Fault> {
        let hasher = (&mut self.0).await.map_err(|_| lost())?;
        *self = Self::new(hasher.clone());
        Ok(hasher)
    }
}

fn lost() -> Fault {
    Fault::Inconsistent("the hasher of an upload session was lost".to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn bytes_are_hashed_in_the_order_of_the_calls() {
        let mut hashing = Hashing::new(Hasher::new());
        let content: Vec<Bytes> = [10, HASHED_IN_PLACE + 1, 0, 3].map(|len| Bytes::from(vec![7; len])).into();
        let mut turns: Vec<_> = content.iter().map(|bytes| Box::pin(hashing.update(bytes.clone(), true))).collect();
        let mut expected = Hasher::new();
        let mut states = Vec::new();
        for bytes in &content {
            expected.update(bytes);
            states.push(expected.state());
        }
        turns.reverse();
        let mut done = futures_util::future::try_join_all(turns).await.expect("hashed");
        done.reverse();
        assert_eq!(done.into_iter().map(|(state, _)| state).collect::<Vec<_>>(), states);
        assert_eq!(hashing.hasher().await.expect("it is back").state(), expected.state());
    }

    #[tokio::test]
    async fn what_does_not_count_for_sha512_ends_it() {
        let mut hashing = Hashing::new(Hasher::new());
        let (state, _) = hashing.update(Bytes::from_static(b"part"), false).await.expect("hashed");
        let mut expected = Hasher::new();
        expected.drop_sha512();
        expected.update(b"part");
        assert_eq!(state, expected.state());
    }

    #[tokio::test]
    async fn a_turn_that_is_dropped_ends_all_that_follow() {
        let mut hashing = Hashing::new(Hasher::new());
        drop(hashing.update(Bytes::from_static(b"lost"), true));
        hashing.update(Bytes::from_static(b"more"), true).await.expect_err("nothing can follow");
        hashing.hasher().await.expect_err("nothing can follow");
    }
}
