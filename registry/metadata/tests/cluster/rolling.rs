//! Two releases side by side: they agree on one log, what the older does not read waits, and the older does not come back.
//!
//! Both are this release, with other tables of levels: by those of the newer one, deleting a tag came with level 2, which
//! the older does not read. A replica of the older one that had to apply it would stop.

use roadstead_metadata::{
    AnnounceError, Command, CommandId, DeleteTag, DeleteTagRefused, LaterLevel, Level, Levels, LogTime, MemberChange,
    Metadata, OpenError, Options, ProposeError, QueryError, Survivor, SurvivorError,
};
use tokio::time::timeout;

use crate::network::{Cluster, PATIENCE, Replica, announce, change, has, put, repository, tag, try_open};

fn since(command: &Command) -> Level {
    match command {
        Command::DeleteTag(_) => Level(2),
        command => command.since(),
    }
}

const OLD: Levels = Levels { reads: Level(1), since };
const NEW: Levels = Levels { reads: Level(2), since };

const NOT_YET: ProposeError = ProposeError::NotYet { since: Level(2), in_force: Level(1) };
const LATER: LaterLevel = LaterLevel { level: Level(2), reads: Level(1) };

async fn delete(metadata: &Metadata, number: u128) -> Result<Result<(), DeleteTagRefused>, ProposeError> {
    let delete = DeleteTag { repository: repository(), tag: tag(number) };
    metadata.propose(CommandId(number | 1 << 64), LogTime(1), delete).await
}

impl Cluster {
    /// Stops a replica, and gives what is left of it.
    async fn stop(&mut self, index: usize) -> Replica {
        let replica = self.replicas.remove(index);
        self.network.0.lock().replicas.remove(&replica.address);
        replica.metadata.shutdown().await.unwrap();
        replica
    }

    /// Opens a replica that was stopped, as another release.
    async fn open_again(&self, stopped: Replica, levels: Levels) -> (Result<Metadata, OpenError>, Stopped) {
        let Replica { address, folder, metadata } = stopped;
        drop(metadata);
        let seeds: Vec<String> = self.replicas.iter().map(|replica| replica.address.clone()).collect();
        let opened = async {
            loop {
                let opened = try_open(&self.network, folder.path(), &address, seeds.clone(), 1, levels).await;
                // A message to the former process is still being answered.
                if !matches!(opened, Err(OpenError::InUse(_))) {
                    return opened;
                }
                tokio::task::yield_now().await;
            }
        };
        let opened = timeout(PATIENCE, opened).await.unwrap();
        (opened, Stopped { address, folder })
    }

    /// Starts a replica anew as another release, and waits until the others know.
    async fn restart(&mut self, index: usize, levels: Levels) {
        let stopped = self.stop(index).await;
        let (opened, Stopped { address, folder }) = self.open_again(stopped, levels).await;
        let metadata = opened.unwrap();
        announce(&metadata, &address).await;
        self.replicas.insert(index, Replica { address, folder, metadata });
    }

    async fn until_level(&self, level: Level) {
        for Replica { metadata, .. } in &self.replicas {
            let reached = async {
                while metadata.status().level < level {
                    let _ = metadata.linearize().await;
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE, reached).await.unwrap();
        }
    }
}

/// A replica's place, without a process.
struct Stopped {
    address: String,
    folder: tempfile::TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_older_release_does_not_read_waits_until_the_last_replica_is_upgraded() {
    let mut cluster = Cluster::of_release(3, OLD).await;
    let mut number = 0;
    put(cluster.any(), number).await.unwrap();
    for upgraded in 0..3 {
        cluster.restart(upgraded, NEW).await;
        if upgraded == 2 {
            break;
        }
        // The older leads the newer, and the newer the older.
        for leader in [2, upgraded, 2] {
            cluster.let_lead(leader).await;
            for writer in 0..3 {
                number += 1;
                let metadata = &cluster.replicas[writer].metadata;
                put(metadata, number).await.unwrap();
                assert_eq!(delete(metadata, 0).await, Err(NOT_YET), "{upgraded} is upgraded, {writer} proposes");
                for reader in &cluster.replicas {
                    reader.metadata.linearize().await.unwrap();
                    assert!(has(&reader.metadata, number) && has(&reader.metadata, 0));
                    assert_eq!(reader.metadata.status().level, Level(1));
                }
            }
        }
    }
    cluster.until_level(Level(2)).await;
    let reads: Vec<_> = cluster.any().view().await.members.iter().map(|member| member.reads).collect();
    assert_eq!(reads, [Level(2); 3]);
    for writer in 0..3 {
        let metadata = &cluster.replicas[writer].metadata;
        delete(metadata, writer as u128).await.unwrap().unwrap();
        for reader in &cluster.replicas {
            reader.metadata.linearize().await.unwrap();
            assert!(!has(&reader.metadata, writer as u128) && has(&reader.metadata, number));
        }
    }

    // The older is refused where it was, and where it was not.
    let stopped = cluster.stop(1).await;
    let (opened, Stopped { address, folder }) = cluster.open_again(stopped, OLD).await;
    let refused = opened.err().unwrap();
    assert!(matches!(refused, OpenError::Later(later) if later == LATER), "{refused}");
    for words in ["level 2", "up to level 1", "Start it with the release", "roadstead restore"] {
        assert!(refused.to_string().contains(words), "no {words:?} in: {refused}");
    }
    let survivor = Survivor::open(folder.path()).await.err().unwrap();
    assert!(matches!(survivor, SurvivorError::State(QueryError::Later(later)) if later == LATER), "{survivor}");
    let blank = tempfile::tempdir().unwrap();
    let seeds = vec![cluster.replicas[0].address.clone()];
    let refused = try_open(&cluster.network, blank.path(), "blank", seeds.clone(), 999, OLD).await.err().unwrap();
    assert!(matches!(refused, OpenError::Later(later) if later == LATER), "{refused}");
    assert_eq!(cluster.any().members().len(), 3, "nobody was taken in");
    let back = try_open(&cluster.network, folder.path(), &address, seeds.clone(), 1, NEW).await.unwrap();
    back.linearize().await.unwrap();
    assert!(!has(&back, 0) && has(&back, number));
    let joined = try_open(&cluster.network, blank.path(), "blank", seeds, 999, NEW).await.unwrap();
    joined.linearize().await.unwrap();
    assert!(!has(&joined, 0) && has(&joined, number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_back_older_after_the_level_rose_without_it_ends_before_it_misreads_anything() {
    let mut cluster = Cluster::of_release(3, OLD).await;
    for number in 0..3 {
        put(cluster.any(), number).await.unwrap();
    }
    // It has said that it reads level 2 when it goes.
    cluster.restart(2, NEW).await;
    let away = cluster.stop(2).await;
    cluster.restart(0, NEW).await;
    cluster.restart(1, NEW).await;
    cluster.until_level(Level(2)).await;
    delete(cluster.any(), 0).await.unwrap().unwrap();

    // It comes back as the release that it was before: its own facts do not say yet that this is too late.
    let (opened, Stopped { address, .. }) = cluster.open_again(away, OLD).await;
    let metadata = opened.unwrap();
    let told = async {
        loop {
            match metadata.announce(&address).await {
                Err(AnnounceError::NoLeader(_)) => {}
                told => return told,
            }
            if metadata.status().fatal.is_some() {
                return Err(LATER.into()); // it has met the entry that raised the level
            }
        }
    };
    assert_eq!(timeout(PATIENCE, told).await.unwrap(), Err(AnnounceError::Later(LATER)));
    let stopped = async {
        while metadata.status().fatal.is_none() {
            metadata.changed().await;
        }
    };
    timeout(PATIENCE, stopped).await.unwrap();
    assert_eq!(metadata.status().fatal, Some(LATER.to_string()));
    assert!(has(&metadata, 0), "what it does not read it has not applied");
    put(cluster.any(), 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_rises_too_when_the_last_older_replica_is_removed() {
    let mut cluster = Cluster::of_release(3, OLD).await;
    cluster.restart(0, NEW).await;
    cluster.restart(1, NEW).await;
    let node = cluster.replicas[2].metadata.identity().node;
    cluster.let_lead(0).await;
    assert_eq!(delete(cluster.any(), 0).await, Err(NOT_YET));
    change(cluster.any(), MemberChange::Remove { node }).await;
    cluster.stop(2).await;
    let risen = async {
        while cluster.any().status().level < Level(2) {
            cluster.replicas[1].metadata.settle_level().await;
        }
    };
    timeout(PATIENCE, risen).await.unwrap();
    assert_eq!(delete(cluster.any(), 0).await, Ok(Err(DeleteTagRefused::TagUnknown)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_uses_all_that_it_reads_and_its_folder_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = |levels| Options { levels, ..Options::new(folder.path(), [1, 2]) };
    let open = async |levels| Metadata::open(options(levels)).await;
    let metadata = open(OLD).await.unwrap();
    put(&metadata, 1).await.unwrap();
    assert_eq!(delete(&metadata, 1).await, Err(NOT_YET));
    metadata.shutdown().await.unwrap();
    drop(metadata);

    let metadata = open(NEW).await.unwrap();
    assert_eq!((metadata.status().level, metadata.status().reads), (Level(2), Level(2)));
    // The state has it on disk before anything needs it.
    let entries = metadata.query().unwrap().entries_applied().unwrap();
    assert_eq!(metadata.status().checkpoint_index + 1, entries);
    delete(&metadata, 1).await.unwrap().unwrap();
    metadata.shutdown().await.unwrap();
    drop(metadata);

    let refused = open(OLD).await.err().unwrap();
    assert!(matches!(refused, OpenError::Later(later) if later == LATER), "{refused}");
    let metadata = open(NEW).await.unwrap();
    assert!(!has(&metadata, 1));
    assert_eq!(metadata.status().level, Level(2));
}
