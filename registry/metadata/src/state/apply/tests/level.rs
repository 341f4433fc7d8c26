use crate::fixtures::World;
use crate::{AnnounceLevel, AnnounceLevelRefused, Level};

fn announce(node: u64, reads: u32, members: &[u64]) -> AnnounceLevel {
    AnnounceLevel { node, reads: Level(reads), members: members.iter().copied().collect() }
}

#[test]
fn the_level_rises_when_all_members_read_more_and_never_falls() {
    let mut world = World::new();
    assert_eq!(world.query().level().unwrap(), Level(1));
    assert_eq!(world.propose(announce(1, 3, &[1, 2, 3])), Ok(Level(1)));
    assert_eq!(world.propose(announce(2, 2, &[1, 2, 3])), Ok(Level(1)), "of node 3 nobody has heard");
    assert_eq!(world.propose(announce(3, 3, &[1, 2, 3])), Ok(Level(2)), "the least that any reads");
    assert_eq!(world.query().level().unwrap(), Level(2));

    let refused = Err(AnnounceLevelRefused::ReadsLess(Level(2)));
    assert_eq!(world.propose(announce(2, 1, &[1, 2, 3])), refused);
    assert_eq!(world.query().reads().unwrap()[&2], Level(2), "whoever was refused has said nothing");
    assert_eq!(world.propose(announce(2, 2, &[1, 2, 3, 4])), Ok(Level(2)), "it stays, whoever comes");
    assert_eq!(world.propose(announce(2, 3, &[1, 2, 3])), Ok(Level(3)));
}

#[test]
fn whoever_goes_back_to_an_older_release_in_time_holds_the_level() {
    let mut world = World::new();
    assert_eq!(world.propose(announce(1, 2, &[1, 2])), Ok(Level(1)));
    assert_eq!(world.propose(announce(1, 1, &[1, 2])), Ok(Level(1)));
    assert_eq!(world.propose(announce(2, 2, &[1, 2])), Ok(Level(1)));
    assert_eq!(world.propose(announce(1, 2, &[1, 2])), Ok(Level(2)));
}

#[test]
fn whoever_is_no_member_does_not_count_and_is_forgotten() {
    let mut world = World::new();
    world.propose(announce(2, 1, &[1, 2])).unwrap();
    assert_eq!(world.propose(announce(1, 2, &[1])), Ok(Level(2)));
    assert_eq!(world.query().reads().unwrap().into_keys().collect::<Vec<_>>(), [1]);
    // One that is on its way in counts when it is there.
    assert_eq!(world.propose(announce(3, 3, &[1])), Ok(Level(2)));
    assert_eq!(world.query().reads().unwrap()[&3], Level(3));
    assert_eq!(world.propose(announce(9, 9, &[])), Ok(Level(2)), "nobody is not everybody");
}
