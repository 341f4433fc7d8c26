use crate::fixtures::{World, key};
use crate::fixtures::{repository, verified};
use crate::{CondemnKeys, ForgetKeys, KeyState, LinkBlob, LinkBlobRefused, LogTime, ReserveKeys, ReserveKeysRefused};

fn reserve(keys: &[u8]) -> ReserveKeys {
    ReserveKeys { keys: keys.iter().copied().map(key).collect() }
}

#[test]
fn a_key_goes_from_reserved_to_condemned_to_forgotten() {
    let mut world = World::new();
    world.propose(reserve(&[1, 2])).unwrap();
    let reserved_at = LogTime(world.now);
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Reserved));
    assert_eq!(world.query().reserved_before(reserved_at, 9).unwrap(), []);
    assert_eq!(world.query().reserved_before(LogTime(reserved_at.0 + 1), 9).unwrap(), [key(1), key(2)]);
    assert_eq!(world.query().reserved_before(LogTime(u64::MAX), 1).unwrap(), [key(1)]);

    assert_eq!(world.propose(CondemnKeys { keys: vec![key(1)] }), Ok(1));
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Condemned));
    assert_eq!(world.query().reserved_before(LogTime(u64::MAX), 9).unwrap(), [key(2)]);
    let condemned = world.query().condemned(LogTime(u64::MAX), 9).unwrap();
    assert_eq!((condemned[0].key.clone(), condemned[0].due), (key(1), LogTime(world.now)));
    assert_eq!(condemned.len(), 1);

    assert_eq!(world.propose(ForgetKeys { keys: vec![key(1), key(2), key(3)] }), Ok(1), "only condemned ones");
    assert_eq!(world.query().key_state(&key(1)).unwrap(), None);
    assert_eq!(world.query().key_state(&key(2)).unwrap(), Some(KeyState::Reserved));
}

#[test]
fn a_key_that_is_not_known_can_be_condemned_so_that_a_late_link_fails() {
    let mut world = World::new();
    assert_eq!(world.propose(CondemnKeys { keys: vec![key(1)] }), Ok(1));
    let link = LinkBlob::new(repository(1), verified(1), 1, key(1), None);
    assert_eq!(world.propose(link), Err(LinkBlobRefused::KeyNotReserved));
}

#[test]
fn keys_are_reserved_all_or_none_and_only_fresh_ones() {
    let mut world = World::new();
    world.propose(reserve(&[1])).unwrap();
    world.propose(reserve(&[1])).unwrap();
    world.propose(LinkBlob::new(repository(1), verified(1), 1, key(1), None)).unwrap();
    assert_eq!(world.propose(reserve(&[2, 1])), Err(ReserveKeysRefused::KeyTaken(key(1))));
    assert_eq!(world.query().key_state(&key(2)).unwrap(), None);
    assert_eq!(world.propose(CondemnKeys { keys: vec![key(1)] }), Ok(0), "a linked key stays");
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Linked));
}
