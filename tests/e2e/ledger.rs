use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Client;

/// A push and a pull so often: enough to meet every change of a cluster, without loading two cores.
const PACE: Duration = Duration::from_millis(250);

/// What was acknowledged while something happened, to be looked for afterwards.
pub(crate) struct Ledger {
    client: Client,
    is_over: Cell<bool>,
    acknowledged: RefCell<BTreeMap<String, String>>,
    longest: Cell<Duration>,
}

const REPOSITORY: &str = "ledger/image";

impl Ledger {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, is_over: Cell::new(false), acknowledged: RefCell::default(), longest: Cell::new(Duration::ZERO) }
    }

    /// Pushes and pulls while `happens` does. Every push and every pull must succeed in the end, and all that was
    /// acknowledged must be there afterwards.
    pub(crate) async fn during<T>(&self, happens: impl Future<Output = Result<T>>) -> Result<T> {
        self.is_over.set(false);
        let before = self.acknowledged.borrow().len();
        let until_then = async {
            let happened = happens.await;
            self.is_over.set(true);
            happened
        };
        let (load, happened) = tokio::join!(self.load(), until_then);
        // What happened says more of why than the load that suffered of it.
        let happened = happened?;
        load.context("a client failed meanwhile")?;
        ensure!(self.acknowledged.borrow().len() > before, "nothing was pushed meanwhile");
        self.compare().await?;
        Ok(happened)
    }

    async fn load(&self) -> Result<()> {
        let mut tick = interval(PACE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over.get() {
            tick.tick().await;
            let start = Instant::now();
            let number = self.acknowledged.borrow().len();
            let tag = format!("n{number}");
            let digest = self.client.push(REPOSITORY, &tag, format!("layer {number}").repeat(4096).as_bytes()).await?;
            let pulled = self.client.pull(REPOSITORY, &tag).await?;
            ensure!(pulled == digest, "{tag} was pushed as {digest} and is {pulled}");
            self.acknowledged.borrow_mut().insert(tag, digest);
            self.longest.set(self.longest.get().max(start.elapsed()));
        }
        Ok(())
    }

    async fn compare(&self) -> Result<()> {
        let acknowledged = self.acknowledged.borrow().clone();
        for (tag, digest) in &acknowledged {
            let found = self.client.pull(REPOSITORY, tag).await.with_context(|| format!("{tag} was acknowledged"))?;
            ensure!(found == *digest, "{tag} was acknowledged as {digest} and is {found}");
        }
        Ok(())
    }

    /// How many images were pushed and pulled, and how long the slowest took with its retries.
    pub(crate) fn figures(&self) -> String {
        let count = self.acknowledged.borrow().len();
        format!("{count} images pushed and pulled, 0 failed, the slowest in {:.1} s", self.longest.get().as_secs_f64())
    }
}
