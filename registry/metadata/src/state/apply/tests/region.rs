//! Which region is home: epochs, fencing, where histories part.

use proptest::prelude::*;

use crate::fixtures::{World, digest, put_manifest, repository, tag};
use crate::{
    ChangeKind, ClusterId, CollectBlobs, DeleteTag, FenceRegion, FenceRegionRefused, Fenced, Outcome, Position,
    PromoteRegion, PromoteRegionRefused, ReceiveChanges, ReceivedChange, RegionEpoch, Standing,
};

const HOME: ClusterId = ClusterId(7);
const MIRROR: ClusterId = ClusterId(8);

fn epoch(number: u64, home: ClusterId) -> RegionEpoch {
    RegionEpoch { number, home }
}

fn fence(by: RegionEpoch, own: ClusterId) -> FenceRegion {
    FenceRegion { by, origin: HOME, own }
}

fn promote(number: u64) -> PromoteRegion {
    PromoteRegion { epoch: epoch(number, MIRROR), handed_over: None }
}

/// A mirror that has received so many of home's changes, of which manifest 3 waits, since home did not send it along.
fn mirror(received: u64) -> World {
    let mut world = World::new();
    for sequence in 1..=received {
        let number = u8::try_from(sequence).unwrap();
        let kind =
            ChangeKind::ManifestPut { repository: repository(1), digest: digest(number), tags: vec![tag(number)] };
        let position = Position { epoch: 1, sequence };
        let sent = put_manifest(number, &[number]);
        let manifest = (sequence != 3).then_some(sent);
        let change = ReceivedChange { position, at: crate::LogTime(sequence), kind, manifest };
        let after = if sequence == 1 { Position::default() } else { Position { sequence: sequence - 1, ..position } };
        world.propose(ReceiveChanges { home: HOME, after, changes: vec![change] }).unwrap();
    }
    world
}

#[test]
fn a_fenced_home_takes_no_change_of_a_client_and_its_feed_stands_still() {
    let mut world = World::new();
    world.propose(put_manifest(1, &[1])).unwrap();
    let last = world.query().position().unwrap();
    let by = epoch(2, MIRROR);
    assert_eq!(world.propose(fence(by, HOME)), Ok(Fenced { last }));
    for command in [put_manifest(2, &[2]).into(), DeleteTag { repository: repository(1), tag: tag(1) }.into()] {
        let command: crate::Command = command;
        assert_eq!(world.apply(command), Outcome::FenceRegion(Err(FenceRegionRefused::IsFenced { by })));
    }
    world.now += 1_000_000_000;
    world.propose(CollectBlobs { before: crate::LogTime(world.now), limit: 100 }).unwrap();
    assert_eq!(world.query().position().unwrap(), last);
    assert_eq!(world.query().tag(&repository(1), &tag(1)).unwrap(), Some(digest(1)));
    // Asked again it says the same, and a lower one it does not take.
    assert_eq!(world.propose(fence(by, HOME)), Ok(Fenced { last }));
    let lower = world.propose(fence(epoch(1, ClusterId(99)), HOME));
    assert_eq!(lower, Err(FenceRegionRefused::NotHigher { known: by }));
    // Only by hand, and only under a higher epoch, it is home again.
    let back = PromoteRegion { epoch: epoch(3, HOME), handed_over: None };
    world.propose(back).unwrap();
    world.propose(put_manifest(2, &[2])).unwrap();
    let position = world.query().position().unwrap();
    assert_eq!(position, Position { epoch: 3, sequence: last.sequence + 1 });
}

#[test]
fn another_line_of_epochs_fences_nobody() {
    let mut world = World::new();
    let other = FenceRegion { by: epoch(9, ClusterId(99)), origin: ClusterId(98), own: HOME };
    assert_eq!(world.propose(other), Err(FenceRegionRefused::OtherOrigin { origin: HOME }));
    world.propose(put_manifest(1, &[1])).unwrap();
}

#[test]
fn a_forced_promotion_says_where_the_histories_part_and_gives_up_what_is_not_whole() {
    let mut world = mirror(5);
    let before = world.query().position().unwrap();
    let handed_over = PromoteRegion { handed_over: Some(Position { epoch: 1, sequence: 5 }), ..promote(2) };
    assert!(matches!(world.propose(handed_over), Err(PromoteRegionRefused::NotLevel { waiting: 3, .. })));
    let promotion = world.propose(promote(2)).unwrap();
    assert_eq!((promotion.from, promotion.fork, promotion.given_up), (HOME, Position { epoch: 1, sequence: 2 }, 3));
    let region = world.query().region(MIRROR).unwrap();
    assert_eq!((region.epoch, region.origin, region.standing), (epoch(2, MIRROR), HOME, Standing::Home));
    assert_eq!(region.promotion, Some(promotion));
    // What is whole is served, what is not is not known any more.
    assert_eq!(world.query().tag(&repository(1), &tag(2)).unwrap(), Some(digest(2)));
    assert_eq!(world.query().tag(&repository(1), &tag(4)).unwrap(), None);
    assert_eq!(world.query().following().unwrap(), None);
    // It takes changes, in an epoch of its own; who followed it goes on, and the former home does not.
    world.propose(put_manifest(9, &[9])).unwrap();
    let position = Position { epoch: 2, sequence: before.sequence + 1 };
    assert_eq!(world.query().position().unwrap(), position);
    let next = world.query().changes(before, 10).unwrap();
    assert_eq!(next.iter().map(|change| change.position).collect::<Vec<_>>(), [position]);
    let beyond = Position { sequence: before.sequence + 1, ..before };
    assert!(world.query().changes(beyond, 10).is_err(), "nobody was there in the former epoch");
    super::invariants::check(&world.state.read().unwrap());
    // Asking again does no harm, and another one comes too late.
    assert_eq!(world.propose(promote(2)), Ok(promotion));
    assert!(matches!(world.propose(promote(3)), Err(PromoteRegionRefused::IsHome { .. })));
}

#[test]
fn a_handover_is_promoted_only_when_all_is_here() {
    let mut world = mirror(2);
    let last = |sequence| Some(Position { epoch: 1, sequence });
    // Home has told of the epoch that is to begin.
    world.propose(fence(epoch(2, MIRROR), MIRROR)).unwrap();
    assert_eq!(world.query().region(MIRROR).unwrap().standing, Standing::Mirror);
    let early = world.propose(PromoteRegion { handed_over: last(3), ..promote(2) });
    assert!(matches!(early, Err(PromoteRegionRefused::NotLevel { .. })));
    let promotion = world.propose(PromoteRegion { handed_over: last(2), ..promote(2) }).unwrap();
    assert_eq!((promotion.fork.sequence, promotion.given_up), (2, 0));
}

#[test]
fn a_mirror_that_follows_goes_on_where_the_epoch_rises_without_a_gap() {
    let mut world = mirror(2);
    let change = |epoch, sequence| {
        let kind = ChangeKind::TagDeleted { repository: repository(1), tag: tag(1) };
        ReceivedChange { position: Position { epoch, sequence }, at: crate::LogTime(9), kind, manifest: None }
    };
    let mut receive = |epoch, after, next| {
        let after = Position { epoch, sequence: after };
        world.propose(ReceiveChanges { home: HOME, after, changes: vec![next] })
    };
    assert!(receive(1, 2, change(2, 4)).is_err(), "a gap is a gap in any epoch");
    receive(1, 2, change(2, 3)).unwrap();
    assert!(receive(2, 3, change(1, 4)).is_err(), "epochs do not fall");
    receive(2, 3, change(2, 4)).unwrap();
}

proptest! {
    /// Regions that hear of each other in whichever order: whoever knows of a higher epoch than its own takes nothing, and
    /// when all have heard of the highest, exactly its home does.
    #[test]
    fn of_regions_that_know_of_each_other_one_is_home(
        steps in proptest::collection::vec((0..3_usize, 0..3_usize, any::<bool>()), 1..30),
    ) {
        let clusters = [HOME, MIRROR, ClusterId(9)];
        let mut worlds = [World::new(), mirror(2), mirror(2)];
        let epoch_of = |worlds: &[World; 3], index: usize| worlds[index].query().region(clusters[index]).unwrap();
        let tell = |worlds: &mut [World; 3], from: usize, to: usize| {
            let known = epoch_of(worlds, from).epoch;
            let before = epoch_of(worlds, to).epoch;
            // One that is a cluster's own is not told to it.
            let _ = worlds[to].propose(fence(known, clusters[to]));
            assert_eq!(epoch_of(worlds, to).epoch, before.max(known));
        };
        for (from, to, is_promotion) in steps {
            if is_promotion {
                let next = epoch_of(&worlds, from).epoch.next(clusters[from]);
                let _ = worlds[from].propose(PromoteRegion { epoch: next, handed_over: None });
            } else if from != to {
                tell(&mut worlds, from, to);
            }
        }
        for from in 0..3 {
            for to in (0..3).filter(|to| *to != from) {
                tell(&mut worlds, from, to);
            }
        }
        let highest = (0..3).map(|index| epoch_of(&worlds, index).epoch).max().unwrap();
        for (index, cluster) in clusters.into_iter().enumerate() {
            let region = epoch_of(&worlds, index);
            prop_assert_eq!(region.epoch, highest);
            prop_assert_eq!(region.standing == Standing::Home, highest.home == cluster);
        }
    }
}
