//! Naming a history, and beginning one that goes on from another.

use super::{Apply, Halt};
use crate::state::keyspace::{CHANGES, CLUSTER, HISTORY};
use crate::{BeginHistory, ClusterId, History, NeverRefused, Position, QueryError};

/// Changes renamed at once.
const CHANGES_AT_ONCE: usize = 1_000;

impl Apply<'_> {
    pub(super) fn begin_history(&mut self, operation: &BeginHistory) -> Result<History, Halt<NeverRefused>> {
        if let Some(known) = self.rows.get(HISTORY, ())? {
            return Ok(known);
        }
        let BeginHistory { history: id, storage } = *operation;
        let history = History { id, storage, incarnation: 1, parent: None, begun: self.now() };
        self.rows.put(HISTORY, (), &history)?;
        Ok(history)
    }

    /// Which history this is, if it has a name.
    pub(crate) fn history(&self) -> Result<Option<History>, QueryError> {
        self.rows.get(HISTORY, ())
    }

    /// Says which cluster's facts these are.
    pub(crate) fn name_cluster(&mut self, cluster: ClusterId) -> Result<(), QueryError> {
        self.rows.put(CLUSTER, (), &cluster)
    }

    /// Leaves it to whoever opens the facts next which cluster's they are, as its first node.
    pub(crate) fn forget_cluster(&mut self) -> Result<(), QueryError> {
        self.forget_first_volume()?;
        self.forget_levels()?;
        self.rows.remove(CLUSTER, ())
    }

    /// Goes on as a history of its own. Its feed has another epoch, in which all changes that are kept are the same: who
    /// followed the former one is told so, instead of being shown other changes under numbers that it knows.
    pub(crate) fn fork_history(&mut self, history: &History) -> Result<(), QueryError> {
        self.rows.put(HISTORY, (), history)?;
        self.rename_feed(self.head.position.epoch + 1)
    }

    /// Lets the feed go on in another epoch, in which all changes that are kept are the same.
    pub(super) fn rename_feed(&mut self, epoch: u64) -> Result<(), QueryError> {
        let former = std::mem::replace(&mut self.head.position.epoch, epoch);
        loop {
            let end = CHANGES.key(&Position { epoch: former, sequence: u64::MAX });
            let changes = self.rows.keys(CHANGES, CHANGES.all().before(end), CHANGES_AT_ONCE)?;
            if changes.is_empty() {
                return Ok(());
            }
            for position in changes {
                if let Some(change) = self.rows.take(CHANGES, &position)? {
                    self.rows.put(CHANGES, &Position { epoch, ..position }, &change)?;
                }
            }
        }
    }
}
