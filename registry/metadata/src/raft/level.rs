//! Who reads what, and what is therefore in force. See the crate's module `level`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::group::Group;
use super::members::JOIN_PATIENCE;
use super::messages::{ProposeReply, Reply, Request};
use crate::encoding::decode;
use crate::{AnnounceLevel, AnnounceLevelRefused, CommandId, Envelope, Level, LogTime, Outcome, QueryError, VolumeId};

impl Group {
    /// The level in force, as far as this replica has applied it: so it has been agreed on.
    pub(crate) fn level(&self) -> Level {
        self.shared.level()
    }

    /// What the builds of all nodes read that have said so. Facts that cannot be read tell of none.
    pub(super) fn announced(&self) -> BTreeMap<u64, Level> {
        self.query().and_then(|query| query.reads()).unwrap_or_default()
    }

    /// Refuses a build that reads less than is in force.
    pub(super) fn admit(&self, reads: Level) -> Result<(), Reply> {
        let in_force = self.level();
        if reads >= in_force { Ok(()) } else { Err(Reply::ReadsLess(in_force)) }
    }

    /// Lets the facts say what a member's build reads, if they do not say so or the level may rise. By whoever has the turn
    /// to change who is in the group: so nobody who reads less comes in meanwhile.
    pub(super) async fn note_level(&self, node: u64, volume: VolumeId, reads: Level) -> Result<(), Reply> {
        let members = self.nodes();
        if !self.is_news(node, reads, &members).map_err(|error| Reply::Failed(error.to_string()))? {
            return Ok(());
        }
        // Another one each time, since it may say again what it has said before. What is applied grows with each.
        let id = CommandId(volume.0 ^ u128::from(*self.subscribe_applied().borrow()).rotate_left(64));
        let command = AnnounceLevel { node, reads, members }.into();
        let envelope = Envelope { id, at: LogTime(0), command };
        let entry = self.entry(&envelope).map_err(|error| Reply::Failed(error.to_string()))?;
        match self.commit(entry, Instant::now() + JOIN_PATIENCE).await {
            Reply::Propose(ProposeReply::Done { outcome, .. }) => match decode(&outcome) {
                Ok(Outcome::AnnounceLevel(Ok(_))) => Ok(()),
                Ok(Outcome::AnnounceLevel(Err(AnnounceLevelRefused::ReadsLess(in_force)))) => {
                    Err(Reply::ReadsLess(in_force))
                }
                other => Err(Reply::Failed(format!("its level was not noted: {other:?}"))),
            },
            Reply::Propose(ProposeReply::Unknown(why)) => Err(Reply::Failed(why)),
            reply => Err(reply),
        }
    }

    /// Asks the leader to note what this replica's build reads, if there is anything to be done about it.
    pub(crate) async fn settle_level(&self, patience: Duration) {
        let (node, reads) = (self.identity.node, self.shared.levels.reads);
        if !self.is_news(node, reads, &self.nodes()).unwrap_or(false) {
            return;
        }
        let Some(address) = self.address_of(node) else { return };
        let request = Request::Announce { volume: self.volume, node: Some(node), address, reads };
        // What comes to nothing is tried again.
        drop(self.ask_leader(request, Instant::now() + patience).await);
    }

    /// Whether facts would change if a node said that it reads so much.
    fn is_news(&self, node: u64, reads: Level, members: &BTreeSet<u64>) -> Result<bool, QueryError> {
        let query = self.query()?;
        let known = query.reads()?;
        let of = |member: &u64| known.get(member).copied().unwrap_or_default();
        let all = members.iter().map(|member| if *member == node { reads } else { of(member) }).min();
        Ok(of(&node) != reads || all.is_some_and(|all| all > self.level()))
    }

    /// Who is in the group.
    fn nodes(&self) -> BTreeSet<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().nodes().map(|(node, _)| *node).collect()
    }

    fn address_of(&self, node: u64) -> Option<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Some(metrics.membership_config.membership().get_node(&node)?.addr.clone())
    }
}
