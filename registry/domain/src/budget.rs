//! The memory that pushes may use, in bytes, for the whole process.
//!
//! ```text
//!   reserve(n) --> Reservation { bytes } --freeze--> store
//!      ^                |
//!      '----------------' when it is dropped: its pages, and its buffer by way of the pool
//! ```
//!
//! A push holds a reservation for each part that it fills or sends. Without one it does not read its socket, so that
//! a slow bucket slows clients down instead of filling memory (promise P5). The buffers of whole parts are used again:
//! left to the allocator, freed ones of that size stay with it beside those that it makes anew, and each costs as much
//! time to touch for the first time as to fill.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reservations are counted in pages of this many bytes, since a semaphore counts in 32 bits.
const PAGE: u64 = 4096;

/// A number of bytes that all pushes share. First come, first served.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    pages: Arc<Semaphore>,
    total: u32,
    pool: Arc<Pool>,
}

/// Buffers that wait for the next part. Together with what is reserved they are less than one part above the budget: so
/// manifests and small blobs, which come and go, drive none of them out.
#[derive(Debug)]
struct Pool {
    /// Bytes of a part.
    size: usize,
    /// Bytes of the budget.
    total: usize,
    buffers: Mutex<Buffers>,
}

#[derive(Debug, Default)]
struct Buffers {
    free: Vec<BytesMut>,
    /// Bytes of those in use. The semaphore counts a reservation before whoever waited for it comes here.
    lent: usize,
}

/// Bytes of the budget that are in use until this is dropped.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its bytes back"]
pub struct Reservation {
    /// Empty at first; holds all that was reserved without growing.
    pub bytes: BytesMut,
    frozen: Option<Bytes>,
    size: usize,
    pool: Arc<Pool>,
    // After the bytes, which count as long as they are there.
    _pages: OwnedSemaphorePermit,
}

impl ByteBudget {
    /// A budget of `bytes`, which are mostly used in parts of `part_size`.
    pub fn new(bytes: u64, part_size: u64) -> Self {
        let total = to_pages(bytes).max(1);
        let pool =
            Pool { size: to_usize(part_size), total: to_usize(u64::from(total) * PAGE), buffers: Mutex::default() };
        Self { pages: Arc::new(Semaphore::new(total as usize)), total, pool: Arc::new(pool) }
    }

    /// Waits until `bytes` are free and takes them; more than the whole budget counts as the whole budget.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let pages = to_pages(bytes).min(self.total);
        let Ok(permit) = Arc::clone(&self.pages).acquire_many_owned(pages).await else {
            unreachable!("the semaphore of a budget is never closed")
        };
        let (pool, size) = (Arc::clone(&self.pool), to_usize(bytes.min(self.total())));
        let bytes = pool.take(size);
        Reservation { bytes, frozen: None, size, pool, _pages: permit }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        (u64::from(self.total) - self.pages.available_permits() as u64) * PAGE
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        u64::from(self.total) * PAGE
    }
}

impl Pool {
    /// An empty buffer of `size`. Free ones go where there are too many beside it.
    fn take(&self, size: usize) -> BytesMut {
        let mut buffers = self.buffers.lock();
        let buffer = if size == self.size { buffers.free.pop() } else { None };
        buffers.lent += size;
        let room = self.total.saturating_sub(buffers.lent);
        buffers.free.truncate(room.div_ceil(self.size.max(1)));
        buffer.unwrap_or_else(|| BytesMut::with_capacity(size))
    }

    /// Takes note that a buffer of `size` is not in use any more, and keeps it if it can be used again.
    fn give_back(&self, size: usize, buffer: Option<BytesMut>) {
        let mut buffers = self.buffers.lock();
        buffers.lent -= size;
        if size == self.size
            && let Some(mut buffer) = buffer
        {
            buffer.clear();
            buffers.free.push(buffer);
        }
    }
}

impl Reservation {
    /// Its bytes, to be handed on. Their memory serves another reservation later if they are dropped before this is.
    pub fn freeze(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        self.frozen = Some(bytes.clone());
        bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let buffer = match self.frozen.take() {
            Some(bytes) => bytes.try_into_mut().ok(),
            None => Some(std::mem::take(&mut self.bytes)),
        };
        self.pool.give_back(self.size, buffer);
    }
}

fn to_pages(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX)
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PART: u64 = 2 * PAGE;

    #[tokio::test]
    async fn a_reservation_waits_until_bytes_are_given_back() {
        let budget = ByteBudget::new(3 * PAGE, PART);
        let held = budget.reserve(2 * PAGE).await;
        assert_eq!(budget.used(), 2 * PAGE);
        assert!(budget.reserve(2 * PAGE).now_or_never().is_none());
        drop(held);
        let _all = budget.reserve(100 * PAGE).now_or_never().expect("more than everything is everything");
        assert_eq!(budget.used(), budget.total());
    }

    #[tokio::test]
    async fn a_buffer_is_used_again_when_nobody_has_it_any_more() {
        let budget = ByteBudget::new(3 * PART, PART);
        let fill = async |byte| {
            let mut reservation = budget.reserve(PART).await;
            assert!(reservation.bytes.is_empty() && reservation.bytes.capacity() as u64 >= PART);
            reservation.bytes.resize(100, byte);
            reservation
        };
        let mut first = fill(1).await;
        let address = first.freeze().as_ptr();
        drop(first);
        assert_eq!(budget.used(), 0);
        let mut second = fill(2).await;
        let late_reader = second.freeze();
        assert_eq!(late_reader.as_ptr(), address);
        drop(second);
        let other = fill(3).await.freeze();
        assert!(late_reader.iter().all(|byte| *byte == 2) && other.as_ptr() != address);
    }

    #[tokio::test]
    async fn whoever_waited_gets_the_buffer_that_was_given_back() {
        let budget = ByteBudget::new(2 * PART, PART);
        let held = [budget.reserve(PART).await, budget.reserve(PART).await];
        let addresses = held.each_ref().map(|reservation| reservation.bytes.as_ptr());
        let (mut first, mut second) = (Box::pin(budget.reserve(PART)), Box::pin(budget.reserve(PART)));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(held);
        for reservation in [&first.await, &second.await] {
            assert!(addresses.contains(&reservation.bytes.as_ptr()));
        }
    }

    #[tokio::test]
    async fn what_is_kept_makes_room_for_what_is_reserved() {
        let budget = ByteBudget::new(3 * PART, PART);
        let held = [budget.reserve(PART).await, budget.reserve(PART).await, budget.reserve(PART).await];
        drop(held);
        let kept = || budget.pool.buffers.lock().free.len();
        assert_eq!(kept(), 3);
        let _small = budget.reserve(PAGE).await;
        assert_eq!(kept(), 3, "it drives none out");
        let _more = budget.reserve(PAGE + 1).await;
        assert_eq!(kept(), 2);
        let _rest = budget.reserve(3 * PAGE).await;
        assert_eq!(kept(), 1);
    }
}
