//! A mirror becomes home (claim 15): handed over or by force, and what becomes of the home that was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::filters::closed;
use super::{PATIENCE, Regions, following, mirror_of_three_as, newest, status, until_tag};
use crate::harness::{Client, Image, Link, MEDIA_TYPE_IMAGE, Roadstead, Setup, Workbench, sha256, until};

/// A push that was acknowledged.
#[derive(Clone)]
pub(super) struct Acknowledged {
    pub(super) tag: String,
    image: Image,
    at: Instant,
}

/// Pushes images one after the other, and keeps what was acknowledged.
pub(super) struct Pusher {
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    refused: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    running: JoinSet<()>,
}

/// The status of a push of all of an image; 0 if there was no answer.
pub(super) async fn try_push(client: &Client, tag: &str, image: &Image) -> u16 {
    for blob in image.blobs() {
        let target = format!("/v2/team/app/blobs/uploads/?digest={}", sha256(blob));
        let sent = client.post(&target).header("content-type", "application/octet-stream").body(blob.clone());
        match sent.try_send().await {
            Ok(reply) if reply.status == 201 => {}
            Ok(reply) => return reply.status,
            Err(_) => return 0,
        }
    }
    let put = client.put(&format!("/v2/team/app/manifests/{tag}")).header("content-type", MEDIA_TYPE_IMAGE);
    put.body(image.manifest.clone()).try_send().await.map_or(0, |reply| reply.status)
}

impl Pusher {
    /// Pushes to `client` until it is told to end.
    pub(super) fn start(client: Client, seed: u64) -> Self {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let (refused, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (kept, told, ends) = (Arc::clone(&acknowledged), Arc::clone(&refused), Arc::clone(&over));
        let mut running = JoinSet::new();
        running.spawn(async move {
            for number in 0.. {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (tag, image) = (format!("v{number}"), Image::random(seed + number, &[1_000, 40_000]));
                match try_push(&client, &tag, &image).await {
                    201 => kept.lock().await.push(Acknowledged { tag, image, at: Instant::now() }),
                    503 => told.store(true, Ordering::Relaxed),
                    0 => {}
                    other => panic!("a push was answered with {other}"),
                }
            }
        });
        Self { acknowledged, refused, over, running }
    }

    pub(super) async fn until_acknowledged(&self, count: usize) {
        until("pushes are acknowledged", PATIENCE, async || {
            (self.acknowledged.lock().await.len() >= count).then_some(())
        })
        .await;
    }

    pub(super) async fn end(mut self) -> Vec<Acknowledged> {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no push is answered otherwise");
        }
        self.acknowledged.lock().await.clone()
    }
}

pub(super) async fn json(registry: &Roadstead, words: &str) -> Value {
    let printed = registry.command(words).arg("--json").succeeds().await;
    serde_json::from_str(&printed).expect("JSON")
}

/// What the admin API says of a promotion, to whoever does not wait for it.
async fn outlook(mirror: &Roadstead) -> Value {
    let bench = Workbench::new();
    let tool = bench.tool("curl").args("--silent --show-error --unix-socket").arg(mirror.data().join("admin.sock"));
    let text = tool.arg("http://localhost/admin/v1/promotion").succeeds().await;
    serde_json::from_str(&text).expect("JSON")
}

pub(super) async fn is_whole(client: &Client, pushed: &Acknowledged) -> bool {
    let reply = client.manifest("team/app", &pushed.tag).await;
    if reply.status == 404 {
        return false;
    }
    assert_eq!((reply.status, &reply.body), (200, &pushed.image.manifest), "{}", pushed.tag);
    client.pull_image("team/app", &pushed.tag, &pushed.image).await;
    true
}

#[tokio::test]
async fn claim_15_a_handover_under_pushes_loses_nothing() {
    let mut regions = Regions::writing(Link::new(20, 20 << 20)).await;
    let pusher = Pusher::start(regions.home.client(), 1_000);
    pusher.until_acknowledged(8).await;
    let said = regions.mirror.command("promote").fails().await;
    assert!(said.contains("nothing is lost") && said.contains("--yes"), "{said}");
    let done = json(&regions.mirror, "promote --yes").await;
    assert_eq!((&done["handed_over"], &done["region"]["standing"]), (&Value::Bool(true), &Value::from("home")));
    assert_eq!(done["region"]["epoch"], 2);
    until("a push is refused", PATIENCE, async || pusher.refused.load(Ordering::Relaxed).then_some(())).await;
    let acknowledged = pusher.end().await;
    assert!(acknowledged.len() >= 8);
    let fenced = status(&regions.home).await;
    assert_eq!(fenced["region"]["standing"], "fenced");
    // What the new home has, it has itself.
    regions.home.kill();
    let client = regions.mirror.client();
    for pushed in &acknowledged {
        assert!(
            is_whole(&client, pushed).await,
            "{} of {} was acknowledged and is lost",
            pushed.tag,
            acknowledged.len()
        );
    }
    // It takes pushes without a restart, and after one, though the settings still name the former home.
    client.push_image("team/app", "after", &Image::random(1, &[5_000])).await;
    regions.mirror.kill();
    regions.mirror.restart().await;
    let again = Image::random(2, &[5_000]);
    let client = regions.mirror.client();
    client.push_image("team/app", "again", &again).await;
    client.pull_image("team/app", "again", &again).await;
    assert!(regions.mirror.log().contains("take it out of the settings"), "{}", regions.mirror.log());
    let position = status(&regions.mirror).await["changes"].clone();
    assert_eq!(position["epoch"], 2);
    // The former home is still fenced after a restart.
    regions.home.restart().await;
    assert_eq!(try_push(&regions.home.client(), "late", &again).await, 503);
    assert_eq!(newest(&regions.home).await, fenced["changes"]["sequence"].as_u64().expect("a sequence"));
    regions.mirror.assert_unharmed();
}

/// Whoever leads copies, and only the replica that promotes knows that it is awaited.
#[tokio::test]
async fn claim_15_a_large_blob_that_waits_for_its_window_comes_with_a_promotion_at_any_replica() {
    let home = Setup::filesystem().start().await;
    let with_a_window = |setup: Setup| setup.flag("--upstream-window", &closed());
    let (_wan, mirror, _folder) =
        mirror_of_three_as(home.address(), &home, "mirror token test --writes", with_a_window).await;
    let image = Image::random(1, &[12 << 20]);
    home.client().push_image("team/app", "v1", &image).await;
    let asked = &mirror.replicas[(mirror.leader().await + 1) % 3];
    until("the rest has come", PATIENCE, async || {
        let lag = status(asked).await["mirror"].clone();
        (lag["lag_blobs"] == 1 && lag["lag_bytes"] == 12 << 20).then_some(())
    })
    .await;
    let done = json(asked, "promote --yes").await;
    assert_eq!(done["handed_over"], true);
    asked.client().pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn claim_15_a_forced_promotion_loses_no_more_than_the_exported_lag() {
    let mut regions = Regions::writing(Link::SHORT).await;
    let pusher = Pusher::start(regions.home.client(), 2_000);
    pusher.until_acknowledged(6).await;
    regions.cut().await;
    let before = pusher.acknowledged.lock().await.len();
    pusher.until_acknowledged(before + 3).await;
    let refused = regions.mirror.command("promote --yes").fails().await;
    assert!(refused.contains("nothing was done") && refused.contains("--force"), "{refused}");
    let outlook = outlook(&regions.mirror).await;
    assert_eq!((&outlook["failure"]["code"], &outlook["awaits"]), (&"needs_force".into(), &Value::Null), "{outlook}");
    let asked = Instant::now();
    let done = json(&regions.mirror, "promote --yes --force").await;
    assert_eq!(done["handed_over"], false);
    let lag = Duration::from_secs_f64(done["lag_seconds"].as_f64().expect("a lag"));
    let acknowledged = pusher.end().await;
    let client = regions.mirror.client();
    let mut lost = 0;
    for pushed in &acknowledged {
        if is_whole(&client, pushed).await {
            continue;
        }
        lost += 1;
        // The line that said how far home was took a moment to come.
        let age = asked.saturating_duration_since(pushed.at);
        assert!(age <= lag + Duration::from_millis(500), "{} of {age:?} ago is lost, the lag was {lag:?}", pushed.tag);
    }
    assert!(lost >= 3 && lost < acknowledged.len(), "{lost} of {} are lost", acknowledged.len());
    client.push_image("team/app", "after", &Image::random(1, &[5_000])).await;
    // The former home goes on for as long as nobody tells it; then it takes nothing more.
    let home = regions.home.client();
    assert_eq!(try_push(&home, "unaware", &Image::random(3, &[100])).await, 201);
    let cluster = done["region"]["cluster"].as_str().expect("a cluster").to_owned();
    let token = json(&regions.home, &format!("demote --epoch 2 --home {cluster}")).await;
    assert_eq!(token["last_sequence"], newest(&regions.home).await);
    assert_eq!(try_push(&home, "late", &Image::random(4, &[100])).await, 503);
    regions.mirror.assert_unharmed();
}

#[tokio::test]
async fn claim_15_a_third_mirror_follows_the_new_home_and_fences_the_old_one_that_it_dials() {
    let mut regions = Regions::writing(Link::SHORT).await;
    let home = regions.home.client();
    let (first, lost, next) = (Image::random(1, &[9_000]), Image::random(2, &[9_000]), Image::random(3, &[9_000]));
    home.push_image("team/app", "latest", &first).await;
    // Under a name of its own: of two that have the same, only the token of the later is good.
    let third = "mirror token third --writes";
    let third = following(&regions.home, third, regions.home.base(), Setup::filesystem()).await;
    let mut third = third.start().await;
    until_tag(&third.client(), "team/app", "latest", &first.manifest).await;
    regions.until_level().await;
    regions.cut().await;
    home.push_image("team/app", "latest", &lost).await;
    until_tag(&third.client(), "team/app", "latest", &lost.manifest).await;
    json(&regions.mirror, "promote --yes --force").await;
    regions.mirror.client().push_image("team/app", "latest", &next).await;

    // It compares itself with the new home, whose history is another one.
    assert!(third.terminate().await.success());
    let (old, new) = (regions.home.base().to_owned(), regions.mirror.base().to_owned());
    let token = third.data().with_file_name("token");
    let old_token = std::fs::read(&token).expect("the token's file");
    let new_token = regions.mirror.command("mirror token third --writes").succeeds().await;
    std::fs::write(&token, new_token).expect("the token's file");
    third.restart_as(|setup| setup.instead("--upstream", &new)).await;
    until_tag(&third.client(), "team/app", "latest", &next.manifest).await;
    until("it knows of the epoch", PATIENCE, async || (status(&third).await["region"]["epoch"] == 2).then_some(()))
        .await;
    let later = Image::random(4, &[700]);
    regions.mirror.client().push_image("team/app", "later", &later).await;
    until_tag(&third.client(), "team/app", "later", &later.manifest).await;

    // Sent back by mistake, it tells the old home that it is none, and stays what it is.
    assert_eq!(try_push(&home, "unaware", &first).await, 201);
    assert!(third.terminate().await.success());
    std::fs::write(&token, old_token).expect("the token's file");
    third.restart_as(|setup| setup.instead("--upstream", &old)).await;
    until("the old home is fenced", PATIENCE, async || {
        (status(&regions.home).await["region"]["standing"] == "fenced").then_some(())
    })
    .await;
    assert_eq!(try_push(&home, "late", &first).await, 503);
    until("the mirror says why it does not follow", PATIENCE, async || {
        third.log().contains("Set `upstream` to it").then_some(())
    })
    .await;
    third.client().pull_image("team/app", "latest", &next).await;
    third.assert_unharmed();
    regions.home.assert_unharmed();
}

#[tokio::test]
async fn claim_15_a_mirror_that_may_only_read_does_not_end_the_writes_of_its_home() {
    let regions = Regions::start(Link::SHORT).await;
    let image = Image::random(1, &[1_000]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    let (code, _, told) = regions.mirror.command("promote --yes").ends().await;
    assert!(code == 1 && told.contains("mirror token --writes"), "{told}");
    assert_ne!(status(&regions.home).await["region"]["standing"], "fenced");
    regions.home.client().push_image("team/app", "v2", &image).await;
    // Not even by what it knows, if it is promoted all the same.
    json(&regions.mirror, "promote --yes --force").await;
    assert_eq!(status(&regions.mirror).await["region"]["standing"], "home");
    regions.home.client().push_image("team/app", "v3", &image).await;
}

#[tokio::test]
async fn a_handover_whose_mirror_dies_is_taken_back_and_cannot_end() {
    let mut regions = Regions::writing(Link::new(20, 1 << 20)).await;
    let home = regions.home.client();
    let image = Image::random(1, &[16 << 20]);
    home.push_image("team/app", "v1", &image).await;
    let promoting = regions.mirror.command("promote --yes");
    let fenced = until("home stands still", PATIENCE, async || {
        let region = status(&regions.home).await["region"].clone();
        (region["standing"] == "fenced").then_some(region)
    });
    // It cannot have come in this time: the blob takes 16 s.
    let region = tokio::select! {
        region = fenced => region,
        ended = promoting.ends() => panic!("it has ended: {ended:?}"),
    };
    until("the mirror says what it waits for", PATIENCE, async || {
        let awaits = outlook(&regions.mirror).await["awaits"].as_str()?.to_owned();
        awaits.starts_with("home takes no changes any more").then_some(())
    })
    .await;
    regions.mirror.kill();
    assert_eq!((&region["handing_over"], &region["epoch"]), (&Value::Bool(true), &Value::from(2)));
    assert_eq!(try_push(&home, "late", &Image::random(2, &[100])).await, 503);

    let taken_back = json(&regions.home, "demote --cancel").await;
    assert_eq!((&taken_back["standing"], &taken_back["epoch"]), (&Value::from("home"), &Value::from(3)));
    assert_eq!(try_push(&home, "v2", &Image::random(3, &[100])).await, 201);
    let said = regions.home.command("demote --cancel").fails().await;
    assert!(said.contains("nothing to take back"), "{said}");

    // The mirror hears of that, follows, and takes over in another epoch.
    regions.mirror.restart().await;
    until("it knows of the epoch", PATIENCE, async || {
        (status(&regions.mirror).await["region"]["epoch"] == 3).then_some(())
    })
    .await;
    regions.until_level().await;
    let done = json(&regions.mirror, "promote --yes").await;
    assert_eq!((&done["handed_over"], &done["region"]["epoch"]), (&Value::Bool(true), &Value::from(4)));
    let said = regions.home.command("demote --cancel").fails().await;
    assert!(said.contains("promote --force"), "{said}");
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
    regions.home.assert_unharmed();
    regions.mirror.assert_unharmed();
}

/// Whoever sets `upstream` at a home before its successor has taken over is too early: nothing is given up for that.
#[tokio::test]
async fn a_home_that_hands_over_does_not_follow_the_mirror_that_has_not_taken_over() {
    let mut regions = Regions::writing(Link::new(20, 1 << 20)).await;
    let image = Image::random(1, &[16 << 20]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    let promoting = regions.mirror.command("promote --yes");
    let fenced = until("home stands still", PATIENCE, async || {
        (status(&regions.home).await["region"]["standing"] == "fenced").then_some(())
    });
    // It cannot have come in this time: the blob takes 16 s.
    tokio::select! {
        () = fenced => {}
        ended = promoting.ends() => panic!("it has ended: {ended:?}"),
    }
    // So it does not take over either.
    regions.wan.cut();
    let token = regions.home.data().with_file_name("token-of-the-mirror");
    std::fs::write(&token, regions.mirror.command("mirror token old --writes").succeeds().await).expect("the file");
    let (next, token) = (regions.mirror.base().to_owned(), token.display().to_string());
    assert!(regions.home.terminate().await.success());
    regions.home.restart_as(|setup| setup.flag("--upstream", &next).flag("--upstream-token-file", &token)).await;
    until("it says what it waits for", PATIENCE, async || {
        regions.home.log().contains("has not taken over yet").then_some(())
    })
    .await;
    let home = regions.home.client();
    home.pull_image("team/app", "v1", &image).await;
    let region = status(&regions.home).await["region"].clone();
    assert_eq!((&region["standing"], &region["handing_over"]), (&Value::from("fenced"), &Value::Bool(true)));
    // It can still be taken back.
    assert_eq!(json(&regions.home, "demote --cancel").await["standing"], "home");
    assert_eq!(status(&regions.home).await["kept_aside"].as_u64().unwrap_or_default(), 0);
    home.pull_image("team/app", "v1", &image).await;
    regions.home.assert_unharmed();
}
