//! What somebody who runs a registry looks at: health, metrics, logs, settings, its end.

use std::time::Duration;

use futures_util::stream;
use reqwest::Body;
use tokio::sync::mpsc;

use crate::harness::{Image, S3, S3Kind, Setup, Workbench, random_bytes, sha256, until};

#[tokio::test]
async fn health_and_metrics_are_told() {
    let registry = Setup::filesystem().start().await;
    let client = registry.client();
    client.get("/livez").send().await.status(200);
    client.get("/readyz").send().await.status(200);
    let image = Image::random(1, &[1_000]);
    client.push_image("team/app", "v1", &image).await;
    client.pull_image("team/app", "v1", &image).await;
    client.manifest("team/app", "nothing").await.status(404);
    let metrics = client.get("/metrics").send().await.status(200);
    assert!(metrics.header("content-type").is_some_and(|value| value.starts_with("text/plain")));
    let metrics = String::from_utf8(metrics.body.to_vec()).expect("text");
    // Every sample belongs to a metric that says what it is, and names nothing that a client chose.
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        assert!(metrics.contains(&format!("# HELP {name} ")), "{line}");
        assert!(!line.contains("team/app"), "{line}");
    }
    assert!(
        metrics.contains("manifest-put") || metrics.contains("manifest_put"),
        "requests are counted by route:\n{metrics}"
    );
}

/// P6: liveness never depends on the bucket, and what it has cached is not lost; the rest is a 503 that says when to
/// come back.
#[tokio::test]
async fn p6_without_the_bucket_it_lives_and_says_to_come_back() {
    let mut s3 = S3::start(S3Kind::Minio).await;
    let mut registry = Setup::s3(&s3).start().await;
    let client = registry.client();
    let image = Image::random(1, &[100_000]);
    client.push_image("team/app", "v1", &image).await;
    s3.stop();
    client.get("/livez").send().await.status(200);
    client.get("/readyz").send().await.status(200);
    client.get("/v2/").send().await.status(200);
    // Manifests are in the registry's own state.
    assert_eq!(client.manifest("team/app", "v1").await.status(200).body, image.manifest);
    let content = random_bytes(2, 1_000);
    let refused = client.begin("team/app").await.put(&sha256(&content), content.clone()).await.status(503);
    assert!(refused.header("retry-after").is_some());
    s3.start_again().await;
    until("pushes go on", Duration::from_secs(30), async || {
        let reply = client.begin("team/app").await.put(&sha256(&content), content.clone()).await;
        (reply.status == 201).then_some(())
    })
    .await;
    client.pull_image("team/app", "v1", &image).await;
    registry.assert_unharmed();
}

#[tokio::test]
async fn a_log_line_is_json_with_the_id_of_its_request() {
    let registry = Setup::filesystem().flag("--log-format", "json").flag("--log-level", "debug").start().await;
    let reply = registry.client().get("/v2/").header("x-request-id", "from-the-proxy-1").send().await;
    let id = reply.header("x-request-id").expect("an id").to_owned();
    registry.client().get("/v2/team/app/tags/list").header("authorization", "Basic c2VjcmV0OnNlY3JldA==").send().await;
    let log = until("the request is logged", Duration::from_secs(10), async || {
        Some(registry.log()).filter(|log| log.contains(&id) && log.contains("/v2/team/app/tags/list"))
    })
    .await;
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(!log.contains("c2VjcmV0OnNlY3JldA"), "a login is not logged");
}

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_named_with_what_is_accepted() {
    for (flag, value, accepted) in [
        ("--part-size", "1KiB", "5MiB"),
        ("--storage", "tape", "filesystem"),
        ("--upload-expiry", "soon", "36500d"),
        ("--log-format", "xml", "json"),
        ("--max-uploads", "-1", "1"),
    ] {
        let (status, log) = Setup::filesystem().switch(&format!("{flag}={value}")).refuses().await;
        assert!(!status.success(), "{flag} {value}");
        let key = flag.trim_start_matches('-');
        for word in [key, value, accepted] {
            assert!(log.contains(word), "{flag} {value}: no {word:?} in\n{log}");
        }
    }
}

/// A flag wins over its environment variable, that over the file, that over the default.
#[tokio::test]
async fn settings_come_from_flags_environment_and_file_in_this_order() {
    let bench = Workbench::new();
    let file = bench.write("roadstead.toml", "part-size = \"6MiB\"\nmax-uploads = 1\n");
    let from_file = || Setup::filesystem().flag("--config", &file);
    let from_environment = || from_file().variable("ROADSTEAD_PART_SIZE", "7MiB");
    let from_flag = from_environment().flag("--part-size", "9MiB");
    for (setup, mebibytes) in [(Setup::filesystem(), 8), (from_file(), 6), (from_environment(), 7), (from_flag, 9)] {
        let named = mebibytes != 8;
        let registry = setup.start().await;
        let begin = async || registry.client().post("/v2/team/app/blobs/uploads/").send().await;
        let first = begin().await.status(202);
        assert_eq!(first.header("oci-chunk-min-length"), Some((mebibytes << 20).to_string().as_str()));
        assert_eq!(begin().await.status, if named { 429 } else { 202 }, "the rest of the file counts as well");
    }
}

/// SIGTERM: requests under way come to their end, new ones are not taken, and then it is over.
#[tokio::test]
async fn a_shutdown_lets_uploads_come_to_their_end() {
    let mut registry = Setup::filesystem().flag("--shutdown-grace", "20s").start().await;
    let client = registry.client();
    let content = random_bytes(1, 3_000_000);
    let digest = sha256(&content);
    let upload = client.begin("team/app").await;
    let (sender, receiver) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body =
        Body::wrap_stream(stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))));
    let request = client.put(&upload.closing(&digest)).body(body).send();
    let driving = async {
        sender.send(Ok(content[..1_000_000].to_vec())).await.expect("it is being sent");
        // The second piece is taken when the first one is on its way.
        sender.send(Ok(content[1_000_000..1_100_000].to_vec())).await.expect("it is being sent");
        sender.send(Ok(content[1_100_000..1_200_000].to_vec())).await.expect("it is being sent");
        registry.ask_to_end();
        until("no new connection is taken", Duration::from_secs(10), async || {
            tokio::net::TcpStream::connect(registry.address()).await.err()
        })
        .await;
        sender.send(Ok(content[1_200_000..].to_vec())).await.expect("it is being sent");
        drop(sender);
    };
    let (reply, ()) = tokio::join!(request, driving);
    reply.status(201);
    assert!(registry.ended().await.success(), "{}", registry.log());
    registry.restart().await;
    assert!(registry.client().blob("team/app", &digest).await.status(200).body == content);
    registry.assert_unharmed();
}

/// A second process on the same folder would be a second history.
#[tokio::test]
async fn two_processes_do_not_share_a_folder() {
    let setup = Setup::filesystem();
    let _first = setup.clone().start().await;
    let (status, log) = setup.refuses().await;
    assert!(!status.success());
    assert!(log.contains("data"), "{log}");
}
