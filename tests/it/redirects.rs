//! Large blobs that clients fetch from the bucket itself: real clients follow the redirect, and none of them carries
//! its login across.

use crate::clients::docker::Engine;
use crate::harness::{Forwarder, Layout, Roadstead, S3, S3Kind, Setup, Workbench, alone, random_bytes};

/// A registry with a login, on a bucket that clients reach through a recording forwarder under another host name.
struct Redirecting {
    _s3: S3,
    public: Forwarder,
    registry: Roadstead,
    user: Workbench,
}

impl Redirecting {
    async fn start() -> Self {
        let s3 = S3::start(S3Kind::Minio).await;
        let public = Forwarder::to(s3.address()).await;
        let user = Workbench::new();
        let entry = user.tool("htpasswd").args("-nbB ann a-password").succeeds().await;
        let registry = Setup::s3(&s3)
            .flag("--part-size", "5MiB")
            .flag("--blob-serving", "redirect")
            // The registry is 127.0.0.1: the same machine under another name is another host to every client.
            .flag("--s3-public-endpoint", &format!("http://localhost:{}", public.port()))
            .flag("--htpasswd", &user.write("htpasswd", entry))
            .start()
            .await;
        Self { _s3: s3, public, registry, user }
    }

    /// The requests that clients made to the bucket, none of which may have carried a login.
    fn requests_to_the_bucket(&self) -> Vec<String> {
        let heads = self.public.heads();
        for head in &heads {
            assert!(!head.to_lowercase().contains("\nauthorization:"), "a login came to another host:\n{head}");
            assert!(!head.contains("a-password"), "a password came to another host:\n{head}");
        }
        heads
    }
}

#[tokio::test]
async fn large_blobs_are_redirected_and_small_ones_are_not() {
    let redirecting = Redirecting::start().await;
    let client = redirecting.registry.client().login("ann", "a-password");
    // Three parts are served inline; the next byte makes a fourth.
    for (seed, length, redirected) in [(1, 1_000, false), (2, 15 << 20, false), (3, (15 << 20) + 1, true)] {
        let content = random_bytes(seed, length);
        let digest = client.push_blob("team/app", &content).await;
        let target = format!("/v2/team/app/blobs/{digest}");
        let head = client.head(&target).send().await.status(200);
        assert_eq!(head.header("content-length"), Some(length.to_string().as_str()));
        let reply = client.get(&target).send().await;
        if !redirected {
            assert!(reply.status(200).body == content);
            continue;
        }
        let reply = reply.status(307);
        assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
        let location = reply.location();
        assert!(location.starts_with(&format!("http://localhost:{}/", redirecting.public.port())), "{location}");
        // The link alone is enough, and it serves ranges.
        let anonymous = redirecting.registry.client();
        assert!(anonymous.get(&location).send().await.status(200).body == content);
        let part = anonymous.get(&location).header("range", "bytes=5-9").send().await.status(206);
        assert_eq!(part.body, content[5..10]);
        // Without its signature it is none.
        let unsigned = location.split('?').next().expect("a URL");
        anonymous.get(unsigned).send().await.status(403);
        // A link is not given to whom the blob is not shown.
        anonymous.get(&target).send().await.status(401);
    }
    assert_eq!(redirecting.requests_to_the_bucket().len(), 3);
}

#[tokio::test]
async fn crane_and_skopeo_follow_without_their_login() {
    let image = Layout::busybox().await;
    let redirecting = Redirecting::start().await;
    let user = &redirecting.user;
    let host = redirecting.registry.host();
    let remote = format!("{host}/team/busybox:1");

    user.tool("crane").args(&format!("auth login {host} -u ann -p a-password")).succeeds().await;
    user.tool("crane").args(&format!("push {} {remote}", image.path())).succeeds().await;
    user.tool("crane").args(&format!("pull --format=oci {remote} by-crane")).succeeds().await;
    Layout::at(user.path().join("by-crane")).assert_same(image);
    let by_crane = redirecting.requests_to_the_bucket().len();
    assert!(by_crane > 0, "the large layer came from the bucket");

    user.tool("skopeo")
        .args("--insecure-policy copy --src-tls-verify=false --src-creds ann:a-password")
        .args(&format!("docker://{remote} oci:by-skopeo:latest"))
        .succeeds()
        .await;
    Layout::at(user.path().join("by-skopeo")).assert_same(image);
    assert!(redirecting.requests_to_the_bucket().len() > by_crane, "the large layer came from the bucket");
}

#[tokio::test]
async fn docker_follows_without_its_login() {
    let (_alone, engine) = (alone().await, Engine::shared().await);
    let redirecting = Redirecting::start().await;
    let login = format!("login -u ann -p a-password {}", redirecting.registry.host());
    engine.docker(&login, &redirecting.user).succeeds().await;
    engine.tag_push_pull_run(&redirecting.registry, &redirecting.user, "my-image").await;
    assert!(!redirecting.requests_to_the_bucket().is_empty(), "the large layer came from the bucket");
}
