//! The cluster's own members.

use super::{Apply, Halt};
use crate::state::keyspace::{LAST_NODE, NODES};
use crate::{AllocateNode, NameFirstVolume, NeverRefused, QueryError, VolumeId};

/// The node that begins a cluster; the others' ids count up from it.
pub(crate) const FIRST_NODE: u64 = 1;

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

    pub(super) fn name_first_volume(&mut self, operation: &NameFirstVolume) -> Result<(), Halt<NeverRefused>> {
        let NameFirstVolume { volume } = operation;
        if self.first_volume()?.is_none() && !self.rows.has(NODES, volume)? {
            self.rows.put(NODES, volume, &FIRST_NODE)?;
        }
        Ok(())
    }

    /// The volume of the first node belongs to whoever goes on with these facts as that.
    pub(super) fn forget_first_volume(&mut self) -> Result<(), QueryError> {
        match self.first_volume()? {
            Some(volume) => self.rows.remove(NODES, &volume),
            None => Ok(()),
        }
    }

    fn first_volume(&self) -> Result<Option<VolumeId>, QueryError> {
        for row in self.rows.scan(NODES, NODES.all())? {
            let (volume, node) = row?;
            if node == FIRST_NODE {
                return Ok(Some(volume));
            }
        }
        Ok(None)
    }
}
