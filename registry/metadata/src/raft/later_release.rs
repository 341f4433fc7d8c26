//! What this release says of files that a later one has written.

use std::path::Path;
use std::time::Duration;

use super::Group;
use super::segment::{self, Kind, write_frame};
use crate::state::{State, Sync};
use crate::{LocalDisk, OpenError, Options};

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
