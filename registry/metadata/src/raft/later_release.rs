//! What this release says of files that a later one has written, and of messages that it sends.

use std::path::Path;
use std::time::Duration;

use super::Group;
use super::messages::{Message, Reply, Request, SnapshotPiece};
use super::rebuild::{Rebuild, RebuildError};
use super::records::tests::{applied, vote};
use super::segment::{self, Kind, write_frame};
use crate::encoding::{decode, encode};
use crate::fixtures::{World, put_manifest, rows};
use crate::state::{Export, State, Sync};
use crate::{
    AnnounceLevel, ClusterId, Command, CommandId, Envelope, Level, Levels, LocalDisk, LogEntry, LogTime, OpenError,
    Options, QueryError, Until,
};

/// A format that no release of today knows, in front of what would else be read.
const LATER: &[u8] = &[9, 0, 0];

async fn refusal(folder: &Path) -> String {
    match Group::open(Options::new(folder, [1, 2]), Duration::from_secs(5)).await {
        Err(OpenError::Damaged(message)) => message,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

fn assert_tells_release(message: &str) {
    assert!(message.contains("format 9") && message.contains("run the release that wrote it"), "{message}");
}

#[tokio::test]
async fn a_state_of_a_later_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&LocalDisk, &folder.path().join("state.redb"), 1 << 20).unwrap();
    state.write(Sync::Checkpoint, |apply| apply.put_consensus(&LATER.to_vec())).unwrap();
    drop(state);
    assert_tells_release(&refusal(folder.path()).await);
}

#[tokio::test]
async fn a_log_of_a_later_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::create_dir(&log).unwrap();
    let mut bytes = Vec::new();
    write_frame(&mut bytes, Kind::Segment, 0, LATER);
    std::fs::write(segment::path(&log, 1), bytes).unwrap();
    assert_tells_release(&refusal(folder.path()).await);
}

/// All rows of facts at a level of later releases.
fn later_facts() -> Vec<u8> {
    let mut world = World::new();
    world.propose(put_manifest(1, &[1])).unwrap();
    let announce = AnnounceLevel { node: 1, reads: Level(99), members: [1].into() };
    assert_eq!(world.propose(announce), Ok(Level(99)));
    let mut bytes = Vec::new();
    Export::View(world.state.read().unwrap()).write_to(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn messages_of_a_later_release_are_answered_so_and_not_misread() {
    let folder = tempfile::tempdir().unwrap();
    let group = Group::open(Options::new(folder.path(), [1, 2]), Duration::from_secs(5)).await.unwrap();
    let before = rows(&group.shared.state);
    let message = |request| encode(&Message { cluster: Some(ClusterId(2)), to: Some(1), request });
    let piece = |bytes: Vec<u8>| {
        let bytes = bytes.into();
        message(Request::Snapshot(SnapshotPiece { vote: vote(), state: applied(), offset: 0, bytes, is_last: true }))
    };
    let mut format = message(Request::ReadIndex);
    format[0] = 9;
    let mut request = message(Request::Members);
    *request.last_mut().unwrap() = 99;
    let mut snapshot = later_facts();
    snapshot[7] = b'2';
    let cases = [
        (format, "it has format 9, and this release reads up to format 1"),
        (request, "it is damaged"),
        (piece(snapshot), "the snapshot has format 2, and this release reads up to format 1"),
        (piece(b"something else".to_vec()), "it does not begin like one"),
        (piece(later_facts()), "the facts are at level 99"),
    ];
    for (message, words) in cases {
        let reply = decode::<Reply>(&group.answer(&message.into()).await).unwrap();
        let Reply::NotUnderstood(why) = reply else { panic!("{words}: {reply:?}") };
        assert!(why.contains(words), "no {words:?} in: {why}");
    }
    assert_eq!(rows(&group.shared.state), before);
    assert_eq!(group.status().fatal, None);
}

#[tokio::test]
async fn a_volume_that_does_not_say_what_it_reads_is_one_of_the_first_release() {
    let folder = tempfile::tempdir().unwrap();
    let levels = Levels { reads: Level(2), ..Levels::OF_THIS_BUILD };
    let options = Options { levels, ..Options::new(folder.path(), [1, 2]) };
    let group = Group::open(options, Duration::from_secs(5)).await.unwrap();
    assert_eq!(group.level(), Level(2));
    for (cluster, node) in [(None, None), (Some(ClusterId(2)), Some(1))] {
        let request = Request::Join { volume: group.volume(), node, address: "elsewhere".to_owned() };
        let message = encode(&Message { cluster, to: None, request });
        let reply = decode::<Reply>(&group.answer(&message.into()).await).unwrap();
        assert_eq!(reply, Reply::ReadsLess(Level(2)));
    }
    assert_eq!(group.members().len(), 1);
}

#[test]
fn a_backup_of_a_later_release_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        file
    };
    let mut rebuild = Rebuild::begin(&folder.path().join("restored")).unwrap();
    let refused = rebuild.load(kept(&later_facts())).unwrap_err();
    assert!(matches!(refused, RebuildError::State(QueryError::Later(_))), "{refused}");
    assert!(refused.to_string().contains("at level 99"), "{refused}");

    // A log whose end is too far is restored up to there.
    let mut rebuild = Rebuild::begin(&folder.path().join("again")).unwrap();
    let announce = AnnounceLevel { node: 1, reads: Level(99), members: [1].into() };
    let commands = [put_manifest(1, &[1]).into(), put_manifest(2, &[2]).into(), announce.into()];
    let entry = |(index, command): (u64, Command)| {
        let envelope = Envelope { id: CommandId(index.into()), at: LogTime(index), command };
        LogEntry { index, term: 1, proposal: Some(encode(&envelope).into()) }
    };
    let entries: Vec<_> = (0..).zip(commands).map(entry).collect();
    let refused = rebuild.apply(&entries, Until::End).unwrap_err();
    assert!(matches!(refused, RebuildError::State(QueryError::Later(_))), "{refused}");
    assert!(rebuild.apply(&entries[..2], Until::Sequence(2)).unwrap());
    assert_eq!(rebuild.position().sequence, 2);
}
