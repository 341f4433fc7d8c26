//! What no well-behaved client sends. Each line of the table is answered as the specification says, in its form; what
//! was sent leaves nothing behind; the process goes on.

use std::fmt::Write;
use std::time::Duration;

use crate::harness::{
    Client, Connection, Image, MEDIA_TYPE_IMAGE, MEDIA_TYPE_INDEX, Reply, Roadstead, S3, S3Kind, Setup, Upload,
    random_bytes, sha256, sha512, until,
};

const REPOSITORY: &str = "team/app";
const OCTETS: &str = "content-type: application/octet-stream";
/// What the issue allows from the refusal until the bytes are gone.
const GONE_WITHIN: Duration = Duration::from_mins(1);

/// One request, and how it must be answered. `{session}` in the target is a fresh upload session, `{blob}` and
/// `{manifest}` are digests of content that is there.
struct Case {
    name: &'static str,
    method: &'static str,
    target: String,
    headers: Vec<String>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
}

fn case(name: &'static str, method: &'static str, target: impl Into<String>) -> Case {
    let (headers, body) = (Vec::new(), Vec::new());
    Case { name, method, target: target.into(), headers, body, status: 0, code: "" }
}

impl Case {
    fn header(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn answered(mut self, status: u16, code: &'static str) -> Self {
        (self.status, self.code) = (status, code);
        self
    }
}

/// Content that is there before the table begins.
struct Good {
    image: Image,
    blob: String,
    manifest: String,
}

async fn good_content(client: &Client) -> Good {
    let image = Image::random(1, &[2_000, 3_000]);
    client.push_image(REPOSITORY, "good", &image).await;
    Good { blob: sha256(&image.layers[0]), manifest: image.digest(), image }
}

/// Sends a case as it stands and checks its answer.
async fn send(registry: &Roadstead, good: &Good, case: &Case) -> (Reply, Option<Upload>) {
    let client = registry.client();
    let session = if case.target.contains("{session}") { Some(client.begin(REPOSITORY).await) } else { None };
    let mut target = case.target.replace("{blob}", &good.blob).replace("{manifest}", &good.manifest);
    if let Some(session) = &session {
        let location = session.location.strip_prefix(client.base()).unwrap_or(&session.location);
        target = target.replace("{session}", location);
    }
    let mut head = format!("{} {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", case.method, registry.host());
    for header in &case.headers {
        let _ = write!(head, "{header}\r\n");
    }
    if !case.headers.iter().any(|header| header.starts_with("content-length:")) {
        let _ = write!(head, "content-length: {}\r\n", case.body.len());
    }
    head.push_str("\r\n");
    let reply = Connection::exchange(registry.address(), head.as_bytes(), &case.body).await;
    let shown = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, case.status, "{}: {shown}", case.name);
    if !case.code.is_empty() {
        assert_eq!(reply.error_code(), case.code, "{}: {shown}", case.name);
        assert_eq!(reply.header("content-type"), Some("application/json"), "{}", case.name);
        assert!(!shown.contains(".rs:") && !shown.contains("/blobs/"), "{} tells of the inside: {shown}", case.name);
    }
    (reply, session)
}

/// Runs a table against a registry of its own and sees that the registry is unharmed and has kept nothing of it.
async fn run(cases: Vec<Case>) {
    let mut registry = Setup::filesystem().start().await;
    let client = registry.client();
    let good = good_content(&client).await;
    let before = registry.stored_files();
    let mut wrong = Vec::new();
    let mut sessions = Vec::new();
    for case in &cases {
        // All of the table is run, so that one look at its outcome is enough.
        let outcome = std::panic::AssertUnwindSafe(send(&registry, &good, case));
        match futures_util::FutureExt::catch_unwind(outcome).await {
            Ok((_, session)) => sessions.extend(session),
            Err(_) => wrong.push(case.name),
        }
    }
    assert!(wrong.is_empty(), "answered otherwise than the table says (see above): {wrong:#?}");

    // Sessions that an error did not end are still of use: they can be cancelled, and then nothing is left.
    for session in sessions {
        let status = session.cancel().await.status;
        assert!(matches!(status, 204 | 404), "a session can be cancelled: {status}");
    }
    until("nothing is left of what was refused", GONE_WITHIN, async || {
        (registry.stored_files() == before).then_some(())
    })
    .await;
    client.pull_image(REPOSITORY, "good", &good.image).await;
    assert_eq!(client.tags(REPOSITORY).await, ["good"]);
    client.push_image(REPOSITORY, "after", &Image::random(2, &[4_000])).await;
    registry.assert_unharmed();
}

#[tokio::test]
async fn digests() {
    let (body, wrong) = (random_bytes(1, 500), sha256(b"something else"));
    let right = sha256(&body);
    let put = |name, digest: &str| {
        let target = format!("{{session}}{digest}");
        case(name, "PUT", target).header(OCTETS).body(body.clone()).answered(400, "DIGEST_INVALID")
    };
    let get = |name, path: &str| case(name, "GET", format!("/v2/{REPOSITORY}/{path}")).answered(400, "DIGEST_INVALID");
    let post = |name, query: &str| {
        let target = format!("/v2/{REPOSITORY}/blobs/uploads/?{query}");
        case(name, "POST", target).header(OCTETS).body(body.clone()).answered(400, "DIGEST_INVALID")
    };
    let upper = format!("sha256:{}", right[7..].to_uppercase());
    run(vec![
        put("a closing PUT with another blob's digest", &format!("?digest={wrong}")),
        put("a closing PUT with another blob's SHA-512 digest", &format!("?digest={}", sha512(b"something else"))),
        put("a closing PUT without a digest", ""),
        put("a closing PUT with a digest that is too short", "?digest=sha256:abcd"),
        put("a closing PUT with a digest that is too long", &format!("?digest={right}00")),
        put("a closing PUT with a digest in capitals", &format!("?digest={upper}")),
        put("a closing PUT with an algorithm that nobody knows", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"),
        put("a closing PUT with something that is no digest", "?digest=latest"),
        put("a closing PUT whose digest tries a path", "?digest=sha256:../../../../etc/passwd"),
        post("a single POST with another blob's digest", &format!("digest={wrong}")),
        post("a single POST with something that is no digest", "digest=sha256:xyz"),
        post("a mount of something that is no digest", "mount=sha256:xyz&from=team/app"),
        post("a session for an algorithm that nobody knows", "digest-algorithm=md5"),
        get("a blob by something that is no digest", "blobs/sha256:xyz"),
        get("a blob by an algorithm that nobody knows", "blobs/md5:d41d8cd98f00b204e9800998ecf8427e"),
        get("a manifest by something that is no digest", "manifests/sha256:xyz"),
        get("referrers of something that is no digest", "referrers/latest"),
        case("a manifest under another one's digest", "PUT", format!("/v2/{REPOSITORY}/manifests/{wrong}"))
            .header(&format!("content-type: {MEDIA_TYPE_INDEX}"))
            .body(format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE_INDEX}","manifests":[]}}"#))
            .answered(400, "DIGEST_INVALID"),
    ])
    .await;
}

#[tokio::test]
async fn names_tags_and_paths() {
    let get = |name, path: &str| case(name, "GET", path).answered(400, "NAME_INVALID");
    let nowhere = |name, path: &str| case(name, "GET", path).answered(404, "UNSUPPORTED");
    let tag = |name, tag: &str| {
        case(name, "PUT", format!("/v2/{REPOSITORY}/manifests/{tag}"))
            .header(&format!("content-type: {MEDIA_TYPE_INDEX}"))
            .body(format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE_INDEX}","manifests":[]}}"#))
            .answered(400, "MANIFEST_INVALID")
    };
    let no_such_tag = |name, tag: &str| {
        case(name, "GET", format!("/v2/{REPOSITORY}/manifests/{tag}")).answered(404, "MANIFEST_UNKNOWN")
    };
    let (long, longer) = ("a".repeat(300), "a".repeat(10_000));
    let long_tag = "t".repeat(129);
    let tags: String = (0..51).fold(String::new(), |mut tags, number| {
        let _ = write!(tags, "&tag=v{number}");
        tags
    });
    run(vec![
        get("a name in capitals", "/v2/Team/App/tags/list"),
        get("a name that begins with a dash", "/v2/-team/app/tags/list"),
        get("a name that ends with a dot", "/v2/team./app/tags/list"),
        get("a name with two slashes", "/v2/team//app/tags/list"),
        get("a name with a blank", "/v2/team%20app/tags/list"),
        get("a name with a plus", "/v2/team+app/tags/list"),
        get("a name in Cyrillic", "/v2/%D0%BA/tags/list"),
        get("a name of 300 letters", &format!("/v2/{long}/tags/list")),
        get("a name of bytes that are no UTF-8", "/v2/team%ff/tags/list"),
        get("dots that climb", "/v2/../../etc/tags/list"),
        get("dots that climb out of a name", "/v2/team/../../etc/tags/list"),
        get("dots that are encoded", "/v2/%2e%2e/%2e%2e/etc/tags/list"),
        get("a slash that is encoded", "/v2/team%2fapp/tags/list"),
        get("a backslash", "/v2/team%5capp/tags/list"),
        get("a NUL", "/v2/team%00/tags/list"),
        get("a line feed", "/v2/team%0aapp/tags/list"),
        case("a name of 10 kB", "GET", format!("/v2/{longer}/tags/list")).answered(414, "NAME_INVALID"),
        case("a name of 10 kB in an upload", "POST", format!("/v2/{longer}/blobs/uploads/"))
            .answered(414, "NAME_INVALID"),
        nowhere("dots that climb out of the API", "/v2/../etc/passwd"),
        nowhere("a path of nothing", "/v3/"),
        nowhere("a name that is missing", "/v2/tags/list"),
        tag("a tag that begins with a dot", ".hidden"),
        tag("a tag that begins with a dash", "-v1"),
        tag("a tag of 129 letters", &long_tag),
        tag("a tag with a colon that is no digest's", "a%2bb"),
        tag("a tag as a parameter that is none", "{manifest}?tag=ok&tag=-v1"),
        no_such_tag("a tag that cannot be", ".hidden"),
        no_such_tag("a tag that is too long", &long_tag),
        case("51 tags at once", "PUT", format!("/v2/{REPOSITORY}/manifests/{{manifest}}?{}", &tags[1..]))
            .header(&format!("content-type: {MEDIA_TYPE_INDEX}"))
            .body("{}")
            .answered(414, "MANIFEST_INVALID"),
        case("a session that tries a path", "PATCH", format!("/v2/{REPOSITORY}/blobs/uploads/..%2f..%2fetc"))
            .answered(400, "NAME_INVALID"),
        case(
            "a session that never was",
            "GET",
            format!("/v2/{REPOSITORY}/blobs/uploads/0b0cb43c-7d3f-4a08-8bbe-ec4f79f3b1e2"),
        )
        .answered(404, "BLOB_UPLOAD_UNKNOWN"),
        case("a session that cannot be", "PATCH", format!("/v2/{REPOSITORY}/blobs/uploads/1"))
            .answered(404, "BLOB_UPLOAD_UNKNOWN"),
        case("a method that is not there", "POST", format!("/v2/{REPOSITORY}/tags/list")).answered(405, "UNSUPPORTED"),
        case("a method of another world", "BREW", "/v2/").answered(405, "UNSUPPORTED"),
    ])
    .await;
}

#[tokio::test]
async fn lengths_and_ranges() {
    let body = random_bytes(1, 100);
    let digest = sha256(&body);
    let patch = |name, range: &str| {
        case(name, "PATCH", "{session}").header(OCTETS).header(&format!("content-range: {range}")).body(body.clone())
    };
    let blob = |name, range: &str| {
        case(name, "GET", format!("/v2/{REPOSITORY}/blobs/{{blob}}")).header(&format!("range: {range}"))
    };
    let listing = |name, target: &str| case(name, "GET", target).answered(400, "PAGINATION_NUMBER_INVALID");
    run(vec![
        patch("a body longer than Content-Range", "0-49").answered(400, "SIZE_INVALID"),
        patch("a body shorter than Content-Range", "0-199").answered(400, "SIZE_INVALID"),
        patch("a chunk out of order", "100-199").answered(416, "RANGE_INVALID"),
        patch("a Content-Range that runs backwards", "99-0").answered(400, "BLOB_UPLOAD_INVALID"),
        patch("a Content-Range that is no range", "everything").answered(400, "BLOB_UPLOAD_INVALID"),
        patch("a Content-Range that is negative", "-1-98").answered(400, "BLOB_UPLOAD_INVALID"),
        patch("a Content-Range beyond all numbers", "0-99999999999999999999999999")
            .answered(400, "BLOB_UPLOAD_INVALID"),
        patch("two Content-Ranges", "0-99").header("content-range: 0-98").answered(400, "BLOB_UPLOAD_INVALID"),
        case("a closing PUT out of order", "PUT", format!("{{session}}?digest={digest}"))
            .header("content-range: 7-106")
            .body(body.clone())
            .answered(416, "RANGE_INVALID"),
        case("a closing PUT shorter than its range", "PUT", format!("{{session}}?digest={digest}"))
            .header("content-range: 0-199")
            .body(body.clone())
            .answered(400, "SIZE_INVALID"),
        blob("a range that begins after the end", "bytes=2000-").answered(416, ""),
        blob("a range that runs backwards", "bytes=500-0").answered(416, ""),
        blob("a range of no bytes", "bytes=-0").answered(416, ""),
        blob("a range in another unit", "lines=1-2").answered(200, ""),
        blob("several ranges", "bytes=0-1,5-6").answered(200, ""),
        listing("a number of tags that is none", "/v2/team/app/tags/list?n=many"),
        listing("a number of tags that is negative", "/v2/team/app/tags/list?n=-1"),
        listing("a number of repositories that is none", "/v2/_catalog?n=0x10"),
    ])
    .await;
}

fn manifest_case(name: &'static str, body: impl Into<Vec<u8>>) -> Case {
    typed_manifest(name, MEDIA_TYPE_IMAGE, body)
}

fn typed_manifest(name: &'static str, media_type: &str, body: impl Into<Vec<u8>>) -> Case {
    case(name, "PUT", format!("/v2/{REPOSITORY}/manifests/bad"))
        .header(&format!("content-type: {media_type}"))
        .body(body)
        .answered(400, "MANIFEST_INVALID")
}

#[tokio::test]
async fn manifests() {
    let digest = sha256(b"nothing");
    let image = Image::random(1, &[2_000, 3_000]);
    let good = String::from_utf8(image.manifest.to_vec()).expect("JSON");
    let missing = Image::random(99, &[100]).manifest;
    let deep_array = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let deep_annotation = good.replacen('{', &format!(r#"{{"x":{deep_object},"#), 1);
    let too_large = format!(r#"{{"schemaVersion":2,"annotations":{{"a":"{}"}}}}"#, "a".repeat(20 << 20));
    let schema1 =
        r#"{"schemaVersion":1,"name":"team/app","tag":"bad","architecture":"amd64","fsLayers":[],"history":[]}"#;
    run(vec![
        manifest_case("nothing", ""),
        manifest_case("no JSON", "hello"),
        manifest_case("JSON that is cut off", &good.as_bytes()[..good.len() - 1]),
        manifest_case("JSON with something after it", format!("{good}{{}}")),
        manifest_case("bytes that are no UTF-8", &b"\xff\xfe{}"[..]),
        manifest_case("an array", "[]"),
        manifest_case("null", "null"),
        manifest_case("an object with nothing in it", "{}"),
        manifest_case("another schemaVersion", good.replace("\"schemaVersion\":2", "\"schemaVersion\":3")),
        manifest_case(
            "layers that are no list",
            good.replace("\"layers\":[", "\"layers\":{\"a\":[").replace("}]", "}]}"),
        ),
        manifest_case("a descriptor with something that is no digest", good.replace("sha256:", "sha257:")),
        manifest_case("a field twice", good.replacen('{', "{\"schemaVersion\":2,", 1)),
        manifest_case("an image that is an index too", good.replacen('{', "{\"manifests\":[],", 1)),
        manifest_case("arrays nested 10,000 deep", deep_array),
        manifest_case("objects nested 10,000 deep", deep_object.clone()),
        manifest_case("an unknown field nested 10,000 deep", deep_annotation),
        manifest_case("blobs that are not there", missing).answered(400, "MANIFEST_BLOB_UNKNOWN"),
        manifest_case("20 MiB", too_large).answered(413, "MANIFEST_INVALID"),
        typed_manifest("a type that is not its own", MEDIA_TYPE_INDEX, good.clone()),
        typed_manifest(
            "a type that nobody knows",
            "application/x-something",
            good.replace(MEDIA_TYPE_IMAGE, "application/x-something"),
        ),
        typed_manifest("a type that is none", "nonsense", good.clone()),
        typed_manifest("schema 1", "application/vnd.docker.distribution.manifest.v1+json", schema1),
        typed_manifest("signed schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", schema1),
        manifest_case("two types", good.clone()).header(&format!("content-type: {MEDIA_TYPE_INDEX}")),
        case("a manifest that is not there", "GET", format!("/v2/{REPOSITORY}/manifests/{digest}"))
            .answered(404, "MANIFEST_UNKNOWN"),
        case("a manifest of a repository that is not there", "GET", "/v2/team/nothing/manifests/latest")
            .answered(404, "MANIFEST_UNKNOWN"),
        case("a blob that is not there", "GET", format!("/v2/{REPOSITORY}/blobs/{digest}"))
            .answered(404, "BLOB_UNKNOWN"),
        case("the tags of a repository that is not there", "GET", "/v2/team/nothing/tags/list")
            .answered(404, "NAME_UNKNOWN"),
        case("a manifest to delete that is not there", "DELETE", format!("/v2/{REPOSITORY}/manifests/{digest}"))
            .answered(404, "MANIFEST_UNKNOWN"),
        case("a blob to delete that is not there", "DELETE", format!("/v2/{REPOSITORY}/blobs/{digest}"))
            .answered(404, "BLOB_UNKNOWN"),
    ])
    .await;
}

/// What the HTTP layer itself refuses has no body of ours; that it is refused, and nothing else happens, is what counts.
#[tokio::test]
async fn headers() {
    let body = random_bytes(1, 100);
    let digest = sha256(&body);
    let long = "a".repeat(200_000);
    let mut many = case("1,000 headers", "GET", "/v2/").answered(431, "");
    many.headers = (0..1_000).map(|number| format!("x-{number}: 1")).collect();
    let put = |name| case(name, "PUT", format!("{{session}}?digest={digest}")).body(body.clone());
    run(vec![
        put("two lengths that disagree").header("content-length: 100").header("content-length: 99").answered(400, ""),
        put("a length that is no number").header("content-length: many").answered(400, ""),
        put("a length that is negative").header("content-length: -100").answered(400, ""),
        case("a header of 200 kB", "GET", "/v2/").header(&format!("x-long: {long}")).answered(431, ""),
        many,
        case("a header without a colon", "GET", "/v2/").header("nonsense").answered(400, ""),
        case("a header with a NUL", "GET", "/v2/").header("x-a: \0").answered(400, ""),
        case("a query of 10 kB", "GET", format!("/v2/?{}", &long[..10_000])).answered(414, "NAME_INVALID"),
        case("headers of 40 kB", "GET", "/v2/")
            .header(&format!("x-long: {}", &long[..40_000]))
            .answered(431, "UNSUPPORTED"),
        // What does not fit into the buffer for a head is not read far enough to tell what it is that is too long.
        case("a request line of 200 kB", "GET", format!("/v2/{long}")).answered(431, ""),
    ])
    .await;
}

/// A length and chunks at once are how requests are smuggled past a proxy. Either the request is refused, or the chunks
/// count and the connection is closed; never is what follows taken for a second request.
#[tokio::test]
async fn a_smuggled_request_is_not_answered() {
    let mut registry = Setup::filesystem().start().await;
    let mut connection = Connection::open(registry.address()).await;
    let smuggled = "GET /v2/_catalog HTTP/1.1\r\nhost: registry\r\n\r\n";
    let head = format!(
        "POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nhost: registry\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    connection.send(head.as_bytes()).await;
    let first = connection.answer().await;
    assert!(matches!(first.status, 202 | 400), "{first:?}");
    let second = connection.try_answer().await;
    assert!(second.is_none(), "{second:?}");
    registry.assert_unharmed();
}

/// Pushes under wrong digests in every way, each of which is refused, ends its session at once and shows nothing.
async fn push_under_wrong_digests(client: &Client) {
    // Below one part, and of several parts.
    for (seed, length) in [(1, 1_000), (2, 11 << 20)] {
        let content = random_bytes(seed, length);
        let (wrong, right) = (sha256(b"something else"), sha256(&content));
        let mut upload = client.begin(REPOSITORY).await;
        upload.stream(content.clone().into()).await.status(202);
        assert_eq!(upload.put(&wrong, Vec::new()).await.status(400).error_code(), "DIGEST_INVALID");
        assert_eq!(upload.progress().await.status(404).error_code(), "BLOB_UPLOAD_UNKNOWN");
        upload.put(&right, Vec::new()).await.status(404);

        let upload = client.begin(REPOSITORY).await;
        assert_eq!(upload.put(&wrong, content.clone()).await.status(400).error_code(), "DIGEST_INVALID");
        assert_eq!(upload.progress().await.status(404).error_code(), "BLOB_UPLOAD_UNKNOWN");
        let target = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={wrong}");
        let post = client.post(&target).body(content.clone()).send().await;
        assert_eq!(post.status(400).error_code(), "DIGEST_INVALID");
        for digest in [&wrong, &right] {
            client.blob(REPOSITORY, digest).await.status(404);
        }
    }
}

#[tokio::test]
async fn p1_wrong_digest_is_refused_and_leaves_nothing() {
    let mut registry = Setup::filesystem().flag("--part-size", "5MiB").start().await;
    let client = registry.client();
    let good = good_content(&client).await;
    let before = registry.stored_files();
    push_under_wrong_digests(&client).await;
    until("nothing is left", GONE_WITHIN, async || (registry.stored_files() == before).then_some(())).await;
    client.pull_image(REPOSITORY, "good", &good.image).await;
    registry.assert_unharmed();
}

#[tokio::test]
async fn p1_wrong_digest_is_refused_and_leaves_nothing_in_the_bucket() {
    let s3 = S3::start(S3Kind::Versity).await;
    let mut registry = Setup::s3(&s3).flag("--part-size", "5MiB").start().await;
    let client = registry.client();
    let good = good_content(&client).await;
    let before = s3.keys().await;
    push_under_wrong_digests(&client).await;
    until("nothing is left", GONE_WITHIN, async || {
        (s3.keys().await == before && s3.open_multiparts() == 0).then_some(())
    })
    .await;
    client.pull_image(REPOSITORY, "good", &good.image).await;
    registry.assert_unharmed();
}

/// Clients that vanish in the middle of a body: the session stays for the one who comes back, a single POST leaves
/// nothing, and a manifest that came halfway is none.
#[tokio::test]
async fn clients_that_vanish_mid_body_leave_nothing() {
    let mut registry = Setup::filesystem().flag("--part-size", "5MiB").start().await;
    let client = registry.client();
    let good = good_content(&client).await;
    let before = registry.stored_files();
    let content = random_bytes(3, 12 << 20);
    let digest = sha256(&content);
    let session = client.begin(REPOSITORY).await;
    let location = session.location.strip_prefix(client.base()).unwrap_or(&session.location).to_owned();
    let manifest = &good.image.manifest;
    for (line, body) in [
        (format!("PATCH {location}"), &content[..]),
        (format!("PUT {location}?digest={digest}"), &content[..]),
        (format!("POST /v2/{REPOSITORY}/blobs/uploads/?digest={digest}"), &content[..]),
        (format!("PUT /v2/{REPOSITORY}/manifests/half"), &manifest[..]),
    ] {
        let mut connection = Connection::open(registry.address()).await;
        let head = format!(
            "{line} HTTP/1.1\r\nhost: registry\r\ncontent-type: {MEDIA_TYPE_IMAGE}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.send(head.as_bytes()).await;
        connection.send(&body[..body.len() / 2]).await;
        drop(connection);
    }
    let told = session.progress().await.status(204);
    assert!(told.range_end() <= content.len() as u64 / 2);
    client.blob(REPOSITORY, &digest).await.status(404);
    client.manifest(REPOSITORY, "half").await.status(404);
    session.cancel().await.status(204);
    until("nothing is left", GONE_WITHIN, async || (registry.stored_files() == before).then_some(())).await;
    client.push_blob(REPOSITORY, &content).await;
    registry.assert_unharmed();
}
