//! A member that is too far behind for the log gets all rows, whatever breaks on the way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Group;
use super::messages::{MemberChange, Message, Request};
use crate::encoding::decode;
use crate::fixtures::{put_manifest, rows};
use crate::state::keyspace::CONSENSUS;
use crate::{
    ClusterOptions, CommandId, Disk, DiskFile, Envelope, LocalDisk, LogTime, OpenMode, Options, PeerError,
    PeerTransport,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Brings everything to one of two groups; of the pieces of snapshots, every other answer is lost.
#[derive(Clone, Default)]
struct Lossy {
    groups: Arc<Mutex<[Option<Arc<Group>>; 2]>>,
    pieces: Arc<AtomicUsize>,
}

impl PeerTransport for Lossy {
    fn call<'a>(&'a self, to: &'a str, message: Bytes, _: Duration) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        async move {
            let index: usize = to.parse().unwrap();
            let group = self.groups.lock()[index].clone();
            let group = group.ok_or_else(|| PeerError::NotSent("it is not up yet".to_owned()))?;
            let answer = group.answer(&message).await;
            let is_piece = matches!(decode::<Message>(&message).unwrap().request, Request::Snapshot(_));
            if is_piece && self.pieces.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Err(PeerError::Unknown("the answer was lost".to_owned()));
            }
            Ok(answer)
        }
        .boxed()
    }
}

async fn open(network: &Lossy, folder: &Path, index: usize, seeds: Vec<String>) -> Arc<Group> {
    let cluster = ClusterOptions { transport: Arc::new(network.clone()), address: index.to_string(), seeds };
    let options = Options { cluster: Some(cluster), ..Options::new(folder, [1000 + index as u128, 7]) };
    let group = timeout(PATIENCE, Group::open(options, PATIENCE)).await.unwrap().unwrap();
    network.groups.lock()[index] = Some(group.clone());
    group
}

/// Two hundred changes, of which the log keeps none; how many entries they were.
async fn changes_without_a_log(group: &Group) -> u64 {
    for number in 0..200_u8 {
        let command = put_manifest(number, &[number]).into();
        let envelope = Envelope { id: CommandId(number.into()), at: LogTime(1), command };
        group.write(&envelope, PATIENCE).await.unwrap();
    }
    let applied = group.status().applied_index;
    group.raft.trigger().snapshot().await.unwrap();
    let wait = group.raft.wait(Some(PATIENCE));
    wait.metrics(|metrics| metrics.snapshot == metrics.last_applied, "checkpointed").await.unwrap();
    group.raft.trigger().purge_log(applied).await.unwrap();
    wait.metrics(|metrics| metrics.purged.is_some_and(|id| id.index == applied), "purged").await.unwrap();
    applied
}

async fn until_applied(group: &Group, index: u64) {
    let wait = group.raft.wait(Some(PATIENCE));
    wait.applied_index_at_least(Some(index), "the rows have arrived").await.unwrap();
}

fn facts(group: &Group) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = rows(&group.shared.state);
    rows.retain(|key, _| key[2] != CONSENSUS.number());
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_gets_the_rows_whose_entries_are_purged() {
    let (network, folders) = (Lossy::default(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let first = open(&network, folders[0].path(), 0, Vec::new()).await;
    let applied = changes_without_a_log(&first).await;
    let second = open(&network, folders[1].path(), 1, vec!["0".to_owned()]).await;
    until_applied(&second, applied).await;
    let promoted = async {
        let promote = MemberChange::Promote { node: second.identity().node };
        while second.change_members(promote, PATIENCE).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, promoted).await.unwrap();
    second.linearize(PATIENCE).await.unwrap();
    assert!(network.pieces.load(Ordering::Relaxed) > 10, "the rows came in pieces");
    assert_eq!(facts(&second), facts(&first));
}

/// A disk on which whoever leaves it to others gets it back when the gate is opened.
#[derive(Clone, Debug)]
struct Gated {
    resting: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Disk for Gated {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        LocalDisk.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        LocalDisk.list(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        LocalDisk.sync_folder(folder)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        LocalDisk.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn rest(&self, _pause: Duration) {
        self.resting.send_replace(true);
        Handle::current().block_on(self.open.subscribe().wait_for(|open| *open)).unwrap();
    }
}

/// Whoever sends the last piece of a snapshot gives up while it is being installed.
#[derive(Clone)]
struct Impatient {
    groups: Arc<Mutex<[Option<Arc<Group>>; 2]>>,
    disk: Gated,
    begun: Arc<AtomicUsize>,
    given_up: Arc<AtomicUsize>,
}

impl PeerTransport for Impatient {
    fn call<'a>(&'a self, to: &'a str, message: Bytes, _: Duration) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        async move {
            let group = self.groups.lock()[to.parse::<usize>().unwrap()].clone();
            let group = group.ok_or_else(|| PeerError::NotSent("it is not up yet".to_owned()))?;
            let Request::Snapshot(piece) = decode::<Message>(&message).unwrap().request else {
                return Ok(group.answer(&message).await);
            };
            self.begun.fetch_add(usize::from(piece.offset == 0), Ordering::Relaxed);
            if !piece.is_last {
                return Ok(group.answer(&message).await);
            }
            let mut resting = self.disk.resting.subscribe();
            if *resting.borrow() {
                // Asked again: told that it is being done, and now it may be.
                let answer = group.answer(&message).await;
                self.disk.open.send_replace(true);
                return Ok(answer);
            }
            tokio::select! {
                answer = group.answer(&message) => Ok(answer),
                _ = resting.wait_for(|resting| *resting) => {
                    self.given_up.fetch_add(1, Ordering::Relaxed);
                    Err(PeerError::Unknown("no answer in time".to_owned()))
                }
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_takes_longer_to_install_than_an_answer_may_is_sent_once() {
    let disk = Gated { resting: watch::Sender::new(false), open: watch::Sender::new(false) };
    let network =
        Impatient { groups: Arc::default(), disk: disk.clone(), begun: Arc::default(), given_up: Arc::default() };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let open = async |index: usize, seeds: Vec<String>, disk: Arc<dyn Disk>| {
        let cluster = ClusterOptions { transport: Arc::new(network.clone()), address: index.to_string(), seeds };
        let options = Options::new(folders[index].path(), [1000 + index as u128, 7]);
        let options = Options { cluster: Some(cluster), disk, ..options };
        let group = timeout(PATIENCE, Group::open(options, PATIENCE)).await.unwrap().unwrap();
        network.groups.lock()[index] = Some(group.clone());
        group
    };
    let first = open(0, Vec::new(), Arc::new(LocalDisk)).await;
    let applied = changes_without_a_log(&first).await;
    let second = open(1, vec!["0".to_owned()], Arc::new(disk)).await;
    until_applied(&second, applied).await;
    second.linearize(PATIENCE).await.unwrap();
    assert_eq!(facts(&second), facts(&first));
    assert_eq!(network.given_up.load(Ordering::Relaxed), 1, "the sender has waited in vain");
    assert_eq!(network.begun.load(Ordering::Relaxed), 1, "it was sent from its beginning once");
}
