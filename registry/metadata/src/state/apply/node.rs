//! The cluster's own members.

use super::{Apply, Halt, require};
use crate::state::keyspace::{LAST_NODE, LEVEL, NODES, READS};
use crate::{
    AllocateNode, AnnounceLevel, AnnounceLevelRefused, Level, NameFirstVolume, NeverRefused, QueryError, VolumeId,
};

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

    pub(super) fn announce_level(&mut self, operation: &AnnounceLevel) -> Result<Level, Halt<AnnounceLevelRefused>> {
        let AnnounceLevel { node, reads, members } = operation;
        let in_force = self.level()?;
        require(*reads >= in_force, AnnounceLevelRefused::ReadsLess(in_force))?;
        self.rows.put(READS, node, reads)?;
        let mut least = None;
        for member in members {
            let reads = self.rows.get(READS, member)?.unwrap_or_default();
            least = Some(least.map_or(reads, |least: Level| least.min(reads)));
        }
        for known in self.rows.keys(READS, READS.all(), usize::MAX)? {
            if !members.contains(&known) && known != *node {
                self.rows.remove(READS, &known)?; // taken out since
            }
        }
        let level = least.unwrap_or_default().max(in_force);
        if level > in_force {
            self.rows.put(LEVEL, (), &level)?;
        }
        Ok(level)
    }

    /// The level in force.
    pub(crate) fn level(&self) -> Result<Level, QueryError> {
        Ok(self.rows.get(LEVEL, ())?.unwrap_or_default())
    }

    /// Whoever goes on with these facts says itself what it reads. The level in force stays, since they are at it.
    pub(super) fn forget_levels(&mut self) -> Result<(), QueryError> {
        for node in self.rows.keys(READS, READS.all(), usize::MAX)? {
            self.rows.remove(READS, &node)?;
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
