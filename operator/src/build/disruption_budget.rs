//! How many replicas may be away at once.

use serde_json::json;

use super::object::{Kind, Object};
use super::{Part, Wish};

/// As many as a quorum does without, of the voters that there are. `None` for one voter: there is no quorum to be kept,
/// and its node must be able to drain.
pub(crate) fn disruption_budget(wish: &Wish, voters: u32) -> Option<Object> {
    if voters <= 1 {
        return None;
    }
    let quorum = voters / 2 + 1;
    let content = json!({
        "spec": { "maxUnavailable": voters - quorum, "selector": { "matchLabels": Part::Voter.selector(&wish.name) } },
    });
    Some(Object::owned(Kind::PodDisruptionBudget, wish, &wish.name, content))
}
