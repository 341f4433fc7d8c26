//! `roadstead recover`: most voters are lost for good, and the replica that is left goes on.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, Image, Setup, until};

const PATIENCE: Duration = Duration::from_mins(1);

fn setup() -> Setup {
    Setup::filesystem().flag("--part-size", "5MiB")
}

/// Three replicas, of which two are killed; the last one has everything.
struct Lost {
    cluster: Cluster,
    /// The cluster's id before.
    id: String,
    image: Image,
}

const SURVIVOR: usize = 2;

async fn lose_two() -> Lost {
    let mut cluster = Cluster::start(3, setup).await;
    let image = Image::random(1, &[1_000, 70_000]);
    // Its history has a name, and all of them know it.
    let marker = cluster.folder().join("blobs/meta/mar");
    let is_marker = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("marker-");
    until("the blob store is marked as the cluster's", PATIENCE, async || {
        std::fs::read_dir(&marker).ok()?.flatten().any(is_marker).then_some(())
    })
    .await;
    for replica in &cluster.replicas {
        replica.client().push_image("team/app", "before", &image).await;
    }
    cluster.replicas[SURVIVOR].client().pull_image("team/app", "before", &image).await;
    let members = cluster.members(SURVIVOR).await;
    let id = members["cluster"].as_str().expect("an id").to_owned();
    for lost in [0, 1] {
        cluster.replicas[lost].kill();
    }
    Lost { cluster, id, image }
}

impl Lost {
    /// Recovers the survivor, whose process has ended.
    async fn recover(&self) {
        let setup = self.cluster.replicas[SURVIVOR].setup();
        let printed = setup.offline(&["recover", "--yes-i-lose", &self.id]).succeeds().await;
        assert!(printed.contains("node 3 is the only voter now"), "{printed}");
    }
}

#[tokio::test]
async fn p12_the_replica_that_is_left_goes_on_and_blank_ones_join_it() {
    let mut lost = lose_two().await;
    let survivor = lost.cluster.replicas[SURVIVOR].setup().clone();
    let told = survivor.offline(&["recover", "--yes-i-lose", &lost.id]).fails().await;
    assert!(told.contains("in use by another process"), "{told}");
    lost.cluster.replicas[SURVIVOR].kill();
    for other in [0, 1] {
        std::fs::remove_dir_all(lost.cluster.replicas[other].data()).expect("its volume is deleted");
    }

    // It explains, and does nothing that was not confirmed.
    for (typed, why) in [("", "it was not confirmed"), ("yes\n", "\"yes\" is not the id")] {
        let told = survivor.offline(&["recover"]).typing(typed).fails().await;
        for words in ["nothing was changed", why, "What may be lost", "node 1 (127.0.0.1:", &lost.id] {
            assert!(told.contains(words), "no {words:?} in:\n{told}");
        }
    }
    let told = survivor.offline(&["recover", "--yes-i-lose", "another"]).fails().await;
    assert!(told.contains("another is not the id of this replica's cluster"), "{told}");
    let printed = survivor.offline(&["recover"]).typing(&format!("{}\n", lost.id)).succeeds().await;
    assert!(printed.contains("node 3 is the only voter now"), "{printed}");
    let told = survivor.offline(&["recover"]).fails().await;
    assert!(told.contains("is the only voter of its cluster already"), "{told}");
    // Whoever was interrupted asks the same again.
    let again = survivor.offline(&["recover", "--yes-i-lose", &lost.id]).succeeds().await;
    assert!(again.contains("node 3 is the only voter already") && again.contains("nothing is to do"), "{again}");

    let Lost { mut cluster, id, image } = lost;
    cluster.replicas[SURVIVOR].restart().await;
    let client = cluster.replicas[SURVIVOR].client();
    client.pull_image("team/app", "before", &image).await;
    client.push_image("team/app", "after", &image).await;
    let members = cluster.members(SURVIVOR).await;
    assert_ne!(members["cluster"], id);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1), "{members}");

    let (one, two) = (cluster.join(setup(), SURVIVOR).await, cluster.join(setup(), SURVIVOR).await);
    let grown = until("both have a vote", PATIENCE, async || {
        Some(cluster.members(one).await).filter(|members| members["quorum"]["voters"] == 3)
    })
    .await;
    let nodes: Vec<_> = grown["members"].as_array().expect("a list").iter().map(|member| &member["node"]).collect();
    assert_eq!(nodes, [&Value::from(3), &Value::from(4), &Value::from(5)], "no id is given twice");
    for joined in [one, two] {
        let client = cluster.replicas[joined].client();
        client.pull_image("team/app", "before", &image).await;
        client.pull_image("team/app", "after", &image).await;
    }
    // They are a cluster again: any one may be lost.
    cluster.replicas[SURVIVOR].kill();
    cluster.leader().await;
    cluster.replicas[one].client().push_image("team/app", "later", &image).await;
    cluster.replicas[two].client().pull_image("team/app", "later", &image).await;
    cluster.replicas[SURVIVOR].restart().await;
    cluster.replicas[SURVIVOR].client().pull_image("team/app", "later", &image).await;
}

#[tokio::test]
async fn p12_those_that_were_given_up_are_refused_when_they_come_back() {
    let mut lost = lose_two().await;
    lost.cluster.replicas[SURVIVOR].kill();
    lost.recover().await;
    // Before the survivor runs, and while it does.
    for round in 0..2 {
        let [first, second] = [0, 1].map(|other| lost.cluster.replicas[other].setup().clone().refuses());
        for (status, log) in <[_; 2]>::from(tokio::join!(first, second)) {
            assert!(!status.success(), "round {round}");
            assert!(log.contains("another replica was recovered without this one"), "round {round}:\n{log}");
            assert_eq!(log.matches("ready on").count(), 1, "round {round}: nothing was served but before:\n{log}");
        }
        if round == 0 {
            lost.cluster.replicas[SURVIVOR].restart().await;
        }
    }
    let client = lost.cluster.replicas[SURVIVOR].client();
    client.pull_image("team/app", "before", &lost.image).await;
    client.push_image("team/app", "after", &lost.image).await;
}

/// Somebody recovers a replica although the others only could not be reached.
#[tokio::test]
async fn p12_those_that_were_given_up_while_they_ran_end() {
    let mut lost = lose_two().await;
    for other in [0, 1] {
        lost.cluster.replicas[other].restart().await;
    }
    lost.cluster.replicas[SURVIVOR].kill();
    lost.cluster.replicas[0].client().pull_image("team/app", "before", &lost.image).await;
    lost.recover().await;
    lost.cluster.replicas[SURVIVOR].restart().await;
    let client = lost.cluster.replicas[SURVIVOR].client();
    client.push_image("team/app", "after", &lost.image).await;
    let members = lost.cluster.members(SURVIVOR).await;
    for other in [0, 1] {
        assert!(!lost.cluster.replicas[other].ended().await.success());
        let log = lost.cluster.replicas[other].log();
        assert!(log.contains("another replica was recovered without this one"), "{log}");
    }
    client.pull_image("team/app", "after", &lost.image).await;
    let now = lost.cluster.members(SURVIVOR).await;
    assert_eq!((&now["members"][0]["node"], &now["term"]), (&Value::from(3), &members["term"]), "undisturbed");
}
