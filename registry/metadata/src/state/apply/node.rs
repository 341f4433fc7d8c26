//! The cluster's own members.

use super::{Apply, Halt};
use crate::state::keyspace::{LAST_NODE, NODES};
use crate::{AllocateNode, NeverRefused};

/// The node that begins a cluster; ids count up from it.
const FIRST_NODE: u64 = 1;

impl Apply<'_> {
    pub(super) fn allocate_node(&mut self, operation: &AllocateNode) -> Result<u64, Halt<NeverRefused>> {
        let AllocateNode { volume } = operation;
        if let Some(node) = self.rows.get(NODES, volume)? {
            return Ok(node);
        }
        let node = self.rows.get(LAST_NODE, ())?.unwrap_or(FIRST_NODE) + 1;
        self.rows.put(LAST_NODE, (), &node)?;
        self.rows.put(NODES, volume, &node)?;
        Ok(node)
    }
}
