//! Pushes and deletions at a mirror: kept there, decided at home, shown by both when they are answered.

use serde_json::json;

use super::{PATIENCE, Regions, Signature, newest, writing_mirror_of};
use crate::harness::{Client, Image, Link, MEDIA_TYPE_IMAGE, MEDIA_TYPE_INDEX, Reply, Setup, sha256, until};

const MIB: usize = 1 << 20;

/// Puts a manifest under a condition.
async fn put_if(client: &Client, tag: &str, image: &Image, condition: (&str, &str)) -> Reply {
    let request = client.put(&format!("/v2/team/app/manifests/{tag}")).header("content-type", MEDIA_TYPE_IMAGE);
    request.header(condition.0, condition.1).body(image.manifest.to_vec()).send().await
}

/// The index of these images, with more in it than is kept in the facts.
fn index_of(images: &[&Image]) -> Vec<u8> {
    let entry =
        |image: &&Image| json!({"mediaType": MEDIA_TYPE_IMAGE, "digest": image.digest(), "size": image.manifest.len()});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_INDEX,
        "manifests": images.iter().map(entry).collect::<Vec<_>>(),
        "annotations": {"padding": "x".repeat(100_000)},
    });
    index.to_string().into_bytes()
}

#[tokio::test]
async fn p8_what_is_pushed_at_the_mirror_is_pulled_there_and_at_home_once_it_is_answered() {
    let mut regions = Regions::writing(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    // Less than a part, more than one, nothing. Home has nothing at all before.
    let image = Image::random(1, &[1_000, 9 * MIB, 20 * MIB + 17, 0]);
    mirror.push_image("team/app", "v1", &image).await;
    mirror.pull_image("team/app", "v1", &image).await;
    home.pull_image("team/app", "v1", &image).await;
    let other = Image::random(2, &[70_000]);
    for blob in other.blobs() {
        mirror.push_blob("team/app", blob).await;
    }
    mirror.put_manifest("team/app", &other.digest(), MEDIA_TYPE_IMAGE, &other.manifest).await.status(201);
    let index = index_of(&[&image, &other]);
    let put = mirror.put_manifest("team/app", "all", MEDIA_TYPE_INDEX, &index).await.status(201);
    assert_eq!(put.header("docker-content-digest"), Some(sha256(&index).as_str()));
    for client in [&mirror, &home] {
        assert!(client.manifest("team/app", "all").await.status(200).body == index);
        client.pull_image("team/app", &other.digest(), &other).await;
    }
    // What was pushed here has not come back over the link, and the mirror's feed is home's.
    assert!(regions.wan.carried_back() < MIB as u64, "{} bytes came back", regions.wan.carried_back());
    regions.until_level().await;
    assert_eq!(mirror.tags("team/app").await, ["all", "v1"]);
    assert_eq!(newest(&regions.mirror).await, newest(&regions.home).await);
    regions.cut().await;
    mirror.pull_image("team/app", "v1", &image).await;
    regions.mirror.kill();
    regions.mirror.restart().await;
    mirror.pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn a_blob_is_shown_where_it_was_pushed_before_any_manifest_names_it_and_nowhere_else() {
    let regions = Regions::writing(Link::SHORT).await;
    let mirror = regions.mirror.client();
    let image = Image::random(1, &[1_000]);
    for blob in image.blobs() {
        let digest = mirror.push_blob("team/app", blob).await;
        assert!(mirror.blob("team/app", &digest).await.status(200).body == *blob);
        let head = mirror.head(&format!("/v2/team/app/blobs/{digest}")).send().await.status(200);
        assert_eq!(head.header("content-length"), Some(blob.len().to_string().as_str()));
        mirror.blob("other/app", &digest).await.status(404);
    }
    // Neither is it sent to a repository to which nobody has given it.
    let refused = mirror.put_manifest("other/app", "v1", MEDIA_TYPE_IMAGE, &image.manifest).await.status(400);
    assert_eq!(refused.error_code(), "MANIFEST_BLOB_UNKNOWN");
    let layer = sha256(&image.layers[0]);
    let mount = mirror.post(&format!("/v2/other/app/blobs/uploads/?mount={layer}&from=team/app")).send().await;
    mount.status(201);
    mirror.push_blob("other/app", &image.config).await;
    mirror.put_manifest("other/app", "v1", MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
    regions.home.client().pull_image("other/app", "v1", &image).await;
    // A wrong digest is refused beside the client.
    let wrong = mirror.begin("team/app").await.put(&sha256(b"other"), b"this".to_vec()).await.status(400);
    assert_eq!(wrong.error_code(), "DIGEST_INVALID");
    let invalid = mirror.put_manifest("team/app", "v1", MEDIA_TYPE_IMAGE, b"{}").await;
    assert!(invalid.status == 400 && invalid.error_code() == "MANIFEST_INVALID", "{invalid:?}");
}

#[tokio::test]
async fn claim_03_of_two_regions_that_push_one_tag_at_once_one_wins_everywhere_and_the_loser_is_told() {
    let regions = Regions::writing(Link::new(20, 64 << 20)).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (ours, theirs) = (Image::random(1, &[1_000]), Image::random(2, &[2_000]));
    home.push_image("team/app", "ours", &ours).await;
    mirror.push_image("team/app", "theirs", &theirs).await;
    let mut won = [0, 0];
    for round in 0..12 {
        let tag = format!("v{round}");
        let absent = ("if-none-match", "*");
        let (at_home, at_mirror) =
            tokio::join!(put_if(&home, &tag, &ours, absent), put_if(&mirror, &tag, &theirs, absent));
        let winner = match (at_home.status, at_mirror.status) {
            (201, 412) => &ours,
            (412, 201) => &theirs,
            other => panic!("{other:?}: {at_home:?} {at_mirror:?}"),
        };
        won[usize::from(at_mirror.status == 201)] += 1;
        assert!(home.manifest("team/app", &tag).await.status(200).body == winner.manifest);
        until("the mirror shows the winner", PATIENCE, async || {
            let shown = mirror.manifest("team/app", &tag).await;
            assert!(shown.status != 200 || shown.body == winner.manifest, "the loser was shown: {shown:?}");
            (shown.status == 200).then_some(())
        })
        .await;
    }
    assert_eq!(won.iter().sum::<u32>(), 12);
    // Without a condition both are done, in one order for all.
    let (at_home, at_mirror) = tokio::join!(
        home.put_manifest("team/app", "latest", MEDIA_TYPE_IMAGE, &ours.manifest),
        mirror.put_manifest("team/app", "latest", MEDIA_TYPE_IMAGE, &theirs.manifest),
    );
    assert_eq!((at_home.status, at_mirror.status), (201, 201));
    regions.until_level().await;
    let last = home.manifest("team/app", "latest").await.status(200).body;
    assert!(mirror.manifest("team/app", "latest").await.status(200).body == last);
}

#[tokio::test]
async fn p3_preconditions_of_a_push_at_the_mirror_are_judged_at_home() {
    let regions = Regions::writing(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (one, two) = (Image::random(1, &[1_000]), Image::random(2, &[2_000]));
    mirror.push_image("team/app", "v1", &one).await;
    mirror.push_image("team/app", "other", &two).await;
    let quoted = |image: &Image| format!("\"{}\"", image.digest());
    put_if(&mirror, "v1", &two, ("if-none-match", "*")).await.status(412);
    put_if(&mirror, "v1", &two, ("if-match", &quoted(&two))).await.status(412);
    put_if(&mirror, "new", &two, ("if-match", "*")).await.status(412);
    assert!(home.manifest("team/app", "v1").await.status(200).body == one.manifest);
    put_if(&mirror, "v1", &two, ("if-match", &quoted(&one))).await.status(201);
    for client in [&home, &mirror] {
        client.pull_image("team/app", "v1", &two).await;
        client.manifest("team/app", "new").await.status(404);
    }
    // Several tags are one change.
    let target = format!("/v2/team/app/manifests/{}?tag=a&tag=b", one.digest());
    let put = mirror.put(&target).header("content-type", MEDIA_TYPE_IMAGE).body(one.manifest.to_vec()).send().await;
    put.status(201);
    for client in [&home, &mirror] {
        assert_eq!(client.tags("team/app").await, ["a", "b", "other", "v1"]);
    }
}

#[tokio::test]
async fn claim_10_what_home_has_already_is_not_sent_there() {
    let regions = Regions::writing(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let image = Image::random(1, &[9 * MIB, 2 * MIB]);
    home.push_image("team/app", "v1", &image).await;
    // Its layers were pulled through, and came with the feed.
    mirror.pull_image("team/app", "v1", &image).await;
    regions.until_level().await;
    let before = regions.wan.carried_towards();
    // Into another repository, from the client's own copy; under another tag; as a part of another image.
    mirror.push_image("other/app", "v7", &image).await;
    mirror.put_manifest("team/app", "v2", MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
    let mut built = Image::random(2, &[3_000]);
    let layers = [&image.layers[..], &built.layers[..]].concat();
    let descriptor = |blob: &[u8]| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(blob), "size": blob.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_IMAGE,
        "config": descriptor(&built.config),
        "layers": layers.iter().map(|layer| descriptor(layer)).collect::<Vec<_>>(),
    });
    (built.layers, built.manifest) = (layers, manifest.to_string().into());
    for layer in &image.layers {
        // As clients do: a layer that is there is not pushed.
        mirror.head(&format!("/v2/team/app/blobs/{}", sha256(layer))).send().await.status(200);
    }
    mirror.push_blob("team/app", &built.config).await;
    mirror.push_blob("team/app", &built.layers[2]).await;
    mirror.put_manifest("team/app", "built", MEDIA_TYPE_IMAGE, &built.manifest).await.status(201);
    let carried = regions.wan.carried_towards() - before;
    assert!(carried < 100_000, "{carried} bytes went home");
    home.pull_image("other/app", "v7", &image).await;
    home.pull_image("team/app", "built", &built).await;
    regions.cut().await;
    mirror.pull_image("team/app", "built", &built).await;
    mirror.pull_image("other/app", "v7", &image).await;
}

#[tokio::test]
async fn claim_13_a_signature_that_is_attached_at_the_mirror_is_listed_in_both_regions() {
    let regions = Regions::writing(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let image = Image::random(1, &[1_000]);
    home.push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    let Signature { content, layer, manifest } = Signature::of(&image, &mirror).await;
    let put = mirror.put_manifest("team/app", &sha256(&manifest), MEDIA_TYPE_IMAGE, &manifest).await.status(201);
    assert_eq!(put.header("oci-subject"), Some(image.digest().as_str()));
    for client in [&mirror, &home] {
        let listed = client.get(&format!("/v2/team/app/referrers/{}", image.digest())).send().await.status(200).json();
        assert_eq!(listed["manifests"][0]["digest"], sha256(&manifest).as_str(), "{listed}");
        assert!(client.blob("team/app", &layer).await.status(200).body == content);
    }
}

#[tokio::test]
async fn p9_what_is_deleted_at_the_mirror_is_gone_in_both_regions_once_it_is_answered() {
    let regions = Regions::writing(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (one, two) = (Image::random(1, &[1_000]), Image::random(2, &[2_000]));
    for tag in ["a", "b"] {
        home.push_image("team/app", tag, &one).await;
    }
    mirror.push_image("team/app", "c", &two).await;
    mirror.delete("/v2/team/app/manifests/a").send().await.status(202);
    for client in [&mirror, &home] {
        client.manifest("team/app", "a").await.status(404);
        client.pull_image("team/app", "b", &one).await;
    }
    mirror.delete(&format!("/v2/team/app/manifests/{}", one.digest())).send().await.status(202);
    for client in [&mirror, &home] {
        client.manifest("team/app", "b").await.status(404);
        client.manifest("team/app", &one.digest()).await.status(404);
        assert_eq!(client.tags("team/app").await, ["c"]);
    }
    let unknown = mirror.delete("/v2/team/app/manifests/a").send().await.status(404);
    assert_eq!(unknown.error_code(), "MANIFEST_UNKNOWN");
    // What a repository holds of blobs, home lets go.
    let layer = sha256(&two.layers[0]);
    assert_eq!(mirror.delete(&format!("/v2/team/app/blobs/{layer}")).send().await.status(403).error_code(), "DENIED");
}

#[tokio::test]
async fn a_token_without_the_right_writes_nothing_and_neither_does_a_mirror_of_a_mirror() {
    let regions = Regions::start(Link::SHORT).await;
    let home = &regions.home;
    let read = home.command("mirror token reader").succeeds().await;
    let write = home.command("mirror token writer --writes").succeeds().await;
    let listed = home.command("mirror").succeeds().await;
    let row = |name: &str| listed.lines().find(|line| line.starts_with(name)).expect("its row").to_owned();
    assert!(row("writer").contains("yes") && row("reader").contains("no"), "{listed}");
    let (read, write) = (format!("Bearer {}", read.trim()), format!("Bearer {}", write.trim()));
    let body = json!({"digests": []}).to_string();
    let claim = |client: Client, token: String, body: String| async move {
        let request = client.post("/geo/v1/claim?repository=team/app").header("authorization", &token);
        request.body(body).send().await.status
    };
    assert_eq!(claim(home.client(), read.clone(), body.clone()).await, 403);
    assert_eq!(claim(home.client(), write, body.clone()).await, 200);
    let image = Image::random(1, &[1_000]);
    let targets = ["/geo/v1/manifest?repository=team/app&reference=v1", "/geo/v1/upload?repository=team/app"];
    for target in targets {
        let put = home.client().put(target).header("authorization", &read).body(image.manifest.to_vec()).send().await;
        put.status(403);
    }
    let delete = home.client().delete("/geo/v1/manifest?repository=team/app&reference=v1");
    delete.header("authorization", &read).send().await.status(403);
    // It asks to write, and its home is a mirror.
    let first = &regions.mirror;
    let second = writing_mirror_of(first, first.base(), Setup::filesystem()).await.start().await;
    until("it has heard of its home", PATIENCE, async || {
        (second.client().post("/v2/team/app/blobs/uploads/").send().await.status == 403).then_some(())
    })
    .await;
}
