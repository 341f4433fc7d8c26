//! openraft's own suite of storage tests, against our log and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::config::{Types, seeded};
use super::index::Limits;
use super::log::Log;
use super::machine::Machine;
use crate::state::State;
use crate::{Levels, LocalDisk};

struct OnDisk;

impl StoreBuilder<Types, Log, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        // So small that most entries are read from disk, and from several files.
        let limits = Limits { cache_bytes: 100, segment_bytes: 300 };
        let log = Log::open(Arc::new(LocalDisk), &folder.path().join("log"), limits).unwrap();
        let (alive, _) = mpsc::channel(1);
        let machine = Machine::new(Arc::new(LocalDisk), State::in_memory(), Levels::OF_THIS_BUILD, alive).unwrap();
        Ok((folder, log, machine))
    }
}

#[tokio::test]
async fn openraft_accepts_the_log_and_the_state_machine() {
    seeded(7, Suite::test_all(OnDisk)).await.unwrap();
}
