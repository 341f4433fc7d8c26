//! Replicas without a vote, which serve like the others (P3, P6).

use crate::harness::{Cluster, Image, MEDIA_TYPE_IMAGE, Setup};

fn setup() -> Setup {
    Setup::filesystem().flag("--part-size", "5MiB")
}

#[tokio::test]
async fn p3_a_frontend_serves_like_a_voter_and_never_counts() {
    let mut cluster = Cluster::start(3, setup).await;
    let frontend = cluster.join(setup().flag("--join-as", "learner"), 0).await;
    for round in 0..4 {
        let image = Image::random(round, &[1_000, 300_000]);
        let (writer, reader) = if round % 2 == 0 { (frontend, 1) } else { (1, frontend) };
        cluster.replicas[writer].client().push_image("team/app", "latest", &image).await;
        cluster.replicas[reader].client().pull_image("team/app", "latest", &image).await;
    }
    let members = cluster.members(frontend).await;
    let roles: Vec<_> = members["members"].as_array().unwrap().iter().map(|member| member["role"].clone()).collect();
    assert_eq!(roles.iter().filter(|role| *role == "learner").count(), 1, "{members}");
    assert_eq!(roles.len(), 4, "{members}");

    // With it gone, two of three voters are as good a quorum as before.
    let image = Image::random(9, &[1_000]);
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    cluster.replicas[frontend].kill();
    cluster.replicas[follower].kill();
    cluster.replicas[leader].client().push_image("team/app", "latest", &image).await;

    // It comes back to what it missed, and goes on alone when nobody is left to ask.
    cluster.replicas[frontend].restart().await;
    cluster.replicas[frontend].client().pull_image("team/app", "latest", &image).await;
    cluster.replicas[leader].kill();
    let client = cluster.replicas[frontend].client();
    client.pull_image("team/app", "latest", &image).await;
    assert!(client.manifest("team/app", "latest").await.status(200).header("registry-stale").is_some());
    client.put_manifest("team/app", "v2", MEDIA_TYPE_IMAGE, &image.manifest).await.status(503);
}
