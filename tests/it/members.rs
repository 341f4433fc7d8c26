//! Who is in the cluster and who leads, as a person or the operator changes it (P3, P12).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use crate::harness::{
    Client, Cluster, Image, MEDIA_TYPE_IMAGE, Request, Setup, random_bytes, repository_root, sha256, until,
};

/// What takes longer has failed: an election on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

fn setup() -> Setup {
    Setup::filesystem().flag("--part-size", "5MiB")
}

/// The member of a node id.
fn member(members: &Value, node: u64) -> Option<&Value> {
    members["members"].as_array()?.iter().find(|member| member["node"] == node)
}

fn voters(members: &Value) -> u64 {
    members["quorum"]["voters"].as_u64().expect("a number")
}

async fn node(cluster: &Cluster, index: usize) -> u64 {
    cluster.members(index).await["this"]["node"].as_u64().expect("a node id")
}

/// Waits until a replica says so of the members.
async fn until_members(cluster: &Cluster, index: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, PATIENCE, async || Some(cluster.members(index).await).filter(&is_so)).await
}

/// Runs a command until it is done: on a busy machine a member may not be in contact just then, or nobody lead.
async fn done(cluster: &Cluster, index: usize, words: &str) -> String {
    until(words, PATIENCE, async || {
        let (is_done, printed) = cluster.replicas[index].command(words).outcome().await;
        is_done.then_some(printed)
    })
    .await
}

/// Runs a command that must be refused, and gives what it said.
async fn refused(cluster: &Cluster, index: usize, words: &str) -> String {
    let (code, printed, told) = cluster.replicas[index].command(words).ends().await;
    assert_eq!((code, printed.as_str()), (1, ""), "{words}: {told}");
    told
}

/// The same keys everywhere: what programs are promised.
fn assert_same_shape(real: &Value, golden: &Value, place: &str) {
    match (real, golden) {
        (Value::Object(real), Value::Object(golden)) => {
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(real), keys(golden), "{place}");
            for (key, value) in real {
                assert_same_shape(value, &golden[key], &format!("{place}.{key}"));
            }
        }
        (Value::Array(real), Value::Array(golden)) => {
            for value in real {
                assert_same_shape(value, golden.first().expect("an example"), place);
            }
        }
        _ => {}
    }
}

fn golden(name: &str) -> Value {
    let path = repository_root().join("registry/server/golden/admin/v1").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

#[tokio::test]
async fn p12_a_cluster_grows_and_shrinks_and_keeps_its_quorum() {
    let mut cluster = Cluster::start(3, setup).await;
    let image = Image::random(1, &[1_000, 70_000]);
    cluster.replicas[0].client().push_image("team/app", "v1", &image).await;
    let leader = cluster.leader().await;
    for index in 0..3 {
        let members = cluster.members(index).await;
        assert_same_shape(&members, &golden("members.json"), "members");
        assert_eq!(members["leader"], node(&cluster, leader).await, "any replica tells what the leader sees");
        assert_eq!((voters(&members), &members["quorum"]["needed"]), (3, &Value::from(2)));
    }

    // A fourth learns, and gets a vote when somebody says so.
    let fourth = cluster.join(setup().flag("--join-as", "learner"), leader).await;
    let id = node(&cluster, fourth).await;
    let follower = (leader + 1) % 3;
    let members = until_members(&cluster, follower, "the learner has everything", |members| {
        member(members, id).is_some_and(|member| member["lag_entries"] == 0)
    })
    .await;
    let learner = member(&members, id).expect("a member");
    assert_eq!((learner["role"].as_str(), voters(&members)), (Some("learner"), 3));
    assert_eq!(learner["volume"], cluster.members(fourth).await["this"]["volume"]);
    cluster.replicas[fourth].client().pull_image("team/app", "v1", &image).await;
    let promoted = done(&cluster, follower, &format!("members promote {id}")).await;
    assert!(promoted.contains("4 voters, 3 must agree"), "{promoted}");
    assert_eq!(voters(&cluster.members(fourth).await), 4);
    cluster.replicas[fourth].client().push_image("team/app", "v2", &image).await;

    // What must not be is refused, with what can be done.
    let leading = node(&cluster, cluster.leader().await).await;
    let told = refused(&cluster, follower, &format!("members remove {leading}")).await;
    assert!(told.contains(&format!("node {leading} leads")) && told.contains("leadership transfer"), "{told}");
    let told = refused(&cluster, follower, "members promote 99").await;
    assert!(told.contains("no node 99") && told.contains("roadstead members"), "{told}");

    // The fourth goes, for good.
    done(&cluster, follower, &format!("members remove {id}")).await;
    let members = cluster.members(follower).await;
    assert_eq!((voters(&members), member(&members, id)), (3, None));
    let told = format!("node {id} was removed from its cluster");
    let ended = cluster.replicas[fourth].ended().await;
    assert_eq!(ended.code(), Some(4), "it notices that nobody leads it any more, and says so to whoever started it");
    assert!(cluster.replicas[fourth].log().contains(&told), "{}", cluster.replicas[fourth].log());
    let (status, log) = cluster.replicas[fourth].setup().clone().refuses().await;
    assert_eq!(status.code(), Some(4));
    assert!(log.contains(&told), "{log}");
    assert_eq!(member(&cluster.members(follower).await, id), None);
    cluster.replicas[follower].client().pull_image("team/app", "v2", &image).await;
}

#[tokio::test]
async fn p12_a_voter_that_the_others_need_is_not_removed() {
    let cluster = Cluster::start(3, setup).await;
    let leader = cluster.leader().await;
    let (silent, needed) = ((leader + 1) % 3, (leader + 2) % 3);
    let (silent_node, needed_node) = (node(&cluster, silent).await, node(&cluster, needed).await);
    cluster.replicas[silent].freeze();
    let in_contact = |members: &Value| members["quorum"]["in_contact"] == 2;
    until_members(&cluster, leader, "the leader misses it", in_contact).await;
    let told = refused(&cluster, needed, &format!("members remove {needed_node}")).await;
    for words in ["there are 2 voters, of which 2 must agree, and 1 is in contact", "remove them first"] {
        assert!(told.contains(words), "{told}");
    }
    let told = refused(&cluster, needed, &format!("leadership transfer --to {silent_node}")).await;
    assert!(told.contains("does not answer the leader"), "{told}");
    done(&cluster, needed, &format!("members remove {silent_node}")).await;
    let members = until_members(&cluster, needed, "the two that are left are in contact", in_contact).await;
    assert_eq!(voters(&members), 2);
}

#[tokio::test]
async fn the_last_voter_stays() {
    let registry = Setup::filesystem().start().await;
    let (code, _, told) = registry.command("members remove 1").ends().await;
    assert!(code == 1 && told.contains("node 1 is the last voter"), "{told}");
    let (code, _, told) = registry.command("leadership transfer").ends().await;
    assert!(code == 1 && told.contains("no other voter could lead"), "{told}");
    let printed = registry.subcommand("drain").succeeds().await;
    assert!(printed.contains("it is the only voter"), "{printed}");
    registry.client().get("/readyz").send().await.status(503);
}

/// What the pushers of one load have seen.
#[derive(Default, Debug)]
struct Seen {
    requests: u64,
    /// Answers that had to be asked for again.
    retried: Vec<String>,
    failed: Vec<String>,
    /// When each push was acknowledged.
    acknowledged: Vec<Instant>,
    slowest: Duration,
}

/// How often docker tries a request again, and how long it waits before.
const RETRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Sends a request as docker does, until it succeeds or has been tried often enough.
async fn persist(seen: &mut Seen, request: impl Fn() -> Request) {
    let began = Instant::now();
    for attempt in 0..=RETRIES {
        let why = match request().try_send().await {
            Ok(reply) if reply.status == 201 => break,
            Ok(reply) => format!("{} {:?}", reply.status, reply.body),
            Err(error) => error.to_string(),
        };
        if attempt == RETRIES {
            seen.failed.push(why);
            break;
        }
        seen.retried.push(why);
        interval_at(Instant::now() + RETRY_PAUSE, RETRY_PAUSE).tick().await;
    }
    seen.requests += 1;
    seen.slowest = seen.slowest.max(began.elapsed());
}

/// Pushes small images through one address until it is told to end.
async fn push_on(base: String, pusher: u64, stop: Arc<AtomicBool>) -> Seen {
    let client = Client::with_authorities(&base, &[]);
    let mut seen = Seen::default();
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let content = random_bytes(pusher * 1_000_000 + round, 2_000);
        let image = Image::random(pusher * 1_000_000 + round, &[500]);
        let (repository, digest) = (format!("team/app{pusher}"), sha256(&content));
        let blob = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        persist(&mut seen, || client.post(&blob).body(content.clone())).await;
        for layer in image.blobs() {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(layer));
            persist(&mut seen, || client.post(&target).body(layer.clone())).await;
        }
        let target = format!("/v2/{repository}/manifests/v{round}");
        let manifest = || client.put(&target).header("content-type", MEDIA_TYPE_IMAGE).body(image.manifest.clone());
        persist(&mut seen, manifest).await;
        seen.acknowledged.push(Instant::now());
    }
    seen
}

/// The figures are printed, and not judged: they are the machine's.
#[expect(clippy::print_stdout, reason = "what was measured")]
#[tokio::test]
async fn p3_leadership_changes_hands_under_load_and_no_request_fails() {
    const PUSHERS: u64 = 4;
    const TRANSFERS: usize = 6;
    let cluster = Cluster::start(3, setup).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut pushers = JoinSet::new();
    for pusher in 0..PUSHERS {
        pushers.spawn(push_on(cluster.front.base(), pusher, Arc::clone(&stop)));
    }
    let (mut led, mut moments) = (Vec::new(), Vec::new());
    for round in 0..TRANSFERS {
        // Again, where another leads by now, or the one that should does not hear in time.
        let (asked, moment, done) = until("the leadership has changed hands", PATIENCE, async || {
            let leader = cluster.leader().await;
            let asked = (leader + round) % 3;
            let words = if round % 2 == 0 {
                "leadership transfer --json".to_owned()
            } else {
                format!("leadership transfer --json --to {}", node(&cluster, (leader + 1) % 3).await)
            };
            let began = Instant::now();
            let (code, printed, told) = cluster.replicas[asked].command(&words).ends().await;
            assert!(code == 0 || told.contains("leader"), "{told}");
            (code == 0).then(|| (asked, began..Instant::now(), serde_json::from_str::<Value>(&printed).expect("JSON")))
        })
        .await;
        moments.push(moment);
        assert_same_shape(&done, &golden("leadership-transferred.json"), "transferred");
        assert_ne!(done["leader"], done["from"], "{done}");
        led.push(done["leader"].clone());
        // The load goes on for a while under each leader.
        let position = cluster.members(asked).await["last_log_index"].as_u64();
        until_members(&cluster, asked, "the new leader takes writes", |members| {
            members["last_log_index"].as_u64() > position.map(|index| index + 100)
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let seen = pushers.join_all().await;
    let requests: u64 = seen.iter().map(|seen| seen.requests).sum();
    let slowest = seen.iter().map(|seen| seen.slowest).max().unwrap_or_default();
    let mut acknowledged: Vec<_> = seen.iter().flat_map(|seen| seen.acknowledged.clone()).collect();
    acknowledged.sort();
    // With the machine's own pauses beside those that a transfer makes.
    let longest = |during: bool| {
        let transfers =
            |pair: &&[Instant]| moments.iter().any(|moment| pair[0] < moment.end && moment.start < pair[1]) == during;
        let gaps = acknowledged.windows(2).filter(transfers).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default().as_millis()
    };
    println!(
        "{requests} requests over {TRANSFERS} transfers to {led:?}: {} retried, slowest {} ms; longest time without a push \
         {} ms in a transfer, {} ms at other times",
        seen.iter().map(|seen| seen.retried.len()).sum::<usize>(),
        slowest.as_millis(),
        longest(true),
        longest(false)
    );
    let failed: Vec<_> = seen.iter().flat_map(|seen| &seen.failed).collect();
    assert!(failed.is_empty(), "{} of {requests} failed: {failed:#?}", failed.len());
}

#[tokio::test]
async fn a_replica_that_drains_hands_over_and_lets_uploads_finish() {
    let mut cluster = Cluster::start(3, setup).await;
    let leader = cluster.leader().await;
    let content = random_bytes(3, 40_000);
    let mut upload = cluster.replicas[leader].client().begin("team/app").await;
    upload.chunk(0..20_000, content[..20_000].to_vec()).await.status(202);
    let drain = async || {
        let printed = cluster.replicas[leader].subcommand("drain").arg("--json").succeeds().await;
        serde_json::from_str::<Value>(&printed).expect("JSON")
    };
    let me = node(&cluster, leader).await;
    let drained = drain().await;
    assert_same_shape(&drained, &golden("drained.json"), "drained");
    assert_eq!((&drained["node"], &drained["handed_over"]), (&Value::from(me), &Value::from(true)));
    assert!(drained["leader"].is_u64() && drained["leader"] != me, "{drained}");
    cluster.replicas[leader].client().get("/readyz").send().await.status(503);
    let again = drain().await;
    assert_eq!((&again["handed_over"], &again["leader"]), (&Value::from(false), &drained["leader"]));
    upload.put(&sha256(&content), content[20_000..].to_vec()).await.status(201);
    assert!(cluster.replicas[leader].terminate().await.success());

    // SIGTERM alone hands over as well.
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    let term = |members: &Value| members["term"].as_u64().expect("a number");
    let before = term(&cluster.members(next).await);
    assert!(cluster.replicas[next].terminate().await.success());
    let log = cluster.replicas[next].log();
    assert!(!log.contains("takes the leadership over") && !log.contains("has taken the leadership"), "{log}");
    let last = (0..3).find(|index| *index != leader && *index != next).expect("one is left");
    // Without a majority it leads no longer by now, but it was given the next term.
    assert!(term(&cluster.members(last).await) > before);
}

#[tokio::test]
async fn a_snapshot_leaves_nothing_to_replay() {
    let registry = Setup::filesystem().start().await;
    registry.client().push_image("team/app", "v1", &Image::random(1, &[1_000])).await;
    let status = async || {
        let printed = registry.subcommand("status").arg("--json").succeeds().await;
        serde_json::from_str::<Value>(&printed).expect("JSON")
    };
    let before = status().await;
    // The first snapshot of the backup is taken soon.
    let example = if before["backup"].is_null() { "status.json" } else { "status-with-a-backup.json" };
    assert_same_shape(&before, &golden(example), "status");
    let printed = registry.subcommand("snapshot").arg("--json").succeeds().await;
    let taken: Value = serde_json::from_str(&printed).expect("JSON");
    assert_same_shape(&taken, &golden("snapshot.json"), "snapshot");
    assert!(taken["index"].as_u64() >= before["raft"]["applied_index"].as_u64(), "{taken} after {before}");
    assert!(status().await["raft"]["checkpoint_index"].as_u64() >= taken["index"].as_u64());
}
