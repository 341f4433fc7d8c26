use proptest::prelude::*;

use super::*;
use crate::digest::DigestError;
use crate::error_code::ErrorCode;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UPLOAD: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

fn parse(method: &str, url: &str) -> Result<Route, RouteError> {
    match url.split_once('?') {
        Some((path, query)) => Route::parse(method, path, Some(query)),
        None => Route::parse(method, url, None),
    }
}

/// The name of the route, the repository, the action, and the URL that the route is displayed as.
#[track_caller]
fn check(method: &str, url: &str, name: &str, repository: &str, action: Action, displayed: &str) {
    let url = url.replace("<digest>", DIGEST).replace("<upload>", UPLOAD);
    let displayed = displayed.replace("<digest>", DIGEST).replace("<upload>", UPLOAD);
    let route = parse(method, &url).unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
    assert_eq!(route.name(), name, "{url}");
    assert_eq!(route.repository().map_or("", RepositoryName::as_str), repository, "{url}");
    assert_eq!(route.action(), action, "{url}");
    assert_eq!(route.to_string(), displayed, "{url}");
    assert_eq!(parse(route.method().as_str(), &displayed), Ok(route), "{displayed}");
}

#[test]
fn the_endpoints_of_the_specification() {
    use Action::{Catalog, Delete, Ping, Pull, Push};
    for (method, url, name, repository, action) in [
        ("GET", "/v2/", "base", "", Ping),
        ("GET", "/v2/_catalog", "catalog", "", Catalog),
        ("GET", "/v2/_catalog?n=5&last=a/b", "catalog", "", Catalog),
        ("GET", "/v2/_oci/ext/discover", "extensions", "", Ping),
        ("GET", "/v2/a/b/_oci/ext/discover", "repository-extensions", "a/b", Pull),
        ("GET", "/v2/a/b/blobs/<digest>", "blob-get", "a/b", Pull),
        ("HEAD", "/v2/a/b/blobs/<digest>", "blob-head", "a/b", Pull),
        ("DELETE", "/v2/a/b/blobs/<digest>", "blob-delete", "a/b", Delete),
        ("GET", "/v2/a/b/manifests/latest", "manifest-get", "a/b", Pull),
        ("HEAD", "/v2/a/b/manifests/<digest>", "manifest-head", "a/b", Pull),
        ("PUT", "/v2/a/b/manifests/latest", "manifest-put", "a/b", Push),
        ("PUT", "/v2/a/b/manifests/<digest>?tag=1.2.3&tag=1.2&tag=latest", "manifest-put", "a/b", Push),
        ("DELETE", "/v2/a/b/manifests/latest", "manifest-delete", "a/b", Delete),
        ("POST", "/v2/a/b/blobs/uploads/", "upload-start", "a/b", Push),
        ("POST", "/v2/a/b/blobs/uploads/?digest-algorithm=sha512", "upload-start", "a/b", Push),
        ("POST", "/v2/a/b/blobs/uploads/?digest=<digest>", "upload-monolithic", "a/b", Push),
        ("POST", "/v2/a/b/blobs/uploads/?mount=<digest>&from=c/d", "upload-mount", "a/b", Push),
        ("POST", "/v2/a/b/blobs/uploads/?mount=<digest>", "upload-mount", "a/b", Push),
        ("GET", "/v2/a/b/blobs/uploads/<upload>", "upload-status", "a/b", Push),
        ("PATCH", "/v2/a/b/blobs/uploads/<upload>", "upload-patch", "a/b", Push),
        ("PUT", "/v2/a/b/blobs/uploads/<upload>?digest=<digest>", "upload-put", "a/b", Push),
        ("DELETE", "/v2/a/b/blobs/uploads/<upload>", "upload-cancel", "a/b", Push),
        ("GET", "/v2/a/b/tags/list", "tags", "a/b", Pull),
        ("GET", "/v2/a/b/tags/list?n=0&last=v1", "tags", "a/b", Pull),
        ("GET", "/v2/a/b/referrers/<digest>", "referrers", "a/b", Pull),
        (
            "GET",
            "/v2/a/b/referrers/<digest>?artifactType=application/vnd.a%2Bb&last=<digest>",
            "referrers",
            "a/b",
            Pull,
        ),
    ] {
        check(method, url, name, repository, action, url);
    }
}

#[test]
fn other_spellings_of_the_same() {
    use Action::{Ping, Pull, Push};
    for (method, url, name, action, displayed) in [
        ("HEAD", "/v2", "base", Ping, "/v2/"),
        ("HEAD", "/v2/?ns=docker.io", "base", Ping, "/v2/"),
        ("HEAD", "/v2/a/tags/list?ns=docker.io&n=007&n=8&x&=&&last=", "tags", Pull, "/v2/a/tags/list?n=7"),
        ("GET", "/v2/a/tags/list?n=5000", "tags", Pull, "/v2/a/tags/list?n=1000"),
        ("POST", "/v2/a/blobs/uploads", "upload-start", Push, "/v2/a/blobs/uploads/"),
        ("POST", "/v2/a/blobs/uploads/?mount=&from=&digest=", "upload-start", Push, "/v2/a/blobs/uploads/"),
        (
            "GET",
            "/v2/a/%62lobs/sha256%3Ae3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "blob-get",
            Pull,
            "/v2/a/blobs/<digest>",
        ),
        (
            "GET",
            "/v2/a/referrers/<digest>?artifactType=application/vnd.a+b",
            "referrers",
            Pull,
            "/v2/a/referrers/<digest>?artifactType=application/vnd.a%2Bb",
        ),
        (
            "PUT",
            "/v2/a/manifests/<digest>?tag=x&tag=y&tag=x&tag=",
            "manifest-put",
            Push,
            "/v2/a/manifests/<digest>?tag=x&tag=y",
        ),
    ] {
        let repository = if action == Ping { "" } else { "a" };
        check(method, url, name, repository, action, displayed);
    }
}

#[test]
fn words_of_the_api_can_be_parts_of_names() {
    for (method, url, name, repository) in [
        ("GET", "/v2/blobs/manifests/latest", "manifest-get", "blobs"),
        ("GET", "/v2/a/manifests/manifests/latest", "manifest-get", "a/manifests"),
        ("GET", "/v2/a/manifests/latest/manifests/latest", "manifest-get", "a/manifests/latest"),
        ("GET", "/v2/a/blobs/uploads/manifests/latest", "manifest-get", "a/blobs/uploads"),
        ("GET", "/v2/a/blobs/uploads/tags/list", "tags", "a/blobs/uploads"),
        ("GET", "/v2/a/tags/list/tags/list", "tags", "a/tags/list"),
        ("GET", "/v2/tags/list/manifests/list", "manifest-get", "tags/list"),
        ("GET", "/v2/tags/tags/list", "tags", "tags"),
        ("GET", "/v2/a/blobs/uploads/blobs/<digest>", "blob-get", "a/blobs/uploads"),
        ("GET", "/v2/a/manifests/blobs/<digest>", "blob-get", "a/manifests"),
        ("GET", "/v2/a/referrers/referrers/<digest>", "referrers", "a/referrers"),
        ("POST", "/v2/a/blobs/uploads/blobs/uploads/", "upload-start", "a/blobs/uploads"),
        ("POST", "/v2/uploads/blobs/uploads/", "upload-start", "uploads"),
        ("PATCH", "/v2/blobs/uploads/blobs/uploads/<upload>", "upload-patch", "blobs/uploads"),
        ("GET", "/v2/v2/blobs/<digest>", "blob-get", "v2"),
    ] {
        let url = url.replace("<digest>", DIGEST).replace("<upload>", UPLOAD);
        let route = parse(method, &url).unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        assert_eq!((route.name(), route.repository().unwrap().as_str()), (name, repository), "{url}");
    }
}

#[test]
fn what_is_no_path_of_the_api_is_not_found() {
    for path in [
        "",
        "/",
        "v2/",
        "/v1/",
        "/v22",
        "/v2a/blobs",
        "//v2/",
        "/v2//",
        "/V2/",
        "/token",
        "/v2/a",
        "/v2/a/b",
        "/v2/a/tags",
        "/v2/a/tags/list/",
        "/v2/a/tags/list/b",
        "/v2/tags/list",
        "/v2/manifests/latest",
        "/v2/blobs/uploads/",
        "/v2/_catalog/",
        "/v2/a/_catalog",
        "/v2/a/blobs/uploads/x/y",
        "/%76%32/",
        "/v2/a/blobs",
    ] {
        let error = parse("GET", path).unwrap_err();
        assert_eq!((&error, error.status()), (&RouteError::NotFound, 404), "{path}");
    }
}

#[test]
fn errors_have_their_codes() {
    let bad_digest = "sha256:baddigeststring";
    for (method, url, status, code) in [
        ("GET", "/v2/A/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/../manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a/../b/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a//b/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2//manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a%2Fb/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a%2fmanifests%2flatest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a/manifests/b%2f..", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a%00b/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a/manifests/%0d%0a", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/%ff/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a%zz/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a%252fb/manifests/latest", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a/tags/list?last=%00", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a/tags/list?last=%ff", 400, ErrorCode::NameInvalid),
        ("POST", "/v2/a/blobs/uploads/?mount=<digest>&from=B", 400, ErrorCode::NameInvalid),
        ("GET", "/v2/a/manifests/<bad>", 400, ErrorCode::DigestInvalid),
        ("PUT", "/v2/a/manifests/<bad>", 400, ErrorCode::DigestInvalid),
        ("DELETE", "/v2/a/manifests/<bad>", 400, ErrorCode::DigestInvalid),
        ("GET", "/v2/a/blobs/<bad>", 400, ErrorCode::DigestInvalid),
        ("GET", "/v2/a/referrers/<bad>", 400, ErrorCode::DigestInvalid),
        ("GET", "/v2/a/referrers/<digest>?last=x", 400, ErrorCode::DigestInvalid),
        ("POST", "/v2/a/blobs/uploads/?digest=<bad>", 400, ErrorCode::DigestInvalid),
        ("POST", "/v2/a/blobs/uploads/?mount=<bad>&from=b", 400, ErrorCode::DigestInvalid),
        ("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", 400, ErrorCode::DigestInvalid),
        ("PUT", "/v2/a/blobs/uploads/<upload>", 400, ErrorCode::DigestInvalid),
        ("PUT", "/v2/a/blobs/uploads/<upload>?digest=", 400, ErrorCode::DigestInvalid),
        ("PUT", "/v2/a/blobs/uploads/<upload>?digest=<bad>", 400, ErrorCode::DigestInvalid),
        ("GET", "/v2/a/manifests/-x", 404, ErrorCode::ManifestUnknown),
        ("HEAD", "/v2/a/manifests/", 404, ErrorCode::ManifestUnknown),
        ("DELETE", "/v2/a/manifests/-x", 404, ErrorCode::ManifestUnknown),
        ("PUT", "/v2/a/manifests/-x", 400, ErrorCode::ManifestInvalid),
        ("PUT", "/v2/a/manifests/<digest>?tag=-x", 400, ErrorCode::ManifestInvalid),
        ("PUT", "/v2/a/manifests/latest?tag=x", 400, ErrorCode::Unsupported),
        ("GET", "/v2/a/blobs/uploads/blobs", 404, ErrorCode::BlobUploadUnknown),
        ("PATCH", "/v2/a/blobs/uploads/x", 404, ErrorCode::BlobUploadUnknown),
        ("GET", "/v2/a/tags/list?n=-1", 400, ErrorCode::PaginationNumberInvalid),
        ("GET", "/v2/_catalog?n=x", 400, ErrorCode::PaginationNumberInvalid),
    ] {
        let url = url.replace("<digest>", DIGEST).replace("<bad>", bad_digest).replace("<upload>", UPLOAD);
        let error = parse(method, &url).expect_err(&url);
        assert_eq!((error.status(), error.code()), (status, code), "{method} {url}: {error:?}");
    }
    assert_eq!(parse("GET", &format!("/v2/a/blobs/{bad_digest}")), Err(RouteError::Digest(DigestError::Length)));
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    for (url, allow) in [
        ("/v2/", "GET, HEAD"),
        ("/v2/_catalog", "GET, HEAD"),
        ("/v2/_oci/ext/discover", "GET, HEAD"),
        ("/v2/a/_oci/ext/discover", "GET, HEAD"),
        ("/v2/a/tags/list", "GET, HEAD"),
        ("/v2/a/referrers/<digest>", "GET, HEAD"),
        ("/v2/a/manifests/latest", "GET, HEAD, PUT, DELETE"),
        ("/v2/a/blobs/<digest>", "GET, HEAD, DELETE"),
        ("/v2/a/blobs/uploads/", "POST"),
        ("/v2/a/blobs/uploads/<upload>", "GET, HEAD, PATCH, PUT, DELETE"),
    ] {
        let url = url.replace("<digest>", DIGEST).replace("<upload>", UPLOAD);
        let all = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", ""];
        for method in all {
            let outcome = parse(method, &url);
            if allow.split(", ").any(|allowed| allowed == method) {
                assert!(!matches!(outcome, Err(RouteError::MethodNotAllowed { .. })), "{method} {url}");
            } else {
                let error = outcome.unwrap_err();
                assert_eq!((error.status(), error.code(), error.allow()), (405, ErrorCode::Unsupported, Some(allow)));
            }
        }
    }
}

#[test]
fn the_kinds_of_an_upload() {
    let kind = |query: &str| match parse("POST", &format!("/v2/a/blobs/uploads/{query}")) {
        Ok(Route::UploadStart { kind, .. }) => kind,
        other => panic!("{query}: {other:?}"),
    };
    let digest: Digest = DIGEST.parse().unwrap();
    assert_eq!(kind(""), UploadKind::Session { algorithm: None });
    assert_eq!(kind("?digest-algorithm=sha512"), UploadKind::Session { algorithm: Some(Algorithm::Sha512) });
    assert_eq!(kind(&format!("?digest={DIGEST}")), UploadKind::Monolithic { digest });
    let mount = UploadKind::Mount { digest, from: Some("b/c".parse().unwrap()) };
    assert_eq!(kind(&format!("?from=b%2Fc&mount={DIGEST}&digest={DIGEST}")), mount);
    let route = Route::UploadStart { repository: "a".parse().unwrap(), kind: mount };
    assert_eq!(route.mount_source().unwrap().as_str(), "b/c");
}

#[test]
fn urls_are_bounded() {
    let longest = format!("/v2/{}/manifests/sha512:{}", "a".repeat(255), "0".repeat(128));
    assert_eq!(longest.len(), 405);
    assert!(parse("GET", &longest).is_ok());
    let error = parse("GET", &format!("/v2/{}/tags/list", "%61".repeat(400))).unwrap_err();
    assert_eq!((&error, error.status()), (&RouteError::TooLong, 414));
    let error = parse("GET", &format!("/v2/a/tags/list?x={}", "x".repeat(Route::MAX_QUERY))).unwrap_err();
    assert_eq!((&error, error.status()), (&RouteError::TooLong, 414));

    let push = |tags: usize| {
        let tags: Vec<_> = (0..tags).map(|i| format!("tag={i:0>128}")).collect();
        parse("PUT", &format!("/v2/a/manifests/{DIGEST}?{}", tags.join("&")))
    };
    assert!(matches!(push(Route::MAX_TAGS_PER_PUSH), Ok(Route::ManifestPut { tags, .. }) if tags.len() == 50));
    let error = push(Route::MAX_TAGS_PER_PUSH + 1).unwrap_err();
    assert_eq!((&error, error.status()), (&RouteError::TooManyTags, 414));
}

fn any_page() -> impl Strategy<Value = Page> {
    (proptest::option::of(0..=Page::MAX_LIMIT), proptest::option::of("[ -~äλ]{1,20}"))
        .prop_map(|(n, last)| Page { n, last })
}

fn any_kind() -> impl Strategy<Value = UploadKind> {
    let digest = || any::<[u8; 64]>().prop_map(|hash| Digest::from_hash(Algorithm::Sha512, &hash).unwrap());
    prop_oneof![
        Just(UploadKind::Session { algorithm: None }),
        Just(UploadKind::Session { algorithm: Some(Algorithm::Sha256) }),
        digest().prop_map(|digest| UploadKind::Monolithic { digest }),
        (digest(), proptest::option::of("[a-z]{1,5}(/[a-z]{1,5}){0,2}"))
            .prop_map(|(digest, from)| UploadKind::Mount { digest, from: from.map(|name| name.parse().unwrap()) }),
    ]
}

/// Routes whose every part is drawn; names are made of words of the API.
fn any_route() -> impl Strategy<Value = Route> {
    let name = || {
        prop::collection::vec(
            prop::sample::select(vec!["blobs", "uploads", "manifests", "tags", "list", "referrers", "ext", "v2", "a"]),
            1..5,
        )
        .prop_map(|words| words.join("/").parse::<RepositoryName>().unwrap())
    };
    let digest = || any::<[u8; 32]>().prop_map(|hash| Digest::from_hash(Algorithm::Sha256, &hash).unwrap());
    let tag = || "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}".prop_map(|text| text.parse::<Tag>().unwrap());
    let upload = || any::<u128>().prop_map(|id| UploadId::new(uuid::Uuid::from_u128(id)));
    prop_oneof![
        any_page().prop_map(|page| Route::Catalog { page }),
        name().prop_map(|repository| Route::RepositoryExtensions { repository }),
        (name(), any_page()).prop_map(|(repository, page)| Route::Tags { repository, page }),
        (name(), digest(), proptest::option::of("[ -~]{1,20}"), proptest::option::of(digest())).prop_map(
            |(repository, subject, artifact_type, last)| Route::Referrers { repository, subject, artifact_type, last }
        ),
        (name(), tag()).prop_map(|(repository, tag)| Route::ManifestGet { repository, reference: tag.into() }),
        (name(), digest(), prop::collection::hash_set(tag(), 0..5)).prop_map(|(repository, digest, tags)| {
            Route::ManifestPut { repository, reference: digest.into(), tags: tags.into_iter().collect() }
        }),
        (name(), digest()).prop_map(|(repository, digest)| Route::BlobHead { repository, digest }),
        (name(), any_kind()).prop_map(|(repository, kind)| Route::UploadStart { repository, kind }),
        (name(), upload(), digest()).prop_map(|(repository, upload, digest)| Route::UploadPut {
            repository,
            upload,
            digest
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_displayed_route_is_parsed_as_itself(route in any_route()) {
        prop_assert_eq!(parse(route.method().as_str(), &route.to_string()), Ok(route));
    }

    #[test]
    fn no_url_panics(path in "/v2/([a-z/%.]|blobs/|uploads/|manifests/|tags/|list|%2[0-9a-f]){0,20}", query in "([a-z=&%+]|tag=|digest=){0,20}") {
        for method in ["GET", "PUT", "POST"] {
            if let Ok(route) = Route::parse(method, &path, Some(&query)) {
                prop_assert_eq!(parse(route.method().as_str(), &route.to_string()), Ok(route));
            }
        }
    }
}
