//! Every way in which the specification, and docker, let a blob arrive (P4, P5). The flows run on the filesystem, on
//! `MinIO` and on the Versity gateway.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::Body;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::{
    Client, Connection, Forwarder, Reply, Roadstead, S3, S3Kind, Setup, random_bytes, sha256, sha512, until,
};

/// The smallest part that S3 takes: blobs of several parts are then small.
const PART: usize = 5 << 20;
const REPOSITORY: &str = "team/app";

async fn start(setup: Setup) -> Roadstead {
    setup.flag("--part-size", "5MiB").start().await
}

/// A body of which the length is not said beforehand.
fn streamed(content: &[u8]) -> Body {
    let pieces: Vec<_> = content.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    Body::wrap_stream(stream::iter(pieces))
}

/// The blob is there, under this digest, with these bytes, and so is its `Location`.
async fn assert_pushed(client: &Client, closed: Reply, digest: &str, content: &[u8]) {
    let closed = closed.status(201);
    assert_eq!(closed.header("docker-content-digest"), Some(digest));
    let blob = client.get(&closed.location()).send().await.status(200);
    assert!(blob.body == content, "{digest} has other bytes than were pushed");
    assert_eq!(blob.header("docker-content-digest"), Some(digest));
    let head = client.head(&format!("/v2/{REPOSITORY}/blobs/{digest}")).send().await.status(200);
    assert_eq!(head.header("content-length"), Some(content.len().to_string().as_str()));
}

async fn monolithic(client: &Client) {
    for (seed, length) in [(1, 1_000), (2, PART), (3, 2 * PART + 12_345)] {
        let content = random_bytes(seed, length);
        let digest = sha256(&content);
        let closed = client.begin(REPOSITORY).await.put(&digest, content.clone()).await;
        assert_pushed(client, closed, &digest, &content).await;
    }
}

async fn single_post(client: &Client) {
    for (seed, length) in [(11, 1_000), (12, 2 * PART + 12_345)] {
        let content = random_bytes(seed, length);
        let digest = sha256(&content);
        let request = client.post(&format!("/v2/{REPOSITORY}/blobs/uploads/?digest={digest}"));
        let closed = request.header("content-type", "application/octet-stream").body(content.clone()).send().await;
        assert_pushed(client, closed, &digest, &content).await;
    }
}

async fn streamed_as_docker_does(client: &Client) {
    for (seed, length) in [(21, 1_000), (22, PART), (23, 2 * PART + 12_345)] {
        let content = random_bytes(seed, length);
        let digest = sha256(&content);
        let mut upload = client.begin(REPOSITORY).await;
        let patched = upload.stream(streamed(&content)).await.status(202);
        assert_eq!(patched.range_end(), length as u64);
        let closed = upload.put(&digest, Vec::new()).await;
        assert_pushed(client, closed, &digest, &content).await;
    }
}

async fn chunked_with_a_resume(client: &Client) {
    let content = random_bytes(31, 2 * PART + 300);
    let digest = sha256(&content);
    let mut upload = client.begin(REPOSITORY).await;
    assert_eq!(upload.progress().await.status(204).header("range"), Some("0-0"));
    let first = upload.chunk(0..PART, content[..PART].to_vec()).await.status(202);
    assert_eq!(first.header("range"), Some(format!("0-{}", PART - 1).as_str()));

    // A chunk that leaves a gap, and one that comes again, are refused and change nothing.
    for start in [PART + 10, 0] {
        let refused = upload.chunk(start..start + 100, content[start..start + 100].to_vec()).await.status(416);
        assert_eq!(refused.error_code(), "RANGE_INVALID");
        let told = upload.progress().await.status(204);
        assert_eq!(told.range_end(), PART as u64);
        upload.location = told.location();
    }

    upload.chunk(PART..2 * PART, content[PART..2 * PART].to_vec()).await.status(202);
    let last = content[2 * PART..].to_vec();
    let out_of_order =
        client.put(&upload.closing(&digest)).header("content-range", "1-300").body(last.clone()).send().await;
    out_of_order.status(416);
    let range = format!("{}-{}", 2 * PART, content.len() - 1);
    let closed = client.put(&upload.closing(&digest)).header("content-range", &range).body(last).send().await;
    assert_pushed(client, closed, &digest, &content).await;
}

/// Chunks of any length: none of them is a part of the stored object.
async fn chunked_in_odd_lengths(client: &Client) {
    let content = random_bytes(41, 2 * PART + 77);
    let digest = sha256(&content);
    let mut upload = client.begin(REPOSITORY).await;
    let mut at = 0;
    for length in [1, 99, PART - 1, 1, PART + 3, 500].into_iter().cycle() {
        let end = content.len().min(at + length);
        let reply = upload.chunk(at..end, content[at..end].to_vec()).await.status(202);
        assert_eq!(reply.header("range"), Some(format!("0-{}", end - 1).as_str()));
        at = end;
        if at == content.len() {
            break;
        }
    }
    let closed = upload.put(&digest, Vec::new()).await;
    assert_pushed(client, closed, &digest, &content).await;
}

/// A streamed PATCH ends in a part that is shorter than the others; legally, more may follow.
async fn more_after_a_short_final_part(client: &Client) {
    let content = random_bytes(51, 4 * PART + 5);
    let digest = sha256(&content);
    let mut upload = client.begin(REPOSITORY).await;
    let (first, second) = (PART + 1_000, 2 * PART + 2_000);
    upload.stream(streamed(&content[..first])).await.status(202);
    upload.stream(streamed(&content[first..second])).await.status(202);
    let closed = upload.put(&digest, content[second..].to_vec()).await;
    assert_pushed(client, closed, &digest, &content).await;
}

async fn cancelled(client: &Client) {
    let mut upload = client.begin(REPOSITORY).await;
    let content = random_bytes(61, PART + 1_000);
    upload.stream(streamed(&content)).await.status(202);
    upload.cancel().await.status(204);
    for gone in [
        upload.progress().await,
        upload.chunk(content.len()..content.len() + 1, vec![0]).await,
        upload.put(&sha256(&content), Vec::new()).await,
        upload.cancel().await,
    ] {
        assert_eq!(gone.status(404).error_code(), "BLOB_UPLOAD_UNKNOWN");
    }
    client.blob(REPOSITORY, &sha256(&content)).await.status(404);
}

/// A client that did not get its answer asks again, and gets it.
async fn closed_again(client: &Client) {
    for (seed, length) in [(71, 1_000), (72, PART + 1_000)] {
        let content = random_bytes(seed, length);
        let digest = sha256(&content);
        let mut upload = client.begin(REPOSITORY).await;
        upload.stream(streamed(&content)).await.status(202);
        upload.put(&digest, Vec::new()).await.status(201);
        let again = upload.put(&digest, Vec::new()).await;
        assert_pushed(client, again, &digest, &content).await;
        upload.put(&sha256(b"something else"), Vec::new()).await.status(404);
    }
}

async fn mounted(client: &Client) {
    let content = random_bytes(81, 10_000);
    let digest = client.push_blob("team/source", &content).await;
    for (target, parameters) in [
        ("team/mounted-from", format!("mount={digest}&from=team/source")),
        ("team/mounted-from-anywhere", format!("mount={digest}")),
        ("team/mounted-from-elsewhere", format!("mount={digest}&from=team/nothing")),
    ] {
        let reply = client.post(&format!("/v2/{target}/blobs/uploads/?{parameters}")).send().await;
        // Only the named repository need be looked at; a session is then opened instead.
        if parameters.contains("nothing") && reply.status == 202 {
            client.blob(target, &digest).await.status(404);
            continue;
        }
        let reply = reply.status(201);
        assert!(client.get(&reply.location()).send().await.status(200).body == content);
        client.blob(target, &digest).await.status(200);
    }

    let unknown = random_bytes(82, 500);
    let digest = sha256(&unknown);
    for parameters in [format!("mount={digest}&from=team/source"), format!("mount={digest}")] {
        let reply = client.post(&format!("/v2/{REPOSITORY}/blobs/uploads/?{parameters}")).send().await.status(202);
        let upload = crate::harness::Upload { client: client.clone(), location: reply.location() };
        upload.put(&digest, unknown.clone()).await.status(201);
        client.delete(&format!("/v2/{REPOSITORY}/blobs/{digest}")).send().await.status(202);
    }
}

async fn closed_by_sha512(client: &Client) {
    for (seed, length) in [(91, 1_000), (92, PART), (93, 2 * PART + 9)] {
        let content = random_bytes(seed, length);
        let digest = sha512(&content);
        for hint in ["", "?digest-algorithm=sha512"] {
            let reply = client.post(&format!("/v2/{REPOSITORY}/blobs/uploads/{hint}")).send().await.status(202);
            let mut upload = crate::harness::Upload { client: client.clone(), location: reply.location() };
            upload.stream(streamed(&content)).await.status(202);
            let closed = upload.put(&digest, Vec::new()).await;
            assert_pushed(client, closed, &digest, &content).await;
            client.delete(&format!("/v2/{REPOSITORY}/blobs/{digest}")).send().await.status(202);
        }
        // A wrong digest is found out also where the session was not told of SHA-512.
        let mut upload = client.begin(REPOSITORY).await;
        upload.stream(streamed(&content)).await.status(202);
        let refused = upload.put(&sha512(b"something else"), Vec::new()).await.status(400);
        assert_eq!(refused.error_code(), "DIGEST_INVALID");
        upload.progress().await.status(404);
    }
}

async fn empty(client: &Client) {
    let digest = sha256(b"");
    let closed = client.begin(REPOSITORY).await.put(&digest, Vec::new()).await;
    assert_pushed(client, closed, &digest, b"").await;
    let mut upload = client.begin(REPOSITORY).await;
    upload.stream(streamed(b"")).await.status(202);
    assert_pushed(client, upload.put(&digest, Vec::new()).await, &digest, b"").await;
}

async fn says_its_least_chunk(client: &Client) {
    let reply = client.post(&format!("/v2/{REPOSITORY}/blobs/uploads/")).header("content-length", "0").send().await;
    let reply = reply.status(202);
    assert_eq!(reply.header("oci-chunk-min-length"), Some(PART.to_string().as_str()));
    assert!(reply.header("docker-upload-uuid").is_some());
    assert_eq!(reply.header("range"), Some("0-0"));
}

/// Two requests on one session: the newest one wins, and the older one is told where the session stands.
async fn newest_request_wins(client: &Client) {
    let content = random_bytes(101, 4 * PART + 500);
    let digest = sha256(&content);
    let mut upload = client.begin(REPOSITORY).await;

    let (sender, receiver) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let stalled = Body::wrap_stream(stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    }));
    let mut older = JoinSet::new();
    let request = client.patch(&upload.location).body(stalled);
    older.spawn(request.send());
    sender.send(Ok(content[..3 * PART + 100].to_vec())).await.expect("it is being sent");
    // Once one of its parts is durable it can be seen that the older request works on the session.
    let mut told = until("the older request has come so far", Duration::from_secs(30), async || {
        Some(upload.progress().await.status(204)).filter(|told| told.range_end() > 0)
    })
    .await;

    // The newer one goes on where the session stands. Its first attempt ends the older request, which leaves the
    // session at the end of its last durable part: that is told, and holds.
    let mut attempts = 0;
    loop {
        let at = usize::try_from(told.range_end()).expect("an offset");
        assert!(at % PART == 0 && at <= 3 * PART, "{at} is no end of a part that was sent");
        upload.location = told.location();
        let reply = upload.chunk(at..content.len(), content[at..].to_vec()).await;
        if reply.status == 202 {
            break;
        }
        told = reply.status(416);
        attempts += 1;
        assert_eq!(attempts, 1, "the offset that was told does not hold");
    }
    let older = older.join_next().await.expect("it was sent").expect("it did not panic").status(416);
    assert_eq!(older.error_code(), "RANGE_INVALID");
    drop(sender);
    let closed = upload.put(&digest, Vec::new()).await;
    assert_pushed(client, closed, &digest, &content).await;
}

async fn every_flow(client: &Client) {
    monolithic(client).await;
    single_post(client).await;
    streamed_as_docker_does(client).await;
    chunked_with_a_resume(client).await;
    chunked_in_odd_lengths(client).await;
    more_after_a_short_final_part(client).await;
    cancelled(client).await;
    closed_again(client).await;
    mounted(client).await;
    closed_by_sha512(client).await;
    empty(client).await;
    says_its_least_chunk(client).await;
    newest_request_wins(client).await;
}

#[tokio::test]
async fn p4_every_flow_on_the_filesystem() {
    let mut registry = start(Setup::filesystem()).await;
    every_flow(&registry.client()).await;
    registry.assert_unharmed();
}

#[tokio::test]
async fn p4_every_flow_on_minio() {
    let s3 = S3::start(S3Kind::Minio).await;
    let mut registry = start(Setup::s3(&s3)).await;
    every_flow(&registry.client()).await;
    registry.assert_unharmed();
    until("no multipart upload is left open", Duration::from_mins(1), async || {
        (s3.open_multiparts() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p4_every_flow_on_the_versity_gateway() {
    let s3 = S3::start(S3Kind::Versity).await;
    let mut registry = start(Setup::s3(&s3)).await;
    every_flow(&registry.client()).await;
    registry.assert_unharmed();
    until("no multipart upload is left open", Duration::from_mins(1), async || {
        (s3.open_multiparts() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p4_a_session_outlives_its_process() {
    let mut registry = start(Setup::filesystem()).await;
    let client = registry.client();
    let content = random_bytes(111, 2 * PART + 500);
    let digest = sha256(&content);
    let mut upload = client.begin(REPOSITORY).await;
    upload.chunk(0..PART + 7, content[..PART + 7].to_vec()).await.status(202);
    assert!(registry.terminate().await.success(), "{}", registry.log());
    registry.restart().await;
    let told = upload.progress().await.status(204);
    assert_eq!(told.range_end(), (PART + 7) as u64);
    upload.location = told.location();
    upload.chunk(PART + 7..content.len(), content[PART + 7..].to_vec()).await.status(202);
    registry.kill();
    registry.restart().await;
    let closed = upload.put(&digest, Vec::new()).await;
    assert_pushed(&client, closed, &digest, &content).await;
}

/// How many bytes may go to the bucket beside the content itself: checksums of pieces in aws-chunked bodies, and the
/// bodies that list the parts of an object.
const OVERHEAD: f64 = 1.01;

#[tokio::test]
async fn p5_bytes_move_once() {
    let s3 = S3::start(S3Kind::Minio).await;
    let wire = Forwarder::to(s3.address()).await;
    let registry = start(Setup::s3_through(&wire.endpoint())).await;
    let client = registry.client();
    let content = random_bytes(121, 4 * PART + 1_234);
    let digest = sha256(&content);

    // As docker pushes, as containerd does, and in chunks of the length that was asked for.
    for way in 0..3 {
        let before = wire.bodies();
        let repository = format!("way/{way}");
        let mut upload = client.begin(&repository).await;
        match way {
            0 => {
                upload.stream(streamed(&content)).await.status(202);
                upload.put(&digest, Vec::new()).await.status(201);
            }
            1 => {
                upload.put(&digest, content.clone()).await.status(201);
            }
            _ => {
                for start in (0..content.len()).step_by(PART) {
                    let end = content.len().min(start + PART);
                    upload.chunk(start..end, content[start..end].to_vec()).await.status(202);
                }
                upload.put(&digest, Vec::new()).await.status(201);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "lengths of some megabytes")]
        let ratio = (wire.bodies() - before) as f64 / content.len() as f64;
        // The last chunk is a whole object until more comes or the session is closed: it is then moved once more.
        let last_chunk = if way == 2 { 1_234.0 / 20e6 } else { 0.0 };
        assert!((1.0..OVERHEAD + last_chunk).contains(&ratio), "way {way}: {ratio} bytes moved per byte stored");
        client.delete(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(202);
    }
    let copies = wire.heads().into_iter().filter(|head| head.to_lowercase().contains("x-amz-copy-source")).count();
    assert_eq!(copies, 0, "nothing is copied within the bucket");
}

#[tokio::test]
async fn p5_parts_have_equal_lengths() {
    let s3 = S3::start(S3Kind::Minio).await;
    let wire = Forwarder::to(s3.address()).await;
    let registry = start(Setup::s3_through(&wire.endpoint())).await;
    let content = random_bytes(131, 3 * PART + 99);
    let mut upload = registry.client().begin(REPOSITORY).await;
    for (start, end) in [(0, 700), (700, PART + 10), (PART + 10, 3 * PART), (3 * PART, content.len())] {
        upload.chunk(start..end, content[start..end].to_vec()).await.status(202);
    }
    upload.put(&sha256(&content), Vec::new()).await.status(201);
    let mut lengths = Vec::new();
    for head in wire.heads() {
        let request_line = head.lines().next().expect("a request line");
        if request_line.starts_with("PUT ") && request_line.contains("partNumber=") {
            lengths.push(content_length(&head));
        }
    }
    assert_eq!(lengths.len(), 4, "{lengths:?}");
    assert!(lengths[..3].iter().all(|length| *length == lengths[0]), "{lengths:?}");
    assert!(lengths[3] < lengths[0], "{lengths:?}");
}

/// The content's length, which an aws-chunked body says in a header of its own.
fn content_length(head: &str) -> usize {
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().parse().expect("a length"))
        })
    };
    header("x-amz-decoded-content-length").or_else(|| header("content-length")).expect("a length")
}

/// A client that vanishes in the middle of a PATCH finds the session at a part's end and goes on there.
#[tokio::test]
async fn p4_a_broken_patch_resumes_where_the_session_says() {
    let registry = start(Setup::filesystem()).await;
    let client = registry.client();
    let content = random_bytes(141, 3 * PART);
    let mut upload = client.begin(REPOSITORY).await;
    let target = upload.location.strip_prefix(client.base()).unwrap_or(&upload.location).to_owned();
    {
        let mut connection = Connection::open(registry.address()).await;
        let head = format!("PATCH {target} HTTP/1.1\r\nhost: registry\r\ncontent-length: {}\r\n\r\n", content.len());
        connection.send(head.as_bytes()).await;
        connection.send(&content[..2 * PART + 1_000]).await;
    }
    let told = until("what has come is durable", Duration::from_secs(30), async || {
        let told = upload.progress().await.status(204);
        (told.range_end() == 2 * PART as u64).then_some(told)
    })
    .await;
    upload.location = told.location();
    upload.chunk(2 * PART..content.len(), content[2 * PART..].to_vec()).await.status(202);
    let digest = sha256(&content);
    let closed = upload.put(&digest, Vec::new()).await;
    assert_pushed(&client, closed, &digest, &content).await;
}

/// A closing PUT with the whole blob, as containerd sends it, leaves nothing when it breaks: the session is where it
/// was, and the same PUT can be sent again.
#[tokio::test]
async fn p4_a_broken_monolithic_put_rolls_back_to_its_start() {
    let registry = start(Setup::filesystem()).await;
    let client = registry.client();
    let content = random_bytes(151, 3 * PART);
    let digest = sha256(&content);
    let upload = client.begin(REPOSITORY).await;
    let target = upload.closing(&digest);
    let target = target.strip_prefix(client.base()).unwrap_or(&target);
    {
        let mut connection = Connection::open(registry.address()).await;
        let head = format!("PUT {target} HTTP/1.1\r\nhost: registry\r\ncontent-length: {}\r\n\r\n", content.len());
        connection.send(head.as_bytes()).await;
        connection.send(&content[..2 * PART + 1_000]).await;
    }
    assert_eq!(upload.progress().await.status(204).header("range"), Some("0-0"));
    let closed = upload.put(&digest, content.clone()).await;
    assert_pushed(&client, closed, &digest, &content).await;
}

/// Many clients push the same new blob at once: each gets its 201, and one object is kept.
#[tokio::test]
async fn the_same_blob_pushed_by_many_at_once_is_kept_once() {
    let registry = start(Setup::filesystem()).await;
    let client = registry.client();
    let content = random_bytes(161, 300_000);
    let digest = sha256(&content);
    let pushes =
        stream::iter(0..8).map(async |number: u32| client.push_blob(&format!("team/{number}"), &content).await);
    let digests: Vec<String> = pushes.buffer_unordered(8).collect().await;
    assert_eq!(digests, vec![digest; 8]);
    until("one object is left", Duration::from_mins(1), async || {
        let files = registry.stored_files();
        let large = files.iter().filter(|(_, length)| *length == 300_000).count();
        (large == 1).then_some(())
    })
    .await;
}
