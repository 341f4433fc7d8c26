//! What is pushed at home is pulled at the mirror (P8, P10).

use futures_util::future::join_all;
use serde_json::json;

use super::{PATIENCE, Regions, Signature, mirror_of, newest, status, until_tag};
use crate::harness::{
    Certificates, Image, Link, MEDIA_TYPE_IMAGE, MEDIA_TYPE_INDEX, Setup, Workbench, roadstead, sha256, until,
};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn p8_what_is_pushed_at_home_is_pulled_at_the_mirror_byte_for_byte() {
    let regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    // Less than a part, more than one, more than a chunk, nothing.
    let image = Image::random(1, &[1_000, 9 * MIB, 20 * MIB + 17, 0]);
    home.push_image("team/app", "v1", &image).await;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_INDEX,
        "manifests": [{"mediaType": MEDIA_TYPE_IMAGE, "digest": image.digest(), "size": image.manifest.len()}],
        // More than is kept in the facts.
        "annotations": {"padding": "x".repeat(100_000)},
    });
    let index = index.to_string().into_bytes();
    home.put_manifest("team/app", "all", MEDIA_TYPE_INDEX, &index).await.status(201);
    // Before it has arrived as well as after.
    mirror.pull_image("team/app", "v1", &image).await;
    until_tag(&mirror, "team/app", "all", &index).await;
    regions.until_level().await;
    mirror.pull_image("team/app", "v1", &image).await;
    let pulled = mirror.manifest("team/app", "all").await.status(200);
    assert!(pulled.body == index && pulled.header("content-type") == Some(MEDIA_TYPE_INDEX));
    assert_eq!(mirror.tags("team/app").await, ["all", "v1"]);
    // What is here needs no home.
    regions.cut().await;
    mirror.pull_image("team/app", "v1", &image).await;
}

/// What clients do that fetch a layer by several requests: containerd asks for a range of manifests too.
#[tokio::test]
async fn claim_18_parallel_ranges_are_exact_while_a_blob_is_on_its_way_and_a_range_of_a_manifest_is_answered() {
    let regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let image = Image::random(1, &[24 * MIB]);
    // It takes two seconds to come.
    regions.wan.change(Link::new(20, 12 << 20));
    home.push_image("team/app", "v1", &image).await;
    for reference in ["v1", &image.digest()] {
        let target = format!("/v2/team/app/manifests/{reference}");
        let reply = mirror.get(&target).header("range", "bytes=0-").send().await;
        assert!(matches!(reply.status, 200 | 206) && reply.body == image.manifest, "{reply:?}");
        let reply = mirror.get(&target).header("range", "bytes=10-19").send().await;
        let expected = if reply.status == 206 { image.manifest.slice(10..20) } else { image.manifest.clone() };
        assert!(matches!(reply.status, 200 | 206) && reply.body == expected, "{reply:?}");
    }
    let (layer, target) = (&image.layers[0], format!("/v2/team/app/blobs/{}", sha256(&image.layers[0])));
    let piece = 4 * MIB;
    for _while_it_comes_and_after in 0..2 {
        let asked = (0..6).map(async |number| {
            let (first, end) = (number * piece, ((number + 1) * piece).min(layer.len()));
            let range = format!("bytes={first}-{}", end - 1);
            let reply = mirror.get(&target).header("range", &range).send().await.status(206);
            assert!(reply.body == layer.slice(first..end), "{range}");
            let told = format!("bytes {first}-{}/{}", end - 1, layer.len());
            assert_eq!(reply.header("content-range"), Some(told.as_str()));
        });
        join_all(asked).await;
        regions.until_level().await;
    }
}

#[tokio::test]
async fn claim_13_a_signature_is_at_the_mirror_with_its_image() {
    let regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let image = Image::random(1, &[1_000]);
    home.push_image("team/app", "v1", &image).await;
    let Signature { content, layer, manifest } = Signature::of(&image, &home).await;
    home.put_manifest("team/app", &sha256(&manifest), MEDIA_TYPE_IMAGE, &manifest).await.status(201);
    regions.until_level().await;
    regions.cut().await;
    let listed = mirror.get(&format!("/v2/team/app/referrers/{}", image.digest())).send().await.status(200).json();
    assert_eq!(listed["manifests"][0]["digest"], sha256(&manifest).as_str(), "{listed}");
    assert_eq!(listed["manifests"][0]["artifactType"], "application/vnd.example.signature");
    assert_eq!(mirror.manifest("team/app", &sha256(&manifest)).await.status(200).body, manifest);
    assert_eq!(mirror.blob("team/app", &layer).await.status(200).body, content);
}

#[tokio::test]
async fn a_mirror_refuses_pushes_and_names_its_home() {
    let regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let image = Image::random(1, &[1_000]);
    home.push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    let refusals = [
        mirror.post("/v2/team/app/blobs/uploads/").send().await,
        mirror.put_manifest("team/app", "v2", MEDIA_TYPE_IMAGE, &image.manifest).await,
        mirror.delete("/v2/team/app/manifests/v1").send().await,
    ];
    for refusal in refusals {
        let refusal = refusal.status(403);
        assert_eq!(refusal.error_code(), "DENIED");
        let message = refusal.json()["errors"][0]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(&regions.wan.endpoint()), "{message}");
    }
    mirror.pull_image("team/app", "v1", &image).await;
    mirror.manifest("team/app", "v2").await.status(404);
    mirror.blob("team/app", &sha256(b"never pushed")).await.status(404);
}

#[tokio::test]
async fn a_mirror_follows_over_tls_and_only_with_a_token_that_is_good() {
    let bench = Workbench::new();
    let certificates = Certificates::new();
    let home = certificates.installed_in(&bench, Setup::filesystem()).start().await;
    let ca = bench.path().join("home-ca.pem");
    std::fs::write(&ca, certificates.authority()).expect("the CA's file");
    let setup = mirror_of(&home, home.base(), Setup::filesystem()).await;
    let mut mirror = setup.flag("--upstream-ca-file", &ca.display().to_string()).start().await;
    let image = Image::random(1, &[1_000, 9 * MIB]);
    home.client().push_image("team/app", "v1", &image).await;
    until_tag(&mirror.client(), "team/app", "v1", &image.manifest).await;
    mirror.client().pull_image("team/app", "v1", &image).await;
    assert!(home.command("mirror").succeeds().await.contains("test"));

    for header in [None, Some("Bearer rsm_0"), Some("Basic YTpi")] {
        let request = home.client().get("/geo/v1/watermarks");
        let request = header.into_iter().fold(request, |request, value| request.header("authorization", value));
        request.send().await.status(401);
    }
    home.command("mirror dismiss test").succeeds().await;
    mirror.kill();
    mirror.restart().await;
    until("the mirror says what is wrong", PATIENCE, async || {
        let printed = mirror.subcommand("status").succeeds().await;
        printed.contains("does not take this mirror's token").then_some(())
    })
    .await;
}

#[tokio::test]
async fn p10_the_metrics_say_how_far_the_mirror_is() {
    let regions = Regions::start(Link::SHORT).await;
    let metric = async |name: &str| -> String {
        let text = regions.mirror.client().get("/metrics").send().await.status(200).body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().to_owned()
    };
    regions.home.client().push_image("team/app", "v1", &Image::random(1, &[1_000])).await;
    regions.until_level().await;
    let up = async || metric("roadstead_mirror_home_up ").await == "1";
    until("home is there", PATIENCE, async || up().await.then_some(())).await;
    assert_eq!(metric("roadstead_mirror_lag_changes ").await, "0");
    assert_eq!(metric("roadstead_mirror_lag_bytes ").await, "0");
    let seconds = async || metric("roadstead_mirror_lag_seconds ").await.parse::<f64>().expect("a number");
    until("it is level", PATIENCE, async || (seconds().await < 3.0).then_some(())).await;
    regions.cut().await;
    until("the lag grows while home is away", PATIENCE, async || (seconds().await > 5.0).then_some(())).await;
    assert_eq!(metric("roadstead_mirror_home_up ").await, "0");
}

#[tokio::test]
async fn claim_14_a_mirror_of_a_mirror_has_each_change_once() {
    let regions = Regions::start(Link::SHORT).await;
    let first = &regions.mirror;
    let second = mirror_of(first, first.base(), Setup::filesystem()).await.start().await;
    let home = regions.home.client();
    let (one, two) = (Image::random(1, &[1_000, 9 * MIB]), Image::random(2, &[2_000]));
    home.push_image("team/app", "latest", &one).await;
    until_tag(&second.client(), "team/app", "latest", &one.manifest).await;
    home.push_image("team/app", "latest", &two).await;
    home.push_image("team/app", "kept", &one).await;
    home.delete("/v2/team/app/manifests/kept").send().await.status(202);
    home.push_image("team/app", "last", &two).await;
    until_tag(&second.client(), "team/app", "last", &two.manifest).await;
    until_tag(&second.client(), "team/app", "latest", &two.manifest).await;
    second.client().pull_image("team/app", "latest", &two).await;
    second.client().pull_image("team/app", &one.digest(), &one).await;
    regions.until_level().await;
    until("everything is at the end of the chain", PATIENCE, async || {
        let (newest, status) = (newest(first).await, status(&second).await);
        (status["mirror"]["received_sequence"] == newest && status["mirror"]["lag_changes"] == 0).then_some(())
    })
    .await;
    assert_eq!(newest(first).await, newest(&regions.home).await, "a mirror's feed has what home's has, no more");
    assert_eq!(second.client().tags("team/app").await, ["last", "latest"]);
}

#[tokio::test]
async fn what_is_a_mirrors_is_not_served_as_a_homes_nor_the_reverse() {
    let mut regions = Regions::start(Link::SHORT).await;
    regions.home.client().push_image("team/app", "v1", &Image::random(1, &[1_000])).await;
    regions.until_level().await;
    for registry in [&mut regions.home, &mut regions.mirror] {
        assert!(registry.terminate().await.success());
    }
    let token = regions.mirror.data().with_file_name("token").display().to_string();
    let follows = ["--upstream", "http://127.0.0.1:9", "--upstream-token-file", &token];
    for (data, arguments, told) in [
        (regions.mirror.data(), &[][..], "this data folder is a mirror's"),
        (regions.home.data(), &follows[..], "this data folder is not a mirror's"),
    ] {
        let mut command = roadstead();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
        let ended = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains(told), "{said}");
    }
}
