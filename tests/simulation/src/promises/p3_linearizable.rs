//! P3: one order of all pushes, reads and deletions of a repository's tags explains every answer.

use roadstead_simulation::linearizability::{Call, Model, Verdict, check as search};

use crate::history::{Condition, TAGS, TagOperation, Value};
use crate::run::World;

/// What a search may cost: far above what it does.
const MOST_STEPS: u64 = 3_000_000;

/// The tags of one repository.
struct Tags;

impl Model for Tags {
    type State = [Option<Value>; TAGS];
    type Operation = TagOperation;

    fn apply(state: &Self::State, operation: &TagOperation) -> Option<Self::State> {
        let mut after = *state;
        match operation {
            TagOperation::Get { tag, found } => return (state[*tag] == *found).then_some(after),
            TagOperation::Put { tags, value, condition, done } => {
                let holds = tags.iter().all(|tag| match condition {
                    Condition::Any => true,
                    Condition::Absent => state[*tag].is_none(),
                    Condition::Exists => state[*tag].is_some(),
                    // Whoever repeats it because the answer was lost asks for what is so already.
                    Condition::Is(wanted) => state[*tag] == Some(*wanted) || state[*tag] == Some(*value),
                });
                if done.is_some_and(|done| done != holds) {
                    return None;
                }
                if holds {
                    for tag in tags {
                        after[*tag] = Some(*value);
                    }
                }
            }
            TagOperation::DeleteTag { tag, existed } => {
                if existed.is_some_and(|existed| existed != state[*tag].is_some()) {
                    return None;
                }
                after[*tag] = None;
            }
            TagOperation::DeleteManifest { value } => {
                for tag in after.iter_mut().filter(|tag| **tag == Some(*value)) {
                    *tag = None;
                }
            }
        }
        Some(after)
    }
}

pub(super) fn check(world: &World) -> Result<(), String> {
    let tags = world.history.with(|records| records.tags.clone());
    for (repository, calls) in tags {
        match search::<Tags>([None; TAGS], &calls, MOST_STEPS) {
            Verdict::Linearizable => {}
            Verdict::NotLinearizable => {
                return Err(format!("P3: no order explains the tags of repository {repository}:\n{}", list(&calls)));
            }
            Verdict::Undecided => {
                return Err(format!("P3: whether an order explains repository {repository} was not found out"));
            }
        }
    }
    Ok(())
}

fn list(calls: &[Call<TagOperation>]) -> String {
    let mut lines: Vec<_> = calls.iter().map(|call| (call.begins, format!("{call:?}"))).collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}
