//! What a client is given back: exact bytes, exact ranges, and tags that have one history (P3).

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::harness::{
    Connection, Image, MEDIA_TYPE_IMAGE, MEDIA_TYPE_INDEX, S3, S3Kind, Setup, alone, random_bytes, sha256,
};

#[tokio::test]
async fn ranges_are_exact_on_every_store() {
    let s3 = S3::start(S3Kind::Minio).await;
    for setup in [Setup::filesystem(), Setup::s3(&s3)] {
        let registry = setup.flag("--part-size", "5MiB").start().await;
        let client = registry.client();
        // One object, and one of three parts.
        for (seed, length) in [(1, 10_000_usize), (2, (10 << 20) + 500)] {
            let content = random_bytes(seed, length);
            let digest = client.push_blob("team/app", &content).await;
            let target = format!("/v2/team/app/blobs/{digest}");
            for asked in [client.get(&target), client.head(&target)] {
                asked.header("if-none-match", &format!("\"{digest}\"")).send().await.status(304);
            }
            let part_end = (5 << 20).min(length - 10);
            for (range, expected) in [
                ("bytes=0-0".to_owned(), 0..1),
                ("bytes=0-".to_owned(), 0..length),
                ("bytes=500-1499".to_owned(), 500..1_500),
                ("bytes=-500".to_owned(), length - 500..length),
                (format!("bytes={}-", length - 1), length - 1..length),
                (format!("bytes={}-{}", length - 5, length + 5), length - 5..length),
                (format!("bytes={}-{}", part_end - 3, part_end + 3), part_end - 3..part_end + 4),
                (format!("bytes=-{}", length * 2), 0..length),
            ] {
                let reply = client.get(&target).header("range", &range).send().await.status(206);
                assert!(reply.body == content[expected.clone()], "{range} of {length}");
                let said = format!("bytes {}-{}/{length}", expected.start, expected.end - 1);
                assert_eq!(reply.header("content-range"), Some(said.as_str()));
                assert_eq!(reply.header("content-length"), Some(expected.len().to_string().as_str()));
            }
            for range in [format!("bytes={length}-"), "bytes=500-0".to_owned(), "bytes=-0".to_owned()] {
                let reply = client.get(&target).header("range", &range).send().await.status(416);
                assert_eq!(reply.header("content-range"), Some(format!("bytes */{length}").as_str()));
            }
        }
    }
}

/// White space, order and unknown fields are kept: the digest is that of the bytes.
#[tokio::test]
async fn manifests_are_served_byte_for_byte() {
    let mut registry = Setup::filesystem().start().await;
    let client = registry.client();
    let manifest = format!(
        "\n{{\t\"x-unknown\" : [1.50, 1e3, \"\\u00e9\"],\r\n  \"manifests\" :[ ],\"mediaType\": \"{MEDIA_TYPE_INDEX}\", \"schemaVersion\": 2 }}\n\n"
    );
    let digest = sha256(manifest.as_bytes());
    let put = client.put_manifest("team/app", "odd", MEDIA_TYPE_INDEX, manifest.as_bytes()).await.status(201);
    assert_eq!(put.header("docker-content-digest"), Some(digest.as_str()));
    for again in [false, true] {
        if again {
            registry.kill();
            registry.restart().await;
        }
        for reference in ["odd", &digest] {
            let got = client.manifest("team/app", reference).await.status(200);
            assert_eq!(got.body, manifest);
            assert_eq!(got.header("content-type"), Some(MEDIA_TYPE_INDEX));
            assert_eq!(got.header("docker-content-digest"), Some(digest.as_str()));
            let etag = got.header("etag").expect("an ETag").to_owned();
            let target = format!("/v2/team/app/manifests/{reference}");
            client.get(&target).header("if-none-match", &etag).send().await.status(304);
            client.get(&target).header("if-none-match", "\"other\"").send().await.status(200);
            let head = client.head(&target).send().await.status(200);
            assert_eq!(head.header("content-length"), Some(manifest.len().to_string().as_str()));
            assert!(head.body.is_empty());
        }
    }
}

/// Of many that create a tag at once, exactly one does; of many that move it from what they saw, exactly one does.
#[tokio::test]
async fn p3_compare_and_set_lets_one_win() {
    let registry = Setup::filesystem().start().await;
    let client = registry.client();
    let images: Vec<Image> = (0..8).map(|seed| Image::random(seed, &[100])).collect();
    for image in &images {
        client.push_image("team/app", &image.digest(), image).await;
    }
    let mut current: Option<String> = None;
    for _ in 0..3 {
        let (name, value) = match &current {
            None => ("if-none-match", "*".to_owned()),
            Some(digest) => ("if-match", format!("\"{digest}\"")),
        };
        let attempts = stream::iter(&images).map(async |image| {
            let request = client.put("/v2/team/app/manifests/stable").header("content-type", MEDIA_TYPE_IMAGE);
            let reply = request.header(name, &value).body(image.manifest.to_vec()).send().await;
            (reply.status, image.digest())
        });
        let outcomes: Vec<(u16, String)> = attempts.buffer_unordered(8).collect().await;
        let won: Vec<&String> =
            outcomes.iter().filter(|(status, _)| *status == 201).map(|(_, digest)| digest).collect();
        // Setting it to what it is already holds for everybody who asks for that.
        let moved: Vec<_> = won.iter().filter(|digest| Some(**digest) != current.as_ref()).collect();
        assert_eq!(moved.len(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(|(status, _)| matches!(status, 201 | 412)), "{outcomes:?}");
        let now = client.manifest("team/app", "stable").await.status(200);
        let now = now.header("docker-content-digest").expect("a digest").to_owned();
        assert_eq!(now, ***moved[0]);
        current = Some(now);
    }
}

/// `If-Match: *` moves a tag that is there, and makes none (RFC 9110, section 13.1.1).
#[tokio::test]
async fn p3_a_tag_that_must_exist_is_moved_and_never_made() {
    let registry = Setup::filesystem().start().await;
    let client = registry.client();
    let [first, second] = [1, 2].map(|seed| Image::random(seed, &[100]));
    for image in [&first, &second] {
        client.push_image("team/app", &image.digest(), image).await;
    }
    let put = async |reference: &str, image: &Image, condition: &str| {
        let request = client.put(&format!("/v2/team/app/manifests/{reference}")).header("if-match", condition);
        request.header("content-type", MEDIA_TYPE_IMAGE).body(image.manifest.to_vec()).send().await
    };
    let refused = put("stable", &first, "*").await.status(412).json();
    assert_eq!(refused["errors"][0]["code"], "PRECONDITION");
    client.manifest("team/app", "stable").await.status(404);
    client.put_manifest("team/app", "stable", MEDIA_TYPE_IMAGE, &first.manifest).await.status(201);
    for _ in 0..2 {
        put("stable", &second, "*").await.status(201);
        assert_eq!(client.manifest("team/app", "stable").await.status(200).body, second.manifest);
    }
    put(&second.digest(), &second, "*").await.status(201);
    let third = Image::random(3, &[]);
    for blob in third.blobs() {
        client.push_blob("team/app", blob).await;
    }
    put(&third.digest(), &third, "*").await.status(412);
    client.delete("/v2/team/app/manifests/stable").send().await.status(202);
    put("stable", &second, "*").await.status(412);
    put("stable", &second, "not quoted").await.status(400);
}

/// Whoever pulls after a push was acknowledged sees it, or something newer.
#[tokio::test]
async fn p3_a_pull_after_a_push_sees_it_or_something_newer() {
    let registry = Setup::filesystem().start().await;
    let client = registry.client();
    let images: Vec<Image> = (0..20).map(|seed| Image::random(seed, &[50])).collect();
    for image in &images {
        client.push_image("team/app", &image.digest(), image).await;
    }
    let position = |digest: Option<&str>| images.iter().position(|image| Some(image.digest().as_str()) == digest);
    let (acknowledged, known) = tokio::sync::watch::channel(0);
    client.put_manifest("team/app", "latest", MEDIA_TYPE_IMAGE, &images[0].manifest).await.status(201);
    let pushing = async {
        for (number, image) in images.iter().enumerate().skip(1) {
            client.put_manifest("team/app", "latest", MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
            acknowledged.send_replace(number);
        }
    };
    let pulling = async {
        loop {
            let at_least = *known.borrow();
            let reply = client.head("/v2/team/app/manifests/latest").send().await.status(200);
            let seen = position(reply.header("docker-content-digest")).expect("a manifest that was pushed");
            assert!(seen >= at_least, "{seen} was seen after {at_least} was acknowledged");
            if at_least == images.len() - 1 {
                break;
            }
        }
    };
    tokio::join!(pushing, pulling);
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_and_deleting_a_tag_does_not_take_its_manifest() {
    let registry = Setup::filesystem().start().await;
    let client = registry.client();
    let image = Image::random(1, &[100]);
    for tag in ["a", "b", "c"] {
        client.push_image("team/app", tag, &image).await;
    }
    client.delete("/v2/team/app/manifests/a").send().await.status(202);
    client.manifest("team/app", "a").await.status(404);
    client.pull_image("team/app", &image.digest(), &image).await;
    assert_eq!(client.tags("team/app").await, ["b", "c"]);
    client.delete(&format!("/v2/team/app/manifests/{}", image.digest())).send().await.status(202);
    for reference in ["b", "c", &image.digest()] {
        client.manifest("team/app", reference).await.status(404);
    }
    assert!(client.tags("team/app").await.is_empty());
    // What was deleted can be pushed again.
    client.push_image("team/app", "b", &image).await;
    client.pull_image("team/app", "b", &image).await;
}

/// Nagle's algorithm against delayed acknowledgements costs a client that keeps its connection 40 ms for each blob.
#[tokio::test]
async fn a_kept_connection_does_not_stall() {
    let _alone = alone().await;
    let registry = Setup::filesystem().start().await;
    let content = random_bytes(1, 10_000);
    let digest = registry.client().push_blob("team/app", &content).await;
    let mut connection = Connection::open(registry.address()).await;
    let request = format!("GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nhost: registry\r\n\r\n");
    let mut times = Vec::new();
    for _ in 0..40 {
        let start = Instant::now();
        connection.send(request.as_bytes()).await;
        assert!(connection.answer().await.status(200).body == content);
        times.push(start.elapsed());
    }
    // Nagle's would hold up every answer, a busy machine only some.
    assert!(times.iter().min() < Some(&Duration::from_millis(30)), "{times:?}");
}
