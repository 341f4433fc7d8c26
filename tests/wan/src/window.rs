//! How much one connection may have on its way: what a sender that has heard nothing of loss lets itself send.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Link;

/// A sender that was quiet for so long, and a round trip besides, begins anew, as Linux does by default.
const QUIET: Duration = Duration::from_millis(200);

/// What has arrived, and when its sender hears of that.
pub(crate) type Heard = (Instant, usize);

/// The window of one direction of a connection: it begins small, and grows by what is acknowledged.
pub(crate) struct Window {
    acknowledged: mpsc::UnboundedReceiver<Heard>,
    /// One that is not heard of yet.
    next: Option<Heard>,
    on_its_way: usize,
    size: usize,
    sent: Instant,
}

impl Window {
    pub(crate) fn new(link: Link, acknowledged: mpsc::UnboundedReceiver<Heard>) -> Self {
        Self { acknowledged, next: None, on_its_way: 0, size: link.first_window, sent: Instant::now() }
    }

    /// Waits until so many bytes more may be on their way; `false` if nobody takes them any more.
    pub(crate) async fn open(&mut self, bytes: usize, link: Link) -> bool {
        let mut is_open = true;
        loop {
            let is_full = self.on_its_way > 0 && self.on_its_way + bytes > self.size;
            let heard = match self.next.take() {
                Some(heard) => Some(heard),
                None if is_full => match self.acknowledged.recv().await {
                    Some(heard) => Some(heard),
                    None => return false,
                },
                None => match self.acknowledged.try_recv() {
                    Ok(heard) => Some(heard),
                    Err(error) => {
                        is_open = error == mpsc::error::TryRecvError::Empty;
                        None
                    }
                },
            };
            match heard {
                Some(heard) if is_full || heard.0 <= Instant::now() => {
                    sleep_until(heard.0).await;
                    self.on_its_way -= heard.1;
                    self.size = (self.size + heard.1).min(link.window);
                }
                later => {
                    self.next = later;
                    break;
                }
            }
        }
        let now = Instant::now();
        if self.on_its_way == 0 && now - self.sent > QUIET + link.delay * 2 {
            self.size = link.first_window;
        }
        (self.on_its_way, self.sent) = (self.on_its_way + bytes, now);
        is_open
    }
}
