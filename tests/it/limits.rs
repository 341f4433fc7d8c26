//! Bounds that a client can run into, each with the answer that tells it so.

use crate::harness::{Connection, Image, MEDIA_TYPE_INDEX, Setup, random_bytes, sha256};

#[tokio::test]
async fn too_many_uploads_are_told_to_come_back() {
    let registry = Setup::filesystem().flag("--max-uploads", "3").start().await;
    let client = registry.client();
    let mut open = Vec::new();
    for number in 0..3 {
        open.push(client.begin(&format!("team/{number}")).await);
    }
    let refused = client.post("/v2/team/one-more/blobs/uploads/").send().await;
    assert!(matches!(refused.status, 429 | 503), "{refused:?}");
    assert_eq!(refused.error_code(), "TOOMANYREQUESTS");
    let seconds = refused.header("retry-after").expect("when to come back").parse::<u32>().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");

    // One that ends makes room for another.
    open.pop().expect("there is one").cancel().await.status(204);
    client.begin("team/one-more").await;
    let content = random_bytes(1, 100);
    open.pop().expect("there is one").put(&sha256(&content), content).await.status(201);
    client.begin("team/another").await;
}

/// The manifest of an index with nothing in it, made longer by an annotation so that it has `length` bytes.
fn index_of(length: usize) -> String {
    let index = |filler: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE_INDEX}","manifests":[],"annotations":{{"a":"{filler}"}}}}"#
        )
    };
    index(&"a".repeat(length - index("").len()))
}

#[tokio::test]
async fn manifests_up_to_the_limit_are_kept_and_larger_ones_are_refused() {
    let mut registry = Setup::filesystem().start().await;
    let client = registry.client();
    // The specification's least is 4 MiB; around 64 KiB they move from the log to the store.
    let limit = roadstead_oci::Manifest::MAX_SIZE;
    assert!(limit >= 4 << 20);
    for length in [(64 << 10) - 1, 64 << 10, (64 << 10) + 1, 4 << 20, limit] {
        let manifest = index_of(length);
        assert_eq!(manifest.len(), length);
        let put = client.put_manifest("team/app", "large", MEDIA_TYPE_INDEX, manifest.as_bytes()).await.status(201);
        assert_eq!(put.header("docker-content-digest"), Some(sha256(manifest.as_bytes()).as_str()));
        let got = client.manifest("team/app", "large").await.status(200);
        assert!(got.body == manifest, "{length} bytes");
    }
    let refused = client.put_manifest("team/app", "larger", MEDIA_TYPE_INDEX, index_of(limit + 1).as_bytes()).await;
    refused.status(413);
    // Also where the length is not said beforehand.
    let pieces = vec![Ok::<_, std::io::Error>(index_of(limit + 1))];
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = client.put("/v2/team/app/manifests/larger").header("content-type", MEDIA_TYPE_INDEX).body(body);
    // An answer may be cut off by the reset that follows it, if the client is still sending.
    if let Ok(refused) = request.try_send().await {
        assert_eq!(refused.status, 413);
    }
    client.manifest("team/app", "larger").await.status(404);
    registry.assert_unharmed();
}

/// Pushes tags of one manifest, 50 at a time, and returns their names in order.
async fn push_tags(client: &crate::harness::Client, repository: &str, count: usize) -> Vec<String> {
    let manifest = index_of(500);
    let digest = sha256(manifest.as_bytes());
    let names: Vec<String> = (0..count).map(|number| format!("v{number:05}")).collect();
    for some in names.chunks(50) {
        let query = some.iter().map(|name| format!("tag={name}")).collect::<Vec<_>>().join("&");
        let put =
            client.put_manifest(repository, &format!("{digest}?{query}"), MEDIA_TYPE_INDEX, manifest.as_bytes()).await;
        let put = put.status(201);
        assert_eq!(put.headers.get_all("oci-tag").iter().count(), some.len());
    }
    names
}

/// Follows `Link` from `target` on, and returns the pages.
async fn pages(client: &crate::harness::Client, target: &str, key: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(target.to_owned()));
    while let Some(target) = next {
        let reply = client.get(&target).send().await.status(200);
        let entries = reply.json()[key].as_array().expect("a list").clone();
        pages.push(entries.iter().map(|entry| entry.as_str().expect("a name").to_owned()).collect());
        next = reply.header("link").map(|link| {
            let (target, rest) = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a link");
            assert_eq!(rest.replace(' ', ""), ";rel=\"next\"");
            target.to_owned()
        });
    }
    pages
}

#[tokio::test]
async fn listings_come_in_bounded_pages_that_make_up_the_whole() {
    let registry = Setup::filesystem().start().await;
    let client = registry.client();
    let names = push_tags(&client, "team/app", 2_050).await;
    for (query, lengths) in [
        ("", vec![1_000, 1_000, 50]),
        ("?n=800", vec![800, 800, 450]),
        ("?n=1000000", vec![1_000, 1_000, 50]),
        ("?n=1025", vec![1_000, 1_000, 50]),
        ("?last=v01999", vec![50]),
        ("?n=2050&last=v99999", vec![0]),
        ("?last=v02039a&n=100", vec![10]),
    ] {
        let pages = pages(&client, &format!("/v2/team/app/tags/list{query}"), "tags").await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{query}");
        if lengths.len() > 1 {
            assert_eq!(pages.concat(), names, "{query}");
        }
    }
    let none = client.get("/v2/team/app/tags/list?n=0").send().await.status(200);
    assert_eq!(none.json()["tags"].as_array().map(Vec::len), Some(0));
    assert_eq!(none.header("link"), None);
    // A page that holds all there is has no successor.
    let all = client.get("/v2/team/app/tags/list?n=1000&last=v01049").send().await.status(200);
    assert_eq!((all.json()["tags"].as_array().map(Vec::len), all.header("link")), (Some(1_000), None));

    for repository in ["a/one", "b/two", "b/two-more", "c"] {
        push_tags(&client, repository, 1).await;
    }
    let repositories = pages(&client, "/v2/_catalog?n=2", "repositories").await;
    assert_eq!(repositories, [vec!["a/one", "b/two"], vec!["b/two-more", "c"], vec!["team/app"]]);
}

#[tokio::test]
async fn a_body_that_stands_still_is_ended_and_its_session_resumes() {
    let registry = Setup::filesystem().flag("--body-idle-timeout", "4s").start().await;
    let client = registry.client();
    let mut upload = client.begin("team/app").await;
    let location = upload.location.strip_prefix(client.base()).unwrap_or(&upload.location).to_owned();
    let mut connection = Connection::open(registry.address()).await;
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: registry\r\ncontent-length: 1000\r\n\r\n");
    connection.send(head.as_bytes()).await;
    connection.send(&[1; 500]).await;
    let ended = connection.answer().await;
    assert_eq!(ended.status, 408, "{ended:?}");
    let content = random_bytes(1, 1_000);
    let told = upload.progress().await.status(204);
    assert_eq!(told.range_end(), 0);
    upload.location = told.location();
    upload.put(&sha256(&content), content).await.status(201);
}

#[tokio::test]
async fn many_repositories_with_images_are_all_there_after_a_restart() {
    let mut registry = Setup::filesystem().start().await;
    let client = registry.client();
    let images: Vec<Image> = (0..30).map(|seed| Image::random(seed, &[500])).collect();
    for (number, image) in images.iter().enumerate() {
        client.push_image(&format!("team/app-{number}"), "latest", image).await;
    }
    assert!(registry.terminate().await.success());
    registry.restart().await;
    for (number, image) in images.iter().enumerate() {
        client.pull_image(&format!("team/app-{number}"), "latest", image).await;
    }
}
