//! A member that is too far behind for the log gets all rows, whatever breaks on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::Group;
use super::messages::{MemberChange, Message, Request};
use crate::encoding::decode;
use crate::fixtures::{put_manifest, rows};
use crate::state::keyspace::CONSENSUS;
use crate::{ClusterOptions, CommandId, Envelope, LogTime, Options, PeerError, PeerTransport};

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

async fn open(network: &Lossy, folder: &std::path::Path, index: usize, seeds: Vec<String>) -> Arc<Group> {
    let cluster = ClusterOptions { transport: Arc::new(network.clone()), address: index.to_string(), seeds };
    let options = Options { cluster: Some(cluster), ..Options::new(folder, [1000 + index as u128, 7]) };
    let group = timeout(PATIENCE, Group::open(options, PATIENCE)).await.unwrap().unwrap();
    network.groups.lock()[index] = Some(group.clone());
    group
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_gets_the_rows_whose_entries_are_purged() {
    let (network, folders) = (Lossy::default(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let first = open(&network, folders[0].path(), 0, Vec::new()).await;
    for number in 0..200_u8 {
        let command = put_manifest(number, &[number]).into();
        let envelope = Envelope { id: CommandId(number.into()), at: LogTime(1), command };
        first.write(&envelope, PATIENCE).await.unwrap();
    }
    let applied = first.status().applied_index;
    first.raft.trigger().snapshot().await.unwrap();
    let wait = first.raft.wait(Some(PATIENCE));
    wait.metrics(|metrics| metrics.snapshot == metrics.last_applied, "checkpointed").await.unwrap();
    first.raft.trigger().purge_log(applied).await.unwrap();
    wait.metrics(|metrics| metrics.purged.is_some_and(|id| id.index == applied), "purged").await.unwrap();

    let second = open(&network, folders[1].path(), 1, vec!["0".to_owned()]).await;
    let caught_up = second.raft.wait(Some(PATIENCE));
    caught_up.applied_index_at_least(Some(applied), "the rows have arrived").await.unwrap();
    let promoted = async {
        let promote = MemberChange::Promote { node: second.identity().node };
        while second.change_members(promote, PATIENCE).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, promoted).await.unwrap();
    second.linearize(PATIENCE).await.unwrap();
    assert!(network.pieces.load(Ordering::Relaxed) > 10, "the rows came in pieces");
    let facts = |group: &Group| {
        let mut rows = rows(&group.shared.state);
        rows.retain(|key, _| key[2] != CONSENSUS.number());
        rows
    };
    assert_eq!(facts(&second), facts(&first));
}
