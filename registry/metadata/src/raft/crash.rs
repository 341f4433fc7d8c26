//! What a crash, and what a damaged disk, may do to the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderIdExt;
use openraft::{EntryPayload, RaftLogReader};
use tempfile::TempDir;

use super::config::{Entry, LogId, Proposal, Types, Vote};
use super::index::Limits;
use super::log::Log;
use super::segment;
use crate::{LocalDisk, OpenError};

const ONE_FILE: Limits = Limits { cache_bytes: 0, segment_bytes: u32::MAX };
const SMALL_FILES: Limits = Limits { cache_bytes: 0, segment_bytes: 200 };

fn open(folder: &Path, limits: Limits) -> Result<Log, OpenError> {
    Log::open(Arc::new(LocalDisk), folder, limits)
}

fn id(index: u64) -> LogId {
    LogId::new(openraft::alias::LeaderIdOf::<Types>::new_committed(1, 1), index)
}

fn entry(index: u64) -> Entry {
    let payload = EntryPayload::Normal(Proposal(Bytes::from(index.to_be_bytes().repeat(3))));
    Entry { log_id: id(index), payload }
}

async fn append(log: &mut Log, indexes: impl IntoIterator<Item = u64, IntoIter: Send> + Send) {
    let (done, written) = Types::oneshot();
    log.append(indexes.into_iter().map(entry), IOFlushed::signal(done)).await.unwrap();
    written.await.unwrap().unwrap();
}

async fn entries(log: &mut Log) -> Vec<Entry> {
    log.reader().try_get_log_entries(0..u64::MAX).await.unwrap()
}

async fn last(log: &mut Log) -> u64 {
    log.get_log_state().await.unwrap().last_log_id.map_or(0, |last| last.index)
}

fn file(folder: &TempDir, sequence: u64) -> PathBuf {
    segment::path(folder.path(), sequence)
}

fn damage(path: &Path, at: usize, change: impl FnOnce(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes[at..]);
    std::fs::write(path, bytes).unwrap();
}

fn expect_damage(folder: &TempDir, sequence: u64, limits: Limits) {
    match open(folder.path(), limits).err() {
        Some(OpenError::Damaged(message)) => {
            let path = file(folder, sequence);
            assert!(message.contains(path.to_str().unwrap()) && message.contains("Restore the file"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_opens_with_what_was_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), ONE_FILE).unwrap();
    let path = file(&folder, 1);
    let length = || std::fs::metadata(&path).unwrap().len();
    // The length of the file behind each entry.
    let mut ends = Vec::new();
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    let vote_end = length();
    for index in 1..=4 {
        append(&mut log, [index]).await;
        ends.push(length());
    }
    drop(log);
    let bytes = std::fs::read(&path).unwrap();
    for cut in 0..=bytes.len() {
        let crashed = tempfile::tempdir().unwrap();
        std::fs::write(file(&crashed, 1), &bytes[..cut]).unwrap();
        let mut log = open(crashed.path(), ONE_FILE).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut as u64).count() as u64;
        assert_eq!(last(&mut log).await, whole, "cut at {cut}");
        assert_eq!(log.reader().read_vote().await.unwrap().is_some(), cut as u64 >= vote_end, "cut at {cut}");
        append(&mut log, [whole + 1]).await;
        drop(log);
        let mut log = open(crashed.path(), ONE_FILE).unwrap();
        assert_eq!(entries(&mut log).await, (1..=whole + 1).map(entry).collect::<Vec<_>>(), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_hole_in_the_last_write_is_cut_off_with_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), ONE_FILE).unwrap();
    append(&mut log, [1]).await;
    let acknowledged = std::fs::read(file(&folder, 1)).unwrap().len();
    append(&mut log, 2..=5).await;
    drop(log);
    let written = std::fs::read(file(&folder, 1)).unwrap().len();
    let frame = (written - acknowledged) / 4;
    // The page with entry 3 did not reach the disk, those with 4 and 5 did.
    damage(&file(&folder, 1), acknowledged + frame, |bytes| bytes[..frame].fill(0));
    let mut log = open(folder.path(), ONE_FILE).unwrap();
    assert_eq!(entries(&mut log).await, [entry(1), entry(2)]);
}

#[tokio::test]
async fn damage_to_what_was_acknowledged_is_not_taken_for_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), ONE_FILE).unwrap();
    let mut ends = Vec::new();
    for index in 1..=3 {
        append(&mut log, [index]).await;
        ends.push(std::fs::read(file(&folder, 1)).unwrap().len());
    }
    drop(log);
    let whole = std::fs::read(file(&folder, 1)).unwrap();
    for at in 0..ends[1] {
        // Entry 3 was written when entry 2 was on disk, and says so.
        damage(&file(&folder, 1), at, |bytes| bytes[0] ^= 0x10);
        expect_damage(&folder, 1, ONE_FILE);
        std::fs::write(file(&folder, 1), &whole).unwrap();
    }
    damage(&file(&folder, 1), ends[1], |bytes| bytes[0] ^= 0x10);
    let mut log = open(folder.path(), ONE_FILE).unwrap();
    assert_eq!(last(&mut log).await, 2, "nothing is behind the last frame to prove that it was on disk");
}

#[tokio::test]
async fn a_file_that_is_not_the_last_must_be_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    for index in 1..=20 {
        append(&mut log, [index]).await;
    }
    drop(log);
    let sequences = segment::list(&LocalDisk, folder.path()).unwrap();
    assert!(sequences.len() > 3, "{sequences:?}");
    let first = file(&folder, 1);
    let whole = std::fs::read(&first).unwrap();
    std::fs::write(&first, &whole[..whole.len() - 1]).unwrap();
    expect_damage(&folder, 1, SMALL_FILES);
    std::fs::write(&first, &whole).unwrap();
    assert_eq!(last(&mut open(folder.path(), SMALL_FILES).unwrap()).await, 20);

    let second = std::fs::read(file(&folder, 2)).unwrap();
    std::fs::remove_file(file(&folder, 2)).unwrap();
    expect_damage(&folder, 3, SMALL_FILES);
    std::fs::write(file(&folder, 2), second).unwrap();
    std::fs::remove_file(first).unwrap();
    expect_damage(&folder, 2, SMALL_FILES);
}

#[tokio::test]
async fn a_file_without_its_first_frame_is_as_if_it_were_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    for index in 1..=10 {
        append(&mut log, [index]).await;
    }
    drop(log);
    let next = segment::list(&LocalDisk, folder.path()).unwrap().last().unwrap() + 1;
    std::fs::write(file(&folder, next), [0; 5]).unwrap();
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    for index in 11..=20 {
        append(&mut log, [index]).await;
    }
    drop(log);
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    assert_eq!(entries(&mut log).await, (1..=20).map(entry).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_purge_deletes_files_and_the_rest_is_still_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    for index in 1..=20 {
        append(&mut log, [index]).await;
    }
    let (files, bytes) = (segment::list(&LocalDisk, folder.path()).unwrap().len(), log.reader().bytes());
    log.save_committed(Some(id(20))).await.unwrap();
    log.purge(id(15)).await.unwrap();
    assert!(segment::list(&LocalDisk, folder.path()).unwrap().len() < files && log.reader().bytes() < bytes);
    append(&mut log, [21]).await;
    drop(log);

    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(15)), Some(id(21))));
    assert_eq!(entries(&mut log).await, (16..=21).map(entry).collect::<Vec<_>>());
    assert_eq!(log.read_committed().await.unwrap(), Some(id(20)));
    assert_eq!(log.reader().read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
    log.purge(id(21)).await.unwrap();
    append(&mut log, [22]).await;
    drop(log);
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    assert_eq!(entries(&mut log).await, [entry(22)]);
}

#[tokio::test]
async fn what_was_truncated_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    append(&mut log, 1..=10).await;
    log.truncate_after(Some(id(4))).await.unwrap();
    append(&mut log, 5..=6).await;
    drop(log);
    let mut log = open(folder.path(), SMALL_FILES).unwrap();
    assert_eq!(entries(&mut log).await, (1..=6).map(entry).collect::<Vec<_>>());
    log.truncate_after(None).await.unwrap();
    drop(log);
    assert_eq!(last(&mut open(folder.path(), SMALL_FILES).unwrap()).await, 0);
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut log = open(&path, SMALL_FILES).unwrap();
    append(&mut log, [1]).await;
    std::fs::remove_dir_all(&path).unwrap(); // the next file cannot be begun
    let mut results = Vec::new();
    for index in 2..=20 {
        let (done, written) = Types::oneshot();
        log.append([entry(index)], IOFlushed::signal(done)).await.unwrap();
        results.push(written.await.unwrap().is_ok());
    }
    let failed = results.iter().position(|done| !done).unwrap();
    std::fs::create_dir_all(&path).unwrap(); // too late
    assert!(results[failed..].iter().all(|done| !done), "{results:?}");
    assert!(log.save_vote(&Vote::new(5, 1)).await.is_err());
}

#[tokio::test]
async fn how_far_it_is_committed_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), ONE_FILE).unwrap();
    append(&mut log, [1]).await;
    log.save_committed(Some(id(1))).await.unwrap();
    drop(log);
    let mut log = open(folder.path(), ONE_FILE).unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1)));
}
