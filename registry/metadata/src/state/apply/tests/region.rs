//! Which region is home: epochs, fencing, where histories part.

use std::collections::BTreeMap;

use proptest::prelude::*;
use roadstead_oci::ObjectKey;
use uuid::Uuid;

use crate::fixtures::{World, digest, new_manifest, put_manifest, repository, tag, verified};
use crate::{
    Advanced, ChangeKind, ClusterId, CollectBlobs, Comparison, DeleteTag, DismissAside, DismissMirror, FenceRegion,
    FenceRegionRefused, Fenced, HandOverRegion, HandoverStep, KeepAside, KeepAsideRefused, KeyState, LinkBlob,
    ManifestContent, NewManifest, NoteRemote, Outcome, Position, PromoteRegion, PromoteRegionRefused, PutManifest,
    ReceiveChanges, ReceiveChangesRefused, ReceiveChosen, ReceiveSnapshot, ReceiveSnapshotRefused, ReceivedChange,
    RegionEpoch, RemoteProgress, ReserveKeys, SnapshotStep, Standing,
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
fn a_mirror_of_a_part_is_not_handed_over_to_and_by_force_says_of_nothing_that_all_is_here() {
    let mut world = World::new();
    let until = Position { epoch: 1, sequence: 2 };
    let none = Vec::new();
    world
        .propose(ReceiveChosen { home: HOME, filter: digest(1), after: Position::default(), until, changes: none })
        .unwrap();
    let handed_over = PromoteRegion { handed_over: Some(until), ..promote(2) };
    let refused = PromoteRegionRefused::NotLevel { cursor: until, waiting: 0, wanted: 0 };
    assert_eq!(world.propose(handed_over), Err(refused));
    let promotion = world.propose(promote(2)).unwrap();
    assert_eq!((promotion.from, promotion.fork), (HOME, Position::default()));
    assert_eq!(world.query().chosen_by().unwrap(), None);
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

#[test]
fn what_a_comparison_has_brought_and_waits_may_be_any_change_of_home() {
    let mut world = World::new();
    let kind = ChangeKind::ManifestPut { repository: repository(1), digest: digest(1), tags: vec![tag(1)] };
    let waits = ReceivedChange { position: Position::default(), at: crate::LogTime(9), kind, manifest: None };
    let compare = |world: &mut World, step| {
        world.propose(ReceiveSnapshot { home: HOME, comparison: Comparison(1), step }).unwrap();
    };
    let all = Position { epoch: 1, sequence: 40 };
    for step in [SnapshotStep::Begins, SnapshotStep::Changes(vec![waits]), SnapshotStep::Ends(all)] {
        compare(&mut world, step);
    }
    let progress = world.query().progress().unwrap().unwrap();
    assert!((1..=40).all(|sequence| !progress.has(Position { epoch: 1, sequence })), "{progress:?}");
    let promotion = world.propose(promote(2)).unwrap();
    assert_eq!(promotion.fork, Position::default(), "the former home keeps aside whatever may be missing");
}

#[test]
fn a_mirror_says_what_it_has_received_and_what_of_that_waits() {
    let world = mirror(5);
    let progress = world.query().progress().unwrap().unwrap();
    let at = |sequence| Position { epoch: 1, sequence };
    // What home did not send along waits, and what is behind it in its repository.
    assert_eq!(progress, RemoteProgress { received: at(5), waiting: vec![3, 4, 5] });
    let has: Vec<_> = (1..=6).map(|sequence| progress.has(at(sequence))).collect();
    assert_eq!(has, [true, true, false, false, false, false]);
    assert!(progress.has_all_up_to(at(2)) && !progress.has_all_up_to(at(3)));
    assert!(!progress.has(Position { epoch: 2, sequence: 1 }), "of another history it has nothing");
    assert_eq!(World::new().query().progress().unwrap(), None);
}

#[test]
fn what_a_mirror_says_is_known_until_it_is_dismissed() {
    let mut world = World::new();
    let progress = |sequence| RemoteProgress { received: Position { epoch: 1, sequence }, waiting: Vec::new() };
    let note = |mirror: &str, sequence| NoteRemote { mirror: mirror.to_owned(), progress: progress(sequence) };
    for (mirror, sequence) in [("eu", 1), ("us", 2), ("eu", 3)] {
        world.propose(note(mirror, sequence)).unwrap();
    }
    let known = |world: &World| world.query().remotes().unwrap().into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(known(&world), BTreeMap::from([("eu".to_owned(), progress(3)), ("us".to_owned(), progress(2))]));
    world.propose(DismissMirror { name: "eu".to_owned() }).unwrap();
    assert_eq!(known(&world), BTreeMap::from([("us".to_owned(), progress(2))]));
}

/// A home that knows, of three manifests with a blob each, that the second and third are not at its successor.
fn fenced_home() -> (World, Position) {
    let mut world = World::new();
    let mut fork = Position::default();
    for number in 1..=3_u8 {
        let key = ObjectKey::blob(Uuid::from_u128(number.into()));
        let blob = number + 10;
        world.propose(ReserveKeys { keys: vec![key.clone()] }).unwrap();
        world.propose(LinkBlob::new(repository(1), verified(blob), 5, key, None)).unwrap();
        let new = NewManifest { blobs: vec![digest(blob)], tags: vec![tag(number)], ..new_manifest(number) };
        world.propose(PutManifest::new(verified(number), new)).unwrap();
        if number == 1 {
            fork = world.query().position().unwrap();
        }
    }
    world.propose(DeleteTag { repository: repository(1), tag: tag(3) }).unwrap();
    world.propose(fence(epoch(2, MIRROR), HOME)).unwrap();
    (world, fork)
}

/// What the comparison with a new home that has nothing but manifest 1 gives up.
fn give_up(world: &mut World) {
    let at = crate::LogTime(9);
    let position = Position { epoch: 2, sequence: 40 };
    let mut changes = Vec::new();
    assert_eq!(receive_snapshot(world, SnapshotStep::Begins), Ok(Advanced::default()));
    for number in 2..=3_u8 {
        let gone = ChangeKind::ManifestDeleted { repository: repository(1), digest: digest(number) };
        let unlinked = ChangeKind::BlobUnlinked { repository: repository(1), digest: digest(number + 10) };
        changes.extend([gone, unlinked].map(|kind| ReceivedChange { position, at, kind, manifest: None }));
    }
    receive_snapshot(world, SnapshotStep::Changes(changes)).unwrap();
    receive_snapshot(world, SnapshotStep::Ends(position)).unwrap();
}

fn receive_snapshot(world: &mut World, step: SnapshotStep) -> Result<Advanced, ReceiveSnapshotRefused> {
    world.propose(ReceiveSnapshot { home: MIRROR, comparison: Comparison(1), step })
}

fn has_object(world: &World, blob: u8) -> bool {
    let objects = world.query().objects(false, None, 100).unwrap();
    objects.iter().any(|object| object.digest == digest(blob))
}

fn collect_all(world: &mut World) {
    for _ in 0..3 {
        world.now += 1_000_000_000;
        world.propose(CollectBlobs { before: crate::LogTime(world.now), limit: 100 }).unwrap();
        super::invariants::check(&world.state.read().unwrap());
    }
}

#[test]
fn what_the_new_home_does_not_have_is_kept_aside_until_it_is_dismissed() {
    let (mut world, fork) = fenced_home();
    let mut kept = 0;
    loop {
        let page = world.propose(KeepAside { after: fork, limit: 1 }).unwrap();
        kept += page.kept;
        if !page.more {
            break;
        }
    }
    assert_eq!(kept, 3, "two manifests and the deletion of a tag; blobs alone are none");
    give_up(&mut world);
    let aside = world.query().aside(None, 10).unwrap();
    let seen: Vec<_> = aside.iter().map(|change| (change.manifest.is_some(), change.is_so)).collect();
    assert_eq!(seen, [(true, false), (true, false), (false, true)]);
    assert!(aside.iter().all(|change| change.position > fork));
    // Nothing of it is served, and nothing of it is collected.
    assert_eq!(world.query().tag(&repository(1), &tag(2)).unwrap(), None);
    assert!(world.query().manifest(&repository(1), &digest(2)).unwrap().is_none());
    assert!(world.query().blob(&repository(1), &digest(12)).unwrap().is_none());
    collect_all(&mut world);
    assert!(has_object(&world, 12) && has_object(&world, 13));
    assert_eq!(world.query().aside_at(aside[1].position).unwrap().as_ref(), Some(&aside[1]));
    // One is dismissed, then the rest.
    let first = aside[0].position;
    assert_eq!(world.propose(DismissAside { position: Some(first), limit: 1 }), Ok(1));
    assert_eq!(world.propose(DismissAside { position: Some(first), limit: 1 }), Ok(0));
    collect_all(&mut world);
    assert!(!has_object(&world, 12) && has_object(&world, 13) && has_object(&world, 11));
    assert_eq!(world.propose(DismissAside { position: None, limit: 10 }), Ok(2));
    collect_all(&mut world);
    assert!(!has_object(&world, 13));
    assert_eq!(world.query().count_aside(10).unwrap(), 0);
}

#[test]
fn a_home_that_was_gives_nothing_up_before_it_is_kept_aside() {
    let (mut world, fork) = fenced_home();
    let receive = ReceiveChanges { home: MIRROR, after: Position::default(), changes: Vec::new() };
    assert_eq!(world.propose(receive), Err(ReceiveChangesRefused::OtherHome { home: MIRROR }));
    assert_eq!(receive_snapshot(&mut world, SnapshotStep::Begins), Err(ReceiveSnapshotRefused::NotKeptAside));
    assert!(world.propose(KeepAside { after: fork, limit: 1 }).unwrap().more);
    assert_eq!(receive_snapshot(&mut world, SnapshotStep::Begins), Err(ReceiveSnapshotRefused::NotKeptAside));
    // Where the histories parted is not known to whoever asks now, and is remembered.
    assert!(!world.propose(KeepAside { after: Position::default(), limit: 100 }).unwrap().more);
    give_up(&mut world);
    assert_eq!(world.query().aside(None, 10).unwrap().len(), 3);
    let late = world.propose(KeepAside { after: Position::default(), limit: 10 });
    assert_eq!(late, Err(KeepAsideRefused::NotFenced), "it is a mirror now");
}

#[test]
fn where_it_is_not_known_where_histories_parted_everything_is_kept_aside_and_told_apart() {
    let (mut world, _fork) = fenced_home();
    world.propose(KeepAside { after: Position::default(), limit: 100 }).unwrap();
    give_up(&mut world);
    let aside = world.query().aside(None, 10).unwrap();
    assert_eq!(aside.iter().map(|change| change.is_so).collect::<Vec<_>>(), [true, false, false, true]);
    collect_all(&mut world);
    assert!(has_object(&world, 12) && has_object(&world, 13));
}

#[test]
fn a_replica_that_has_not_heard_that_it_is_a_mirrors_now_decides_nothing() {
    let (mut world, fork) = fenced_home();
    world.propose(KeepAside { after: fork, limit: 100 }).unwrap();
    give_up(&mut world);
    let by = epoch(2, MIRROR);
    for command in [put_manifest(5, &[5]).into(), DeleteTag { repository: repository(1), tag: tag(1) }.into()] {
        let command: crate::Command = command;
        assert_eq!(world.apply(command), Outcome::FenceRegion(Err(FenceRegionRefused::IsFenced { by })));
    }
}

#[test]
fn a_large_manifest_that_is_kept_aside_keeps_its_object() {
    let mut world = World::new();
    let key = ObjectKey::manifest(digest(1), Uuid::from_u128(1));
    world.propose(ReserveKeys { keys: vec![key.clone()] }).unwrap();
    let new = NewManifest { content: ManifestContent::Object(key.clone()), tags: vec![tag(1)], ..new_manifest(1) };
    world.propose(PutManifest::new(verified(1), new)).unwrap();
    world.propose(fence(epoch(2, MIRROR), HOME)).unwrap();
    world.propose(KeepAside { after: Position::default(), limit: 10 }).unwrap();
    let position = Position { epoch: 2, sequence: 40 };
    let kind = ChangeKind::ManifestDeleted { repository: repository(1), digest: digest(1) };
    let changes = vec![ReceivedChange { position, at: crate::LogTime(9), kind, manifest: None }];
    receive_snapshot(&mut world, SnapshotStep::Begins).unwrap();
    receive_snapshot(&mut world, SnapshotStep::Changes(changes)).unwrap();
    receive_snapshot(&mut world, SnapshotStep::Ends(position)).unwrap();
    super::invariants::check(&world.state.read().unwrap());
    assert_eq!(world.query().key_state(&key).unwrap(), Some(KeyState::Linked));
    world.propose(DismissAside { position: None, limit: 10 }).unwrap();
    super::invariants::check(&world.state.read().unwrap());
    assert_eq!(world.query().key_state(&key).unwrap(), Some(KeyState::Condemned));
}

fn hand_over(to: RegionEpoch, step: HandoverStep) -> HandOverRegion {
    HandOverRegion { to, origin: HOME, own: HOME, step }
}

#[test]
fn a_handover_that_has_not_ended_is_taken_back_and_never_ends() {
    let mut world = World::new();
    world.propose(put_manifest(1, &[1])).unwrap();
    let last = world.query().position().unwrap();
    let to = epoch(2, MIRROR);
    assert_eq!(world.propose(hand_over(to, HandoverStep::TakenBack)), Err(FenceRegionRefused::NotHandingOver));
    for _ in 0..2 {
        assert_eq!(world.propose(hand_over(to, HandoverStep::Begins)), Ok(Fenced { last }));
    }
    assert_eq!(world.query().region(HOME).unwrap().standing, Standing::Fenced);
    assert_eq!(world.query().handing_over().unwrap(), Some(to));
    world.propose(hand_over(to, HandoverStep::TakenBack)).unwrap();
    let region = world.query().region(HOME).unwrap();
    assert_eq!((region.standing, region.epoch), (Standing::Home, epoch(3, HOME)));
    // The feed goes on as if nothing had been.
    world.propose(put_manifest(2, &[2])).unwrap();
    assert_eq!(world.query().position().unwrap().epoch, last.epoch);
    let late = world.propose(hand_over(to, HandoverStep::Ends));
    assert_eq!(late, Err(FenceRegionRefused::NotHigher { known: epoch(3, HOME) }));
    let again = world.propose(hand_over(to, HandoverStep::Begins));
    assert_eq!(again, Err(FenceRegionRefused::NotHigher { known: epoch(3, HOME) }));
    // Nor does the mirror become home under that epoch, once it has heard.
    let mut heard = mirror(1);
    heard.propose(fence(to, MIRROR)).unwrap();
    heard.propose(fence(epoch(3, HOME), MIRROR)).unwrap();
    let refused = PromoteRegionRefused::NotHigher { known: epoch(3, HOME) };
    assert_eq!(heard.propose(promote(2)), Err(refused));
}

#[test]
fn a_handover_that_has_ended_is_not_taken_back() {
    let mut world = World::new();
    let to = epoch(2, MIRROR);
    world.propose(hand_over(to, HandoverStep::Begins)).unwrap();
    for _ in 0..2 {
        world.propose(hand_over(to, HandoverStep::Ends)).unwrap();
    }
    assert_eq!(world.propose(hand_over(to, HandoverStep::TakenBack)), Err(FenceRegionRefused::NotHandingOver));
    // Asked once more, as by a mirror that was restarted, it has ended still.
    world.propose(hand_over(to, HandoverStep::Begins)).unwrap();
    assert_eq!(world.query().handing_over().unwrap(), None);
    assert_eq!(world.query().region(HOME).unwrap().standing, Standing::Fenced);
    // Nor is one of which it became known that it has, or that a later epoch has begun.
    for known in [to, epoch(3, MIRROR)] {
        let mut world = World::new();
        world.propose(hand_over(to, HandoverStep::Begins)).unwrap();
        world.propose(fence(known, HOME)).unwrap();
        assert_eq!(world.propose(hand_over(to, HandoverStep::TakenBack)), Err(FenceRegionRefused::NotHandingOver));
    }
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
