//! A mirror behind any feed: pages that come twice or late, blobs that come in any order or never, manifests that are gone
//! before anybody asked.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use roadstead_oci::{Digest, ObjectKey, RepositoryName, Tag};
use uuid::Uuid;

use crate::fixtures::{World, digest, new_manifest, repository, tag, verified};
use crate::{
    AdmitMirror, AdvanceInbox, Advanced, AnnouncedManifest, AnnouncedTag, Change, ChangeKind, ClusterId, CollectBlobs,
    Comparison, DeleteManifest, DeleteTag, DismissMirror, Examined, ForsakeBlob, LinkBlob, LogTime, MendManifest,
    NewManifest, Position, PutManifest, ReceiveChanges, ReceiveChangesRefused, ReceiveChosen, ReceiveSnapshot,
    ReceiveSnapshotRefused, ReceivedChange, ReserveKeys, ResolveManifest, SetQuarantine, SnapshotStep, UnlinkBlob,
    Unresolved, Wanted,
};

const HOME: ClusterId = ClusterId(8);
const REPOSITORIES: [u8; 2] = [1, 2];
const MANIFESTS: [u8; 4] = [1, 2, 3, 4];
const TAGS: [u8; 3] = [1, 2, 3];
const BLOBS: [u8; 3] = [11, 12, 13];

/// What a manifest names.
fn blobs_of(manifest: u8) -> Vec<Digest> {
    let named: &[u8] = match manifest {
        1 => &[11],
        2 => &[11, 12],
        3 => &[12, 13],
        _ => &[],
    };
    named.iter().copied().map(digest).collect()
}

fn put(repo: u8, manifest: u8, tags: Vec<Tag>, sparse: bool) -> PutManifest {
    let new =
        NewManifest { repository: repository(repo), blobs: blobs_of(manifest), tags, sparse, ..new_manifest(manifest) };
    PutManifest::new(verified(manifest), new)
}

fn number_of(digest_of: &Digest) -> u8 {
    MANIFESTS.into_iter().find(|number| digest(*number) == *digest_of).expect("a manifest of these tests")
}

fn repository_number(name: &RepositoryName) -> u8 {
    REPOSITORIES.into_iter().find(|number| repository(*number) == *name).expect("a repository of these tests")
}

/// Home, its mirror, and how home's tags have changed.
struct Two {
    home: World,
    mirror: World,
    keys: u128,
    /// Where each tag pointed, from its first change on.
    histories: BTreeMap<(RepositoryName, Tag), Vec<Option<Digest>>>,
    /// How far into its history each tag of the mirror has come.
    seen: BTreeMap<(RepositoryName, Tag), usize>,
    /// What home has said not to have, and how far it was then.
    unknown: Vec<(Wanted, Position)>,
}

#[derive(Clone, Debug)]
enum Step {
    Link(u8, u8),
    Put(u8, u8, Vec<u8>),
    DeleteTag(u8, u8),
    DeleteManifest(u8, u8),
    Collect,
    /// The next so many changes come to the mirror.
    Send(usize),
    /// They come again.
    SendAgain,
    /// A blob comes, if it is wanted.
    Arrive(u8),
    /// Home is asked for a blob that is wanted, and does not have it.
    Ask(u8),
    /// The answers of home come, all of them.
    Forsake,
    /// Somebody looks after the inbox.
    Resolve,
}

fn any_step() -> impl Strategy<Value = Step> {
    let (repo, manifest, tag) = (1..3_u8, 1..5_u8, 1..4_u8);
    prop_oneof![
        4 => (repo.clone(), 11..14_u8).prop_map(|(repo, blob)| Step::Link(repo, blob)),
        6 => (repo.clone(), manifest.clone(), proptest::sample::subsequence(TAGS.to_vec(), 0..=2))
            .prop_map(|(repo, manifest, tags)| Step::Put(repo, manifest, tags)),
        1 => (repo.clone(), tag).prop_map(|(repo, tag)| Step::DeleteTag(repo, tag)),
        2 => (repo, manifest).prop_map(|(repo, manifest)| Step::DeleteManifest(repo, manifest)),
        1 => Just(Step::Collect),
        5 => (1..6_usize).prop_map(Step::Send),
        1 => Just(Step::SendAgain),
        4 => (11..14_u8).prop_map(Step::Arrive),
        2 => (11..14_u8).prop_map(Step::Ask),
        1 => Just(Step::Forsake),
        2 => Just(Step::Resolve),
    ]
}

impl Two {
    fn new() -> Self {
        let (home, mirror) = (World::new(), World::new());
        Self { home, mirror, keys: 0, histories: BTreeMap::new(), seen: BTreeMap::new(), unknown: Vec::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Link(repo, blob) => {
                let key = self.key();
                self.home.propose(ReserveKeys { keys: vec![key.clone()] }).unwrap();
                self.home.propose(LinkBlob::new(repository(repo), verified(blob), 5, key, None)).unwrap();
            }
            Step::Put(repo, manifest, tags) => {
                // Refused if a blob is missing, as at any home.
                let tags = tags.into_iter().map(tag).collect();
                let _ = self.home.propose(put(repo, manifest, tags, false));
            }
            Step::DeleteTag(repo, number) => {
                let _ = self.home.propose(DeleteTag { repository: repository(repo), tag: tag(number) });
            }
            Step::DeleteManifest(repo, manifest) => {
                let delete = DeleteManifest { repository: repository(repo), digest: digest(manifest) };
                let _ = self.home.propose(delete);
            }
            Step::Collect => {
                let before = LogTime(self.home.now);
                self.home.propose(CollectBlobs { before, limit: 100 }).unwrap();
            }
            Step::Send(count) => {
                let after = self.cursor();
                self.send(after, count).unwrap();
            }
            Step::SendAgain => {
                let (after, cursor) = (Position::default(), self.cursor());
                let sent = self.send(after, 3);
                if cursor != after {
                    assert!(matches!(sent, Err(ReceiveChangesRefused::NotNext { .. })), "{sent:?}");
                }
            }
            Step::Arrive(blob) => self.arrive(blob),
            Step::Ask(blob) => self.ask(blob),
            Step::Forsake => self.forsake(),
            Step::Resolve => self.resolve(),
        }
        self.note_history();
        self.check();
    }

    fn key(&mut self) -> ObjectKey {
        self.keys += 1;
        ObjectKey::blob(Uuid::from_u128(self.keys))
    }

    fn cursor(&self) -> Position {
        self.mirror.query().following().unwrap().map(|following| following.position).unwrap_or_default()
    }

    fn send(&mut self, after: Position, count: usize) -> Result<(), ReceiveChangesRefused> {
        let changes = self.page(after, count);
        self.mirror.propose(ReceiveChanges { home: HOME, after, changes }).map(|_advanced| ())
    }

    fn page(&self, after: Position, count: usize) -> Vec<ReceivedChange> {
        let changes = self.home.query().changes(after, count).unwrap();
        changes.into_iter().map(|change| self.sent(change)).collect()
    }

    /// A change as home sends it: with the manifest, if it is there still. Manifest 3 is too large for that.
    fn sent(&self, change: Change) -> ReceivedChange {
        let Change { position, at, kind } = change;
        let manifest = match &kind {
            ChangeKind::ManifestPut { repository, digest, tags } => {
                let number = number_of(digest);
                let is_there = self.home.query().manifest(repository, digest).unwrap().is_some();
                let repo = repository_number(repository);
                (is_there && number != 3).then(|| put(repo, number, tags.clone(), true))
            }
            _ => None,
        };
        ReceivedChange { position, at, kind, manifest }
    }

    fn arrive(&mut self, blob: u8) {
        let Some(wanting) = self.mirror.query().wanting(&digest(blob), 1).unwrap().pop() else { return };
        if self.home.query().blob(&wanting, &digest(blob)).unwrap().is_some() {
            let key = self.key();
            self.mirror.propose(ReserveKeys { keys: vec![key.clone()] }).unwrap();
            self.mirror.propose(LinkBlob::new(wanting, verified(blob), 5, key, None)).unwrap();
        } else {
            self.ask(blob);
            self.forsake();
        }
    }

    fn ask(&mut self, blob: u8) {
        let newest = self.home.query().position().unwrap();
        let wanted = self.mirror.query().wanted(None, 100).unwrap().into_iter();
        let gone = wanted.filter(|wanted| {
            wanted.digest == digest(blob)
                && self.home.query().blob(&wanted.repository, &wanted.digest).unwrap().is_none()
        });
        self.unknown.extend(gone.map(|wanted| (wanted, newest)));
    }

    fn forsake(&mut self) {
        for (Wanted { repository, digest, arrival, .. }, newest) in std::mem::take(&mut self.unknown) {
            if self.cursor() >= newest {
                self.mirror.propose(ForsakeBlob { repository, digest, arrival }).unwrap();
            }
        }
    }

    fn resolve(&mut self) {
        let (found, _) = self.mirror.query().unresolved(None, 100).unwrap();
        for unresolved in found {
            match unresolved {
                Unresolved::Ready(repository) => {
                    self.mirror.propose(AdvanceInbox { repository }).unwrap();
                }
                Unresolved::Manifest { repository, arrival, digest, tags } => {
                    let is_there = self.home.query().manifest(&repository, &digest).unwrap().is_some();
                    let repo = repository_number(&repository);
                    let manifest = is_there.then(|| put(repo, number_of(&digest), tags, true));
                    // Refused as long as its blobs are on their way.
                    let _ = self.mirror.propose(ResolveManifest { repository, arrival, manifest });
                }
            }
        }
    }

    /// Everything comes.
    fn settle(&mut self) {
        let newest = self.home.query().position().unwrap();
        while self.cursor() != newest && newest.sequence > 0 {
            self.step(Step::Send(4));
        }
        for _ in 0..12 {
            for blob in BLOBS {
                self.step(Step::Arrive(blob));
                self.step(Step::Arrive(blob));
            }
            self.step(Step::Resolve);
        }
    }

    fn note_history(&mut self) {
        for (repo, number) in places() {
            let now = self.home.query().tag(&repo, &number).unwrap();
            let history = self.histories.entry((repo, number)).or_insert_with(|| vec![None]);
            if history.last() != Some(&now) {
                history.push(now);
            }
        }
    }

    /// Whatever has come: tags go through home's history without going back (P9), and what they name is whole (P8).
    fn check(&mut self) {
        for place in places() {
            let query = self.mirror.query();
            let now = query.tag(&place.0, &place.1).unwrap();
            let history = &self.histories[&place];
            let seen = self.seen.entry(place.clone()).or_default();
            let further = history[*seen..].iter().position(|former| *former == now);
            let further = further.unwrap_or_else(|| panic!("{place:?} is at {now:?} after {seen} of {history:?}"));
            *seen += further;
            let Some(pointed) = now else { continue };
            assert!(query.manifest(&place.0, &pointed).unwrap().is_some(), "{place:?} points at nothing");
            for blob in blobs_of(number_of(&pointed)) {
                assert!(query.blob(&place.0, &blob).unwrap().is_some(), "{place:?} is not whole");
            }
        }
    }
}

fn places() -> impl Iterator<Item = (RepositoryName, Tag)> {
    REPOSITORIES.into_iter().flat_map(|repo| TAGS.into_iter().map(move |number| (repository(repo), tag(number))))
}

/// What clients can see.
type Visible = (Vec<Option<Digest>>, BTreeSet<(RepositoryName, Digest)>, BTreeSet<(RepositoryName, Digest)>);

fn visible(world: &World) -> Visible {
    let query = world.query();
    let tags = places().map(|(repo, number)| query.tag(&repo, &number).unwrap()).collect();
    let pairs = |numbers: &[u8]| -> Vec<(RepositoryName, Digest)> {
        let digests = numbers.iter().copied().map(digest);
        digests.flat_map(|digest| REPOSITORIES.map(|repo| (repository(repo), digest))).collect()
    };
    let manifests = pairs(&MANIFESTS).into_iter().filter(|(repo, it)| query.manifest(repo, it).unwrap().is_some());
    let blobs = pairs(&BLOBS).into_iter().filter(|(repo, it)| query.blob(repo, it).unwrap().is_some());
    (tags, manifests.collect(), blobs.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn p8_p9_whatever_comes_in_whichever_order_a_mirror_is_whole_in_order_and_ends_as_home_is(
        steps in vec(any_step(), 1..60),
    ) {
        let mut two = Two::new();
        for step in steps {
            two.step(step);
        }
        two.settle();
        prop_assert_eq!(visible(&two.mirror), visible(&two.home));
        let following = two.mirror.query().following().unwrap();
        if let Some(following) = following {
            prop_assert_eq!((following.waiting, following.wanted_blobs, following.wanted_bytes), (0, 0, 0));
        }
        for (repo, number) in places() {
            prop_assert_eq!(two.mirror.query().announced_tag(&repo, &number).unwrap(), AnnouncedTag::Nothing);
        }
        for (repo, manifest) in visible(&two.home).1 {
            let announced = two.mirror.query().announced_manifest(&repo, &manifest).unwrap();
            prop_assert_eq!(announced, AnnouncedManifest::Nothing);
        }
    }
}

#[test]
fn p8_a_tag_moves_in_the_entry_that_links_its_last_blob() {
    let mut two = Two::new();
    for step in [Step::Link(1, 11), Step::Link(1, 12), Step::Put(1, 2, vec![1]), Step::Send(10), Step::Arrive(11)] {
        two.step(step);
    }
    let query = two.mirror.query();
    assert_eq!(query.tag(&repository(1), &tag(1)).unwrap(), None);
    assert_eq!(query.announced_tag(&repository(1), &tag(1)).unwrap(), AnnouncedTag::At(digest(2)));
    assert_eq!(query.following().unwrap().unwrap().wanted_bytes, 5);
    two.step(Step::Arrive(12));
    let query = two.mirror.query();
    assert_eq!(query.tag(&repository(1), &tag(1)).unwrap(), Some(digest(2)));
    assert_eq!(query.announced_tag(&repository(1), &tag(1)).unwrap(), AnnouncedTag::Nothing);
}

#[test]
fn p8_a_blob_that_was_pushed_again_since_home_was_asked_is_waited_for() {
    let mut two = Two::new();
    for step in [Step::Link(1, 11), Step::Send(10)] {
        two.step(step);
    }
    two.home.propose(UnlinkBlob { repository: repository(1), digest: digest(11) }).unwrap();
    for step in [Step::Ask(11), Step::Link(1, 11), Step::Put(1, 1, vec![1]), Step::Send(10), Step::Forsake] {
        two.step(step);
    }
    let query = two.mirror.query();
    assert_eq!(query.tag(&repository(1), &tag(1)).unwrap(), None, "its blob has not come");
    assert_eq!(query.is_wanted(&repository(1), &digest(11)).unwrap(), Some(5));
    two.step(Step::Arrive(11));
    assert_eq!(two.mirror.query().tag(&repository(1), &tag(1)).unwrap(), Some(digest(1)));
}

#[test]
fn whatever_waits_is_looked_at_once() {
    let mut two = Two::new();
    for step in
        [Step::Link(1, 11), Step::Put(1, 1, vec![1]), Step::Link(2, 12), Step::Link(2, 13), Step::Put(2, 3, vec![1])]
    {
        two.step(step);
    }
    two.step(Step::Send(10));
    let query = two.mirror.query();
    // The first waits for its blob, the second for its bytes.
    let (found, last) = query.unresolved(None, 10).unwrap();
    assert!(matches!(&found[..], [Unresolved::Manifest { .. }]) && last.is_none(), "{found:?}");
    let (found, last) = query.unresolved(None, 1).unwrap();
    assert_eq!((found.len(), last), (0, Some(repository(1))));
    let (found, last) = query.unresolved(Some(&repository(1)), 1).unwrap();
    assert_eq!((found.len(), last), (1, Some(repository(2))));
}

#[test]
fn claim_10_a_blob_that_another_repository_holds_is_not_wanted_again() {
    let mut two = Two::new();
    for step in [Step::Link(1, 11), Step::Send(10), Step::Arrive(11), Step::Link(2, 11), Step::Send(10)] {
        two.step(step);
    }
    assert_eq!(two.mirror.query().following().unwrap().unwrap().wanted_blobs, 0);
    assert!(two.mirror.query().blob(&repository(2), &digest(11)).unwrap().is_some());
}

#[test]
fn p9_only_what_follows_the_cursor_is_received_and_only_from_one_home() {
    let mut two = Two::new();
    two.step(Step::Link(1, 11));
    two.step(Step::Link(1, 12));
    let changes = two.page(Position::default(), 10);
    let gap = ReceiveChanges { home: HOME, after: Position::default(), changes: changes[1..].to_vec() };
    let refused = two.mirror.propose(gap).unwrap_err();
    assert_eq!(refused, ReceiveChangesRefused::Gap { after: Position::default() });
    let all = ReceiveChanges { home: HOME, after: Position::default(), changes: changes.clone() };
    two.mirror.propose(all.clone()).unwrap();
    let cursor = changes[1].position;
    assert_eq!(two.mirror.propose(all).unwrap_err(), ReceiveChangesRefused::NotNext { cursor });
    let other = ReceiveChanges { home: ClusterId(9), after: cursor, changes: Vec::new() };
    assert_eq!(two.mirror.propose(other).unwrap_err(), ReceiveChangesRefused::OtherHome { home: HOME });
}

#[test]
fn p9_what_a_filter_leaves_out_is_behind_the_cursor_and_another_filter_needs_a_comparison() {
    let mut two = Two::new();
    for blob in [11, 12, 13] {
        two.step(Step::Link(1, blob));
    }
    let changes = two.page(Position::default(), 10);
    let (first, until) = (Position::default(), changes[2].position);
    let receive = |filter, after, until, changes| ReceiveChosen { home: HOME, filter, after, until, changes };
    let one = vec![changes[1].clone()];
    two.mirror.propose(receive(digest(1), first, until, one.clone())).unwrap();
    assert_eq!(two.cursor(), until);
    let query = two.mirror.query();
    assert_eq!(
        query.wanted(None, 10).unwrap().into_iter().map(|wanted| wanted.digest).collect::<Vec<_>>(),
        [digest(12)]
    );
    assert_eq!(query.chosen_by().unwrap(), Some(digest(1)));
    for (filter, after, refused) in [
        (digest(1), first, ReceiveChangesRefused::NotNext { cursor: until }),
        (digest(2), until, ReceiveChangesRefused::OtherFilter),
        (digest(1), until, ReceiveChangesRefused::Gap { after: until }),
    ] {
        let chosen = receive(filter, after, until, one.clone());
        assert_eq!(two.mirror.propose(chosen).unwrap_err(), refused);
    }
    let all = ReceiveChanges { home: HOME, after: until, changes: Vec::new() };
    assert_eq!(two.mirror.propose(all.clone()).unwrap_err(), ReceiveChangesRefused::OtherFilter);
    let mut compare = |step| {
        two.mirror.propose(ReceiveSnapshot { home: HOME, comparison: Comparison(1), step }).unwrap();
    };
    for step in [SnapshotStep::Begins, SnapshotStep::Forgets, SnapshotStep::Chooses(None), SnapshotStep::Ends(until)] {
        compare(step);
    }
    two.mirror.propose(all).unwrap();
}

fn compare(world: &mut World, comparison: u128, step: SnapshotStep) -> Result<Advanced, ReceiveSnapshotRefused> {
    world.propose(ReceiveSnapshot { home: ClusterId(9), comparison: Comparison(comparison), step })
}

/// What a comparison finds: a blob, and a manifest without any that has a tag.
fn found(position: Position) -> SnapshotStep {
    let change = |kind, manifest| ReceivedChange { position, at: LogTime(5), kind, manifest };
    let linked = ChangeKind::BlobLinked { repository: repository(1), digest: digest(12), size: 5 };
    let put_it = ChangeKind::ManifestPut { repository: repository(1), digest: digest(4), tags: vec![tag(2)] };
    SnapshotStep::Changes(vec![change(linked, None), change(put_it, Some(put(1, 4, vec![tag(2)], true)))])
}

#[test]
fn a_comparison_takes_the_place_of_what_waited_and_may_be_made_again() {
    let mut two = Two::new();
    for step in [Step::Link(1, 11), Step::Put(1, 1, vec![1]), Step::Send(10)] {
        two.step(step);
    }
    let position = Position { epoch: 2, sequence: 77 };
    compare(&mut two.mirror, 1, SnapshotStep::Begins).unwrap();
    let following = two.mirror.query().following().unwrap().unwrap();
    assert!(following.comparing);
    let page = ReceiveChanges { home: ClusterId(9), after: following.position, changes: Vec::new() };
    two.mirror.propose(page).expect_err("no feed goes on before the comparison has ended");
    compare(&mut two.mirror, 2, SnapshotStep::Begins).unwrap();
    assert!(!compare(&mut two.mirror, 2, SnapshotStep::Forgets).unwrap().more);
    let following = two.mirror.query().following().unwrap().unwrap();
    assert_eq!((following.waiting, following.wanted_bytes, following.comparing), (0, 0, true));
    compare(&mut two.mirror, 2, found(position)).unwrap();
    compare(&mut two.mirror, 2, SnapshotStep::Ends(position)).unwrap();
    let query = two.mirror.query();
    let following = query.following().unwrap().unwrap();
    assert_eq!((following.home, following.position, following.comparing), (ClusterId(9), position, false));
    assert_eq!(query.tag(&repository(1), &tag(2)).unwrap(), Some(digest(4)));
    assert_eq!(query.wanted(None, 10).unwrap().len(), 1);
}

#[test]
fn p9_of_a_comparison_beside_which_another_was_begun_nothing_is_taken_in() {
    let mut world = World::new();
    let (older, newer) = (Position { epoch: 1, sequence: 70 }, Position { epoch: 1, sequence: 77 });
    compare(&mut world, 1, SnapshotStep::Begins).unwrap();
    compare(&mut world, 2, SnapshotStep::Begins).unwrap();
    for ended in [false, true] {
        for step in [SnapshotStep::Forgets, found(older), SnapshotStep::Ends(older)] {
            assert_eq!(compare(&mut world, 1, step), Err(ReceiveSnapshotRefused::Superseded));
        }
        if !ended {
            compare(&mut world, 2, found(newer)).unwrap();
            compare(&mut world, 2, SnapshotStep::Ends(newer)).unwrap();
        }
    }
    assert_eq!(world.query().following().unwrap().unwrap().position, newer);
    assert_eq!(compare(&mut world, 2, SnapshotStep::Ends(older)), Err(ReceiveSnapshotRefused::Superseded));
}

#[test]
fn p9_while_what_waits_is_forgotten_nothing_of_it_is_published() {
    let mut two = Two::new();
    two.step(Step::Link(1, 11));
    two.step(Step::Put(1, 1, vec![1]));
    // More than one entry forgets.
    for _ in 0..2_100 {
        two.home.propose(put(1, 1, vec![tag(2)], true)).unwrap();
    }
    while two.cursor() != two.home.query().position().unwrap() {
        two.step(Step::Send(250));
    }
    compare(&mut two.mirror, 1, SnapshotStep::Begins).unwrap();
    assert!(compare(&mut two.mirror, 1, SnapshotStep::Forgets).unwrap().more);
    let position = two.cursor();
    assert_eq!(compare(&mut two.mirror, 1, found(position)), Err(ReceiveSnapshotRefused::NotForgotten));
    two.step(Step::Arrive(11));
    assert_eq!(two.mirror.query().tag(&repository(1), &tag(2)).unwrap(), None, "what was before it is gone");
    while compare(&mut two.mirror, 1, SnapshotStep::Forgets).unwrap().more {}
    let following = two.mirror.query().following().unwrap().unwrap();
    assert_eq!((following.waiting, following.wanted_blobs), (0, 0));
    assert_eq!(two.mirror.query().announced_tag(&repository(1), &tag(2)).unwrap(), AnnouncedTag::Nothing);
}

#[test]
fn p9_a_blob_that_comes_after_home_has_let_it_go_is_held_by_nobody() {
    let mut two = Two::new();
    two.step(Step::Link(1, 11));
    two.step(Step::Send(10));
    let key = two.key();
    two.mirror.propose(ReserveKeys { keys: vec![key.clone()] }).unwrap();
    two.home.propose(UnlinkBlob { repository: repository(1), digest: digest(11) }).unwrap();
    two.step(Step::Send(10));
    two.mirror.propose(LinkBlob::new(repository(1), verified(11), 5, key, None)).unwrap();
    assert_eq!(two.mirror.query().blob(&repository(1), &digest(11)).unwrap(), None);
    assert_eq!(two.mirror.query().repository(&repository(1)).unwrap(), None);
    let collect = CollectBlobs { before: LogTime(u64::MAX), limit: 10 };
    assert_eq!(two.mirror.propose(collect).unwrap().condemned, 1, "its object goes");
}

#[test]
fn claim_11_a_blob_that_is_set_aside_at_a_mirror_is_wanted_again_and_mended() {
    let mut two = Two::new();
    for step in [Step::Link(1, 11), Step::Send(10), Step::Arrive(11)] {
        two.step(step);
    }
    let key = two.mirror.query().object_key(false, &digest(11)).unwrap().unwrap();
    let examined = Examined::Blob { digest: digest(11), key };
    assert!(two.mirror.propose(SetQuarantine { examined, quarantined: true }).unwrap());
    let wanted = two.mirror.query().wanted_again(10).unwrap();
    assert_eq!(wanted.iter().map(|wanted| wanted.digest).collect::<Vec<_>>(), [digest(11)]);
    two.step(Step::Arrive(11));
    assert!(two.mirror.query().blob(&repository(1), &digest(11)).unwrap().is_some());
    assert!(two.mirror.query().wanted_again(10).unwrap().is_empty());
}

#[test]
fn p9_a_manifest_that_is_set_aside_at_a_mirror_is_mended_unless_home_has_deleted_it_meanwhile() {
    for is_deleted in [false, true] {
        let mut two = Two::new();
        for step in [Step::Link(1, 11), Step::Put(1, 1, vec![1]), Step::Send(10), Step::Arrive(11)] {
            two.step(step);
        }
        let content = two.mirror.query().manifest_content(false, &repository(1), &digest(1)).unwrap().unwrap();
        let examined = Examined::Manifest { repository: repository(1), digest: digest(1), content };
        assert!(two.mirror.propose(SetQuarantine { examined, quarantined: true }).unwrap());
        assert!(two.mirror.query().manifest_set_aside(&repository(1), &digest(1)).unwrap());
        if is_deleted {
            let delete = DeleteManifest { repository: repository(1), digest: digest(1) };
            two.home.propose(delete).unwrap();
            let after = two.cursor();
            two.send(after, 10).unwrap();
        }
        let mended = two.mirror.propose(MendManifest { manifest: put(1, 1, Vec::new(), true) }).unwrap();
        assert_eq!(mended, !is_deleted);
        let query = two.mirror.query();
        assert_eq!(query.manifest(&repository(1), &digest(1)).unwrap().is_some(), !is_deleted);
        assert_eq!(query.tag(&repository(1), &tag(1)).unwrap(), (!is_deleted).then(|| digest(1)));
        let again = two.mirror.propose(MendManifest { manifest: put(1, 1, Vec::new(), true) }).unwrap();
        assert!(!again, "it is not set aside any more");
    }
}

#[test]
fn a_mirror_lets_go_of_blobs_only_as_home_does() {
    let mut two = Two::new();
    for step in [Step::Link(1, 11), Step::Send(10), Step::Arrive(11)] {
        two.step(step);
    }
    let collect = CollectBlobs { before: LogTime(u64::MAX), limit: 10 };
    assert_eq!(two.mirror.propose(collect).unwrap().unlinked, 0);
    assert!(!two.mirror.query().is_garbage_before(LogTime(u64::MAX)).unwrap());
}

#[test]
fn a_mirror_has_one_token_at_a_time() {
    let mut world = World::new();
    for number in [1, 2] {
        world.propose(AdmitMirror { name: "eu".to_owned(), token: digest(number) }).unwrap();
    }
    let names = |world: &World| world.query().admitted_mirrors().unwrap().len();
    assert_eq!(names(&world), 1);
    assert_eq!(world.query().admitted_mirror(&digest(1)).unwrap(), None);
    assert_eq!(world.query().admitted_mirror(&digest(2)).unwrap().unwrap().name, "eu");
    assert!(world.propose(DismissMirror { name: "eu".to_owned() }).unwrap());
    assert!(!world.propose(DismissMirror { name: "eu".to_owned() }).unwrap());
    assert_eq!(names(&world), 0);
}
