//! A replica through its handle: restarts, kills, concurrency, and how proposals end.

#![expect(clippy::unwrap_used, reason = "clippy takes only the functions marked as tests for tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use roadstead_metadata::{
    ChangeKind, ChangesError, CommandId, DeleteTag, DeleteTagRefused, LogTime, ManifestContent, Metadata, NewManifest,
    OpenError, Options, Position, Precondition, ProposeError, PutManifest, PutManifestRefused, ReserveKeys, Role,
};
use roadstead_oci::{Algorithm, Digest, Hasher, ObjectKey, RepositoryName, Tag};
use tokio::task::JoinSet;
use uuid::Uuid;

async fn open(folder: &Path) -> Metadata {
    Metadata::open(Options::new(folder, [1, 2])).await.unwrap()
}

fn repository() -> RepositoryName {
    "library/nginx".parse().unwrap()
}

fn tag(number: u128) -> Tag {
    format!("v{number}").parse().unwrap()
}

fn put(number: u128, precondition: Precondition, tag: Tag) -> PutManifest {
    let content = Bytes::from(format!("manifest {number}"));
    let manifest = NewManifest {
        repository: repository(),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        size: content.len() as u64,
        content: ManifestContent::Inline(content.clone()),
        blobs: Vec::new(),
        referrer: None,
        tags: vec![tag],
        precondition,
        sparse: false,
    };
    PutManifest::new(Hasher::digest(Algorithm::Sha256, &content), manifest)
}

/// Puts manifest `number` under its own tag.
async fn put_plain(metadata: &Metadata, number: u128) {
    let put = put(number, Precondition::None, tag(number));
    metadata.propose(CommandId(number), LogTime(1), put).await.unwrap().unwrap();
}

fn digest(number: u128) -> Digest {
    *Hasher::digest(Algorithm::Sha256, format!("manifest {number}").as_bytes()).get()
}

fn assert_has(metadata: &Metadata, numbers: impl IntoIterator<Item = u128>) {
    let query = metadata.query().unwrap();
    for number in numbers {
        assert_eq!(query.tag(&repository(), &tag(number)).unwrap(), Some(digest(number)), "tag v{number}");
        assert!(query.manifest(&repository(), &digest(number)).unwrap().is_some(), "manifest {number}");
    }
}

#[tokio::test]
async fn what_is_done_is_seen_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    for number in 1..=20 {
        put_plain(&metadata, number).await;
        assert_has(&metadata, [number]);
    }
    let status = metadata.status();
    assert_eq!((status.role, status.leader, status.fatal.clone()), (Role::Leader, Some(1), None));
    assert!(status.caught_up && status.applied_index == status.last_log_index && status.log_bytes > 0, "{status:?}");

    metadata.shutdown().await.unwrap();
    assert_eq!(metadata.status().role, Role::Stopped);
    drop(metadata);
    let metadata = open(folder.path()).await;
    assert_has(&metadata, 1..=20);
    assert!(metadata.status().checkpoint_index >= status.applied_index, "the shutdown was a checkpoint");
    put_plain(&metadata, 21).await;
}

#[tokio::test]
async fn the_state_comes_back_from_the_log_alone() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    for number in 1..=20 {
        put_plain(&metadata, number).await;
    }
    let position = metadata.query().unwrap().position().unwrap();
    metadata.shutdown().await.unwrap();
    drop(metadata);
    std::fs::remove_file(folder.path().join("state.redb")).unwrap();
    let metadata = open(folder.path()).await;
    assert_has(&metadata, 1..=20);
    assert_eq!(metadata.query().unwrap().position().unwrap(), position);
}

/// Run by the test below as a process of its own, which gets killed.
#[tokio::test]
#[ignore = "a part of another test"]
async fn writer_that_is_killed() {
    let Some(folder) = std::env::var_os("ROADSTEAD_TEST_FOLDER") else { return };
    let first: u128 = std::env::var("ROADSTEAD_TEST_FIRST").unwrap().parse().unwrap();
    let metadata = open(Path::new(&folder)).await;
    assert_has(&metadata, 1..first);
    let mut tasks = JoinSet::new();
    let next = std::sync::Arc::new(std::sync::Mutex::new(first));
    for _ in 0..8 {
        let (metadata, next) = (metadata.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let number = {
                    let mut next = next.lock().unwrap();
                    *next += 1;
                    *next - 1
                };
                put_plain(&metadata, number).await;
                // One write, so that lines of several tasks are not mixed up, nor cut by the kill.
                std::io::stdout().write_all(format!("\ndone {number}\n").as_bytes()).unwrap();
            }
        });
    }
    tasks.join_next().await;
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut done: Vec<u128> = Vec::new();
    let mut first = 1;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_that_is_killed", "--ignored", "--nocapture"])
            .env("ROADSTEAD_TEST_FOLDER", folder.path())
            .env("ROADSTEAD_TEST_FIRST", first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut numbers = lines.filter_map(|line| line.unwrap().strip_prefix("done ")?.parse::<u128>().ok());
        done.extend(numbers.by_ref().take(round * 100));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        done.extend(numbers); // what it still said before it died

        let metadata = open(folder.path()).await;
        assert_has(&metadata, done.iter().copied());
        // The next writer goes on where it finds everything before: what was not acknowledged may be missing, or not.
        first = done.iter().max().unwrap() + 100;
        for number in 1..first {
            put_plain(&metadata, number).await;
        }
        metadata.shutdown().await.unwrap();
    }
    assert!(done.len() >= 600);
}

#[tokio::test]
async fn one_of_many_creates_a_tag_and_the_others_learn_who() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    let mut tasks = JoinSet::new();
    for number in 1..=16 {
        let metadata = metadata.clone();
        let put = put(number, Precondition::Absent, tag(0));
        tasks.spawn(async move { metadata.propose(CommandId(number), LogTime(1), put).await.unwrap() });
    }
    let results = tasks.join_all().await;
    let current = metadata.query().unwrap().tag(&repository(), &tag(0)).unwrap();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!(refused, PutManifestRefused::PreconditionFailed { current });
    }
}

#[tokio::test]
async fn a_repeated_id_gets_its_first_answer_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    let create = || put(1, Precondition::Absent, tag(1));
    let first = metadata.propose(CommandId(1), LogTime(1), create()).await.unwrap();
    assert!(first.as_ref().is_ok_and(|put| put.created));
    assert_eq!(metadata.propose(CommandId(1), LogTime(2), create()).await.unwrap(), first);
    assert!(metadata.propose(CommandId(2), LogTime(2), create()).await.unwrap().is_err(), "another id is another put");

    metadata.shutdown().await.unwrap();
    drop(metadata);
    let metadata = open(folder.path()).await;
    assert_eq!(metadata.propose(CommandId(1), LogTime(3), create()).await.unwrap(), first);
    let other = DeleteTag { repository: repository(), tag: tag(1) };
    assert!(matches!(metadata.propose(CommandId(1), LogTime(3), other).await, Err(ProposeError::NotDone(_))));
    assert_has(&metadata, [1]);
}

#[tokio::test]
async fn a_refusal_is_a_result_and_not_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    let delete = DeleteTag { repository: repository(), tag: tag(1) };
    let refused = metadata.propose(CommandId(1), LogTime(1), delete).await.unwrap();
    assert_eq!(refused, Err(DeleteTagRefused::TagUnknown));
    let keys = (0..Metadata::MAX_COMMAND_BYTES as u128 / 40).map(|id| ObjectKey::blob(Uuid::from_u128(id))).collect();
    let too_long = metadata.propose(CommandId(2), LogTime(1), ReserveKeys { keys }).await;
    assert!(matches!(too_long, Err(ProposeError::NotDone(_))), "{too_long:?}");
}

#[tokio::test]
async fn the_feed_is_followed_from_any_position() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    let mut newest = metadata.subscribe();
    let before = *newest.borrow_and_update();
    put_plain(&metadata, 1).await;
    newest.changed().await.unwrap();
    let after = *newest.borrow_and_update();
    assert_eq!(after.sequence, before.sequence + 1);
    let changes = metadata.changes(before, 10).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].position, after);
    let kind = ChangeKind::ManifestPut { repository: repository(), digest: digest(1), tags: vec![tag(1)] };
    assert_eq!(changes[0].kind, kind);
    assert!(metadata.changes(after, 10).unwrap().is_empty());
    let ahead = Position { sequence: after.sequence + 1, ..after };
    assert!(matches!(metadata.changes(ahead, 10), Err(ChangesError::Foreign { newest }) if newest == after));
}

#[tokio::test]
async fn a_linearizable_read_sees_what_was_acknowledged_before() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    let mut tasks = JoinSet::new();
    for number in 1..=50 {
        let metadata = metadata.clone();
        tasks.spawn(async move {
            put_plain(&metadata, number).await;
            metadata.linearize().await.unwrap();
            assert_has(&metadata, [number]);
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn after_its_end_a_replica_says_that_nothing_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    put_plain(&metadata, 1).await;
    metadata.shutdown().await.unwrap();
    let proposed = metadata.propose(CommandId(2), LogTime(1), put(2, Precondition::None, tag(2))).await;
    assert!(matches!(proposed, Err(ProposeError::NotDone(_))), "{proposed:?}");
    assert!(metadata.linearize().await.is_err());
    assert_has(&metadata, [1]);
    metadata.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_folder_is_used_by_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let _metadata = open(folder.path()).await;
    assert!(matches!(Metadata::open(Options::new(folder.path(), [1, 2])).await, Err(OpenError::InUse(_))));
}

#[tokio::test]
async fn a_damaged_log_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open(folder.path()).await;
    for number in 1..=3 {
        put_plain(&metadata, number).await;
    }
    metadata.shutdown().await.unwrap();
    drop(metadata);
    let file = std::fs::read_dir(folder.path().join("log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    match Metadata::open(Options::new(folder.path(), [1, 2])).await.err() {
        Some(OpenError::Damaged(message)) => assert!(message.contains(file.to_str().unwrap()), "{message}"),
        other => panic!("{other:?}"),
    }
}
