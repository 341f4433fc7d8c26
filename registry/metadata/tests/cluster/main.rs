//! Several replicas that reach each other through memory: joining, forwarding, losing the leader, catching up, rolling from
//! one release to the next.

#![expect(clippy::unwrap_used, reason = "clippy takes only the functions marked as tests for tests")]

mod network;
mod rolling;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use roadstead_metadata::{
    AnnounceError, BeginRefusal, Beginning, ChangeRefusal, ClusterId, ClusterOptions, History, Identity, LogTime,
    MemberChange, Metadata, OpenError, Options, Role, Survivor, SurvivorError, VolumeId,
};
use tokio::time::timeout;

use network::{Cluster, Network, PATIENCE, Replica, announce, change, has, open, put, wire};

/// Replicas that are started alike, with each other for seeds: one of them is ordered to begin, and the others join.
#[tokio::test]
async fn of_replicas_that_wait_for_each_other_the_one_begins_that_is_ordered_to() {
    let (network, folders) = (Network::default(), [0, 1, 2].map(|_| tempfile::tempdir().unwrap()));
    let seeds: Vec<String> = (0..3).map(|index| format!("replica-{index}")).collect();
    let beginnings = [0, 1, 2].map(|_| Beginning::default());
    let start = |index: usize| {
        let transport = wire(&network, &seeds[index]);
        let cluster = ClusterOptions { transport, address: seeds[index].clone(), seeds: seeds.clone() };
        let options = Options::new(folders[index].path(), [100 + index as u128, 1]);
        let options = Options { cluster: Some(cluster), beginning: beginnings[index].clone(), ..options };
        Metadata::open(options)
    };
    let mut opening: Vec<_> = (0..3).map(|index| Box::pin(start(index))).collect();
    let order = async {
        while beginnings.iter().any(|beginning| beginning.volume().is_none()) {
            tokio::task::yield_now().await;
        }
        assert!(beginnings.iter().all(|beginning| beginning.identity().is_none()), "nobody begins by itself");
        let other = beginnings[0].order(VolumeId(101), ClusterId(7)).await;
        assert_eq!(other, Err(BeginRefusal::OtherVolume));
        beginnings[0].order(VolumeId(100), ClusterId(7)).await.unwrap()
    };
    let first = opening.remove(0);
    let (begun, first) = {
        let mut waiting = futures_util::future::join_all(&mut opening);
        tokio::select! {
            both = async { tokio::join!(order, first) } => both,
            _ = &mut waiting => panic!("they cannot join before there is a cluster"),
        }
    };
    let first = first.unwrap();
    assert_eq!((begun, first.identity()), (Identity { cluster: ClusterId(7), node: 1 }, begun));
    network.0.lock().replicas.insert(seeds[0].clone(), first.clone());
    let others = timeout(PATIENCE, futures_util::future::join_all(opening)).await.unwrap();
    let mut nodes: Vec<u64> = others.iter().map(|other| other.as_ref().unwrap().identity().node).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [2, 3]);
    // Ordering again is ordering once; and another cluster is refused, by whoever is in one.
    assert_eq!(beginnings[0].order(VolumeId(100), ClusterId(7)).await, Ok(begun));
    for (beginning, volume) in [(&beginnings[0], 100), (&beginnings[1], 101)] {
        let refusal = beginning.order(VolumeId(volume), ClusterId(8)).await;
        assert!(matches!(refusal, Err(BeginRefusal::HasCluster(_))), "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_what_any_replica_acknowledged_every_other_one_reads() {
    let cluster = Cluster::of(3).await;
    for number in 0..30 {
        let writer = &cluster.replicas[number % 3].metadata;
        put(writer, number as u128).await.unwrap();
        assert!(has(writer, number as u128), "whoever writes sees it at once");
        for Replica { metadata, .. } in &cluster.replicas {
            metadata.linearize().await.unwrap();
            assert!(has(metadata, number as u128));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_losing_the_leader_loses_nothing_and_writes_wait_the_election_out() {
    let cluster = Cluster::of(3).await;
    for number in 0..10 {
        put(cluster.any(), number).await.unwrap();
    }
    let lost = cluster.leader(&[0, 1, 2]).await;
    let rest: Vec<usize> = (0..3).filter(|index| *index != lost).collect();
    cluster.cut(lost);
    put(&cluster.replicas[rest[0]].metadata, 10).await.expect("the election fits into a write's patience");
    assert_ne!(cluster.leader(&rest).await, lost);
    for index in &rest {
        let metadata = &cluster.replicas[*index].metadata;
        metadata.linearize().await.unwrap();
        assert!((0..=10).all(|number| has(metadata, number)));
    }
    let former = &cluster.replicas[lost].metadata;
    former.linearize().await.expect_err("who is cut off cannot know that it is up to date");
    put(former, 11).await.expect_err("and takes no writes");
    cluster.mend(lost);
    former.linearize().await.unwrap();
    assert!((0..=10).all(|number| has(former, number)));
}

/// What a leader is asked that cannot reach the others, and which is not the leader any more when it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_what_a_leader_was_asked_that_lost_its_quorum_waits_for_the_next_one() {
    let cluster = Cluster::of(3).await;
    put(cluster.any(), 1).await.unwrap();
    let lost = cluster.leader(&[0, 1, 2]).await;
    let rest: Vec<usize> = (0..3).filter(|index| *index != lost).collect();
    let former = cluster.replicas[lost].metadata.clone();
    cluster.cut(lost);
    let mut read = std::pin::pin!(former.linearize());
    let mut write = std::pin::pin!(put(&former, 2));
    // Longer than a leader waits for its quorum, and much shorter than those who ask it wait, who need the rest.
    let both = async {
        tokio::select! { read = &mut read => read.is_ok(), write = &mut write => write.is_ok() }
    };
    assert_eq!(timeout(Duration::from_millis(1_800), both).await.ok(), None, "neither has an answer yet");
    assert_ne!(cluster.leader(&rest).await, lost);
    put(&cluster.replicas[rest[0]].metadata, 3).await.unwrap();
    cluster.mend(lost);
    // Whoever asked looks for an answer late: as a process that was stopped, it finds everything changed at once.
    let caught_up = async {
        while !has(&former, 3) {
            let _ = timeout(Duration::from_millis(20), former.changed()).await;
        }
    };
    timeout(PATIENCE, caught_up).await.unwrap();
    let (read, write) = tokio::join!(read, write);
    read.expect("there is a leader again within the patience of reads");
    write.expect("and within that of writes, though the entry of the former leader is gone");
    former.linearize().await.unwrap();
    assert!((1..=3).all(|number| has(&former, number)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_answer_was_lost_is_applied_once_by_the_next_leader() {
    let cluster = Cluster::of(3).await;
    put(cluster.any(), 1).await.unwrap();
    let before = cluster.any().query().unwrap().position().unwrap();
    for Replica { metadata, .. } in &cluster.replicas {
        put(metadata, 1).await.unwrap();
    }
    cluster.any().linearize().await.unwrap();
    assert_eq!(cluster.any().query().unwrap().position().unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_volume_keeps_its_node_id_and_no_other_ever_gets_it() {
    let mut cluster = Cluster::of(3).await;
    let nodes: Vec<u64> = cluster.replicas.iter().map(|replica| replica.metadata.identity().node).collect();
    assert_eq!(nodes, [1, 2, 3]);
    assert!(cluster.replicas.iter().all(|replica| replica.metadata.identity().cluster == ClusterId(7)));

    // One goes for good; its id does not come back, whoever joins.
    let leader = cluster.leader(&[0, 1, 2]).await;
    let gone = (leader + 1) % 3;
    cluster.cut(gone);
    let lost = cluster.replicas[gone].metadata.identity().node;
    let removal = MemberChange::Remove { node: lost };
    change(&cluster.replicas[leader].metadata, removal).await;
    change(&cluster.replicas[leader].metadata, removal).await; // it is so already
    let folder = tempfile::tempdir().unwrap();
    let seeds = vec![cluster.replicas[leader].address.clone()];
    let metadata = open(&cluster.network, folder.path(), "new", seeds, 999).await;
    assert_eq!(metadata.identity().node, 4);
    cluster.replicas.push(Replica { address: "new".to_owned(), folder, metadata });
    let members = cluster.replicas[leader].metadata.members();
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|member| member.node != lost));

    // Another starts again with its volume, under another address.
    let again = (0..3).find(|index| *index != leader && *index != gone).unwrap();
    let Replica { address, folder, metadata } = cluster.replicas.swap_remove(again);
    let node = metadata.identity().node;
    cluster.network.0.lock().replicas.remove(&address);
    metadata.shutdown().await.unwrap();
    drop(metadata);
    let metadata = open(&cluster.network, folder.path(), "moved", vec!["nobody".to_owned()], 1).await;
    assert_eq!(metadata.identity().node, node);
    announce(&metadata, "moved").await;
    let moved = metadata.members().into_iter().find(|member| member.node == node).unwrap();
    assert_eq!((moved.address.as_str(), moved.is_voter), ("moved", true));
    put(&metadata, 50).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_a_lost_voter_replaced() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    cluster.let_lead((leader + 1) % 3).await;
    put(cluster.any(), 1).await.unwrap();
    assert_eq!(cluster.leader(&[(leader + 1) % 3]).await, (leader + 1) % 3);

    let folder = tempfile::tempdir().unwrap();
    let seeds = cluster.replicas.iter().map(|replica| replica.address.clone()).collect();
    let metadata = open(&cluster.network, folder.path(), "spare", seeds, 999).await;
    let by = metadata.identity().node;
    cluster.replicas.push(Replica { address: "spare".to_owned(), folder, metadata });
    cluster.cut(leader);
    let lost = cluster.replicas[leader].metadata.identity().node;
    let speaker = &cluster.replicas[3].metadata;
    change(speaker, MemberChange::Replace { lost, by }).await;
    speaker.linearize().await.unwrap();
    let voters: Vec<u64> =
        speaker.members().iter().filter(|member| member.is_voter).map(|member| member.node).collect();
    assert_eq!(voters.len(), 3);
    assert!(voters.contains(&by) && !voters.contains(&lost));
    let refused = speaker.change_members(MemberChange::Promote { node: 99 }).await.unwrap_err();
    assert_eq!(refused, ChangeRefusal::UnknownNode(99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_passed_to_another_cluster_gets_nothing_of_this_one() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let taken = &cluster.replicas[(leader + 1) % 3];
    let folder = tempfile::tempdir().unwrap();
    let stranger = Metadata::open(Options::new(folder.path(), [999, 8])).await.unwrap();
    assert_eq!(stranger.identity(), Identity { cluster: ClusterId(8), node: 1 });
    stranger.linearize().await.unwrap();
    let before = stranger.status();
    cluster.network.0.lock().replicas.insert(taken.address.clone(), stranger.clone());
    put(&cluster.replicas[leader].metadata, 1).await.unwrap();
    assert!(!has(&stranger, 1));
    assert_eq!((stranger.status().term, stranger.status().role), (before.term, Role::Leader));
    let answer = stranger.answer(&Bytes::from_static(b"\x01nonsense")).await;
    assert!(String::from_utf8_lossy(&answer).contains("damaged"), "what cannot be read is refused");
}

/// What one transaction of the state decides, the next start brings into the other files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_survivor_goes_on_alone_also_if_it_dies_right_after_it_was_decided() {
    let mut cluster = Cluster::of(3).await;
    for number in 0..20 {
        put(cluster.any(), number).await.unwrap();
    }
    let Replica { address, folder, metadata } = cluster.replicas.pop().unwrap();
    metadata.linearize().await.unwrap();
    let before = metadata.identity();
    let busy = Survivor::open(folder.path()).await.err().unwrap();
    assert!(matches!(busy, SurvivorError::Open(OpenError::InUse(_))), "{busy}");
    cluster.network.0.lock().replicas.remove(&address);
    metadata.shutdown().await.unwrap();
    drop(metadata);

    let survivor = Survivor::open(folder.path()).await.unwrap();
    let holding = survivor.holding();
    assert_eq!((holding.identity, holding.position.sequence), (before, 20));
    assert_eq!(holding.voters.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    let kept = tempfile::tempdir().unwrap();
    copy(&folder.path().join("log"), &kept.path().join("log"));
    std::fs::copy(folder.path().join("identity"), kept.path().join("identity")).unwrap();
    let next = Identity { cluster: ClusterId(99), ..before };
    let [id, storage] = [5, 6].map(uuid::Uuid::from_u128);
    let history = History { id, storage, incarnation: 1, parent: None, begun: LogTime(1) };
    assert_eq!(survivor.go_on_alone(next.cluster, &history).await.unwrap(), next);
    let alone = Survivor::open(folder.path()).await.err().unwrap();
    assert!(matches!(alone, SurvivorError::Alone(identity) if identity == next), "{alone}");
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    copy(&kept.path().join("log"), &folder.path().join("log"));
    std::fs::copy(kept.path().join("identity"), folder.path().join("identity")).unwrap();

    let metadata = open(&cluster.network, folder.path(), &address, vec!["nobody".to_owned()], 1).await;
    assert_eq!(metadata.identity(), next);
    metadata.linearize().await.unwrap();
    assert!((0..20).all(|number| has(&metadata, number)));
    assert_eq!(metadata.members().len(), 1);
    assert_eq!(metadata.history().await.unwrap(), Some(history));
    put(&metadata, 20).await.unwrap();
    // The others still name it as one of theirs, and elect among themselves.
    let term = metadata.status().term;
    put(cluster.any(), 21).await.unwrap();
    cluster.any().announce("replica-0").await.unwrap();
    metadata.linearize().await.unwrap();
    assert_eq!((metadata.status().term, has(&metadata, 21)), (term, false));
    assert!(!has(cluster.any(), 20));

    // Whoever joins gets all that there is.
    let blank = tempfile::tempdir().unwrap();
    let joined = open(&cluster.network, blank.path(), "blank", vec![address], 999).await;
    assert_eq!(joined.identity(), Identity { node: 4, ..next });
    joined.linearize().await.unwrap();
    assert!((0..=20).all(|number| has(&joined, number)));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_node_that_was_removed_is_told_so_and_does_not_come_back() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let gone = &cluster.replicas[(leader + 1) % 3];
    let node = gone.metadata.identity().node;
    change(&cluster.replicas[leader].metadata, MemberChange::Remove { node }).await;
    let told = gone.metadata.announce(&gone.address).await.unwrap_err();
    assert_eq!(told, AnnounceError::Removed(node));
    let other = &cluster.replicas[(leader + 2) % 3].metadata;
    let in_contact = async {
        loop {
            let view = other.view().await;
            assert_eq!((view.voters(), view.quorum()), (2, 2));
            if view.voters_in_contact() == Some(2) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, in_contact).await.unwrap();
}
