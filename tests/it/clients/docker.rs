use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

use super::nearest::{HOST, IMAGE, REPOSITORY, Regions};
use crate::harness::{
    Layout, NodeMirror, Roadstead, S3, S3Kind, Setup, Tool, Workbench, alone, random_bytes, script, sha256,
};

/// A Docker engine: one for all tests that want it at a time, ended when the last of them is done.
pub(crate) struct Engine {
    bench: Workbench,
    host: String,
}

impl Engine {
    pub(crate) async fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Engine>> = Mutex::const_new(Weak::new());
        let mut running = RUNNING.lock().await;
        if let Some(engine) = running.upgrade() {
            return engine;
        }
        let engine = Arc::new(Self::start().await);
        *running = Arc::downgrade(&engine);
        engine
    }

    /// A newer one, which keeps images in containerd.
    async fn with_containerd_store() -> Self {
        Self::begin(script("docker-engine").env("ENGINE", "containerd-store")).await
    }

    async fn begin(script: Tool) -> Self {
        let bench = Workbench::new();
        let printed = script.arg("start").arg(bench.file("state")).succeeds().await;
        let host = printed.trim().strip_prefix("DOCKER_HOST=").expect("the engine's address").to_owned();
        Self { bench, host }
    }

    async fn start() -> Self {
        let engine = Self::begin(script("docker-engine")).await;
        let image = Layout::busybox().await;
        let archive =
            format!("--insecure-policy copy oci:{}:latest docker-archive:image.tar:my-image:latest", image.path());
        engine.bench.tool("skopeo").args(&archive).succeeds().await;
        engine.docker("load -i image.tar", &engine.bench).succeeds().await;
        engine
    }

    /// `docker ...` by a user whose home is `user`.
    pub(crate) fn docker(&self, arguments: &str, user: &Workbench) -> Tool {
        user.tool("docker").env("DOCKER_HOST", &self.host).args(arguments)
    }

    /// The walk of the README: tag, push, pull, run. Returns the digest that was pushed.
    pub(crate) async fn tag_push_pull_run(&self, registry: &Roadstead, user: &Workbench, repository: &str) -> String {
        let remote = format!("{}/{repository}", registry.host());
        let docker = |arguments: &str| self.docker(arguments, user);
        let id = |image: &str| docker(&format!("image inspect --format {{{{.Id}}}} {image}"));
        let pushed_id = id("my-image").succeeds().await;

        docker(&format!("tag my-image {remote}")).succeeds().await;
        let printed = docker(&format!("push {remote}")).succeeds().await;
        let digest = printed.split_once("digest: ").and_then(|(_, rest)| rest.split(' ').next());
        let digest = digest.unwrap_or_else(|| panic!("docker says what it pushed:\n{printed}")).to_owned();

        // Both names go, and with them every layer: the pull has to fetch all of it.
        docker(&format!("rmi --force my-image {remote}")).succeeds().await;
        docker(&format!("pull {remote}")).succeeds().await;
        assert_eq!(id(&remote).succeeds().await, pushed_id, "the image that is pulled");
        let sum = docker(&format!("run --rm --network none {remote} sha256sum /payload")).succeeds().await;
        let payload = sha256(&random_bytes(24, 24 << 20));
        assert_eq!(sum.split(' ').next(), payload.strip_prefix("sha256:"), "the content of the largest layer");

        // As it was before, for the next test.
        docker(&format!("tag {remote} my-image")).succeeds().await;
        docker(&format!("rmi {remote}")).succeeds().await;
        digest
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        script("docker-engine").arg("stop").arg(self.bench.file("state")).run_now();
    }
}

#[tokio::test]
async fn docker_tags_pushes_pulls_and_runs() {
    let (_alone, engine) = (alone().await, Engine::shared().await);
    let registry = Setup::filesystem().start().await;
    let user = Workbench::new();
    let digest = engine.tag_push_pull_run(&registry, &user, "my-image").await;
    let manifest = registry.client().manifest("my-image", "latest").await.status(200);
    assert_eq!(sha256(&manifest.body), digest, "the digest that docker prints is that of the bytes served");
    assert_eq!(manifest.header("content-type"), Some("application/vnd.docker.distribution.manifest.v2+json"));
}

#[tokio::test]
async fn docker_tags_pushes_pulls_and_runs_on_s3() {
    let (_alone, engine) = (alone().await, Engine::shared().await);
    let s3 = S3::start(S3Kind::Minio).await;
    let registry = Setup::s3(&s3).start().await;
    engine.tag_push_pull_run(&registry, &Workbench::new(), "my-image").await;
}

#[tokio::test]
async fn docker_logs_in_with_the_right_password_only() {
    let (_alone, engine) = (alone().await, Engine::shared().await);
    let user = Workbench::new();
    let entry = user.tool("htpasswd").args("-nbB ann right-password").succeeds().await;
    let registry = Setup::filesystem().flag("--htpasswd", &user.write("htpasswd", entry)).start().await;
    let docker = |arguments: &str| engine.docker(arguments, &user);
    let host = registry.host();

    let refused = docker(&format!("login -u ann -p wrong-password {host}")).fails().await;
    assert!(refused.contains("401"), "{refused}");
    docker(&format!("tag my-image {host}/my-image")).succeeds().await;
    let refused = docker(&format!("push {host}/my-image")).fails().await;
    assert!(refused.contains("no basic auth credentials"), "{refused}");
    docker(&format!("rmi {host}/my-image")).succeeds().await;

    let accepted = docker(&format!("login -u ann -p right-password {host}")).succeeds().await;
    assert!(accepted.contains("Login Succeeded"), "{accepted}");
    engine.tag_push_pull_run(&registry, &user, "my-image").await;

    docker(&format!("logout {host}")).succeeds().await;
    docker(&format!("pull {host}/my-image")).fails().await;
}

/// Engines from 28 on that keep images in containerd read what containerd reads, for every host.
#[tokio::test]
#[ignore = "runs in make clients"]
async fn claim_18_docker_with_the_containerd_store_pulls_as_the_node_mirror_tells_it() {
    let _alone = alone().await;
    let mut regions = Regions::start().await;
    let (engine, user) = (Engine::with_containerd_store().await, Workbench::new());
    let folder = engine.bench.path().join("state/etc/certs.d");
    let bases = [regions.mirror.base().to_owned(), regions.home.base().to_owned()];
    let endpoints = [bases[0].as_str(), bases[1].as_str()];
    let authority = Some(regions.certificates.authority());
    let mut nodes = NodeMirror::start(HOST, &endpoints, authority, "--hosts-dir", &folder);
    nodes.until_told(&folder.join(HOST).join("hosts.toml"), &endpoints, &[]).await;
    let docker = |arguments: &str| engine.docker(arguments, &user);
    let payload = sha256(&random_bytes(24, 24 << 20));
    // From the mirror, though home is there; then from home.
    for is_mirror_there in [true, false] {
        if !is_mirror_there {
            regions.mirror.kill();
        }
        let resolved_at_home = || regions.home.log().matches(&format!("HEAD /v2/{REPOSITORY}/manifests/")).count();
        let before = resolved_at_home();
        docker(&format!("pull {IMAGE}")).succeeds().await;
        // Debian's runc is older than what this engine runs containers by, so none is run.
        let container = docker(&format!("create {IMAGE}")).succeeds().await;
        docker(&format!("cp {}:/payload payload", container.trim())).succeeds().await;
        assert_eq!(sha256(&user.read("payload")), payload, "the content of the largest layer");
        docker(&format!("rm {}", container.trim())).succeeds().await;
        assert_eq!(resolved_at_home() == before, is_mirror_there, "{}", regions.home.log());
        docker(&format!("rmi {IMAGE}")).succeeds().await;
    }
}
