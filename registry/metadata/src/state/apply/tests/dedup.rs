use crate::fixtures::{World, put_manifest, repository, tag};
use crate::state::apply::{CHANGES_KEPT, DEDUP_KEPT_MS};
use crate::{ChangesError, CommandId, DeleteTag, Envelope, LogTime, Outcome, Position};

fn envelope(id: u128, at: u64, command: impl Into<crate::Command>) -> Envelope {
    Envelope { id: CommandId(id), at: LogTime(at), command: command.into() }
}

#[test]
fn a_repeated_command_gets_its_first_answer_even_a_refusal() {
    let world = World::new();
    let delete = || envelope(1, 0, DeleteTag { repository: repository(1), tag: tag(1) });
    let refused = world.envelope(delete());
    assert!(!refused.is_done());
    let put = world.envelope(envelope(2, 0, put_manifest(1, &[1])));
    let rows = world.rows();
    assert_eq!(world.envelope(delete()), refused);
    assert_eq!(world.envelope(envelope(2, 0, put_manifest(1, &[1]))), put);
    assert_eq!(world.rows(), rows);
}

#[test]
fn results_are_forgotten_after_their_time_and_a_few_at_once() {
    let world = World::new();
    for id in 1..=20 {
        world.envelope(envelope(id, 0, put_manifest(1, &[1])));
    }
    let known = |id| matches!(world.envelope(envelope(id, 0, put_manifest(1, &[1]))), Outcome::PutManifest(Ok(done)) if done.created);
    assert!(known(1));
    let count = |world: &World| world.rows().len();
    let before = count(&world);
    world.envelope(envelope(100, DEDUP_KEPT_MS, put_manifest(1, &[1])));
    assert_eq!(count(&world), before + 3, "still within the time: a result, its age, a change");
    world.envelope(envelope(101, DEDUP_KEPT_MS + 1, put_manifest(1, &[1])));
    assert_eq!(count(&world), before + 6 - 8, "four of the twenty are gone");
    for id in 102..=105 {
        world.envelope(envelope(id, DEDUP_KEPT_MS + 1, put_manifest(1, &[1])));
    }
    assert!(!known(1), "applied anew");
}

#[test]
fn time_never_goes_back() {
    let mut world = World::new();
    world.propose(put_manifest(1, &[])).unwrap();
    let latest = world.now;
    world.now = 5;
    world.propose(put_manifest(2, &[])).unwrap();
    assert_eq!(world.query().changes(Position::default(), 9).unwrap()[1].at, LogTime(latest));
}

#[test]
fn the_feed_is_bounded_and_says_what_it_does_not_have() {
    let mut world = World::new();
    world.propose(put_manifest(1, &[])).unwrap();
    let first = world.query().position().unwrap();
    // As if many changes had happened meanwhile.
    world
        .state
        .write(crate::state::Sync::Deferred, |apply| {
            apply.head.position.sequence = CHANGES_KEPT;
            Ok(())
        })
        .unwrap();
    world.propose(put_manifest(1, &[])).unwrap();
    let newest = world.query().position().unwrap();
    assert_eq!(newest, Position { epoch: 1, sequence: CHANGES_KEPT + 1 });
    let oldest = Position { epoch: 1, sequence: 2 };
    assert!(
        matches!(world.query().changes(Position::default(), 9), Err(ChangesError::Trimmed { oldest: is }) if is == oldest)
    );
    assert_eq!(world.query().changes(first, 9).unwrap().len(), 1);
    assert!(world.query().changes(newest, 9).unwrap().is_empty());

    let ahead = Position { sequence: newest.sequence + 1, ..newest };
    let other_epoch = Position { epoch: 2, sequence: 1 };
    for foreign in [ahead, other_epoch] {
        assert!(matches!(world.query().changes(foreign, 9), Err(ChangesError::Foreign { newest: is }) if is == newest));
    }
}
