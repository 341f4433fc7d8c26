use std::collections::BTreeSet;
use std::path::PathBuf;

use super::nearest::{HOST, IMAGE, REPOSITORY, TAG, push, told};
use crate::geo::{mirror_of, until_tag};
use crate::harness::{Forwarder, Layout, NodeMirror, Setup, Tool, Workbench, script};

/// A containerd that runs until it is dropped.
pub(crate) struct Containerd {
    pub(crate) bench: Workbench,
    environment: Vec<(String, String)>,
}

impl Containerd {
    pub(crate) async fn start() -> Self {
        Self::fetching(0).await
    }

    /// One that pulls blobs in ranges of so many bytes, three at once.
    async fn fetching(bytes_at_once: u32) -> Self {
        let bench = Workbench::new();
        let start = script("containerd").arg("start").arg(bench.file("state")).arg(bytes_at_once.to_string());
        let printed = start.succeeds().await;
        let pairs = printed.lines().filter_map(|line| line.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { bench, environment }
    }

    /// The folder in which it looks for what it is told of registries.
    pub(crate) fn hosts_dir(&self) -> PathBuf {
        self.bench.path().join("state/certs.d")
    }

    /// Writes a file of what it is told of a registry.
    pub(crate) fn tell(&self, host: &str, file: &str, content: impl AsRef<[u8]>) {
        let folder = self.hosts_dir().join(host);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(file), content).expect("a file is written");
    }

    pub(crate) async fn ctr(&self, arguments: &str) -> String {
        self.call(arguments).succeeds().await
    }

    /// The same, which must fail.
    pub(crate) async fn ctr_fails(&self, arguments: &str) -> String {
        self.call(arguments).fails().await
    }

    fn call(&self, arguments: &str) -> Tool {
        let tool = self.bench.tool("ctr").args(arguments);
        self.environment.iter().fold(tool, |tool, (name, value)| tool.env(name, value))
    }

    /// Pulls an image of which it has nothing, with these flags, compares every byte, and lets it go again.
    pub(crate) async fn pull(&self, flags: &str, remote: &str, image: &Layout) {
        assert_eq!(self.ctr("content ls -q").await, "", "what is there would not be fetched");
        // The folder that its service for Kubernetes reads by its settings.
        let hosts = self.hosts_dir().display().to_string();
        self.ctr(&format!("images pull --hosts-dir {hosts} {flags} {remote}")).await;
        let pulled = self.bench.path().join("pulled");
        self.ctr(&format!("images export --local {} {remote}", self.bench.file("pulled.tar"))).await;
        self.bench.tool("mkdir").arg(&pulled).succeeds().await;
        self.bench.tool("tar").args("-xf pulled.tar -C").arg(&pulled).succeeds().await;
        Layout::at(&pulled).assert_same(image);
        std::fs::remove_dir_all(&pulled).expect("it was there");
        self.ctr(&format!("images rm --sync {remote}")).await;
    }

    /// Method and path of every request that it has tried to send to the registry at `base`, answered or not.
    pub(crate) fn requests_to(&self, base: &str) -> Vec<String> {
        let log = String::from_utf8_lossy(&self.bench.read("state/containerd.log")).into_owned();
        let requests = log.lines().filter(|line| line.contains("msg=\"do request\""));
        let to_base = requests.filter_map(|line| {
            let field = |name: &str| line.split_once(name).map(|(_, rest)| rest.trim_start_matches('"'));
            let method = field(" request.method=")?.split(' ').next()?;
            let path = field(" url=")?.strip_prefix(base)?.split(['"', ' ', '?']).next()?;
            Some(format!("{method} {path}"))
        });
        to_base.collect()
    }

    /// What its log says.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.bench.read("state/containerd.log")).into_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        script("containerd").arg("stop").arg(self.bench.file("state")).run_now();
    }
}

#[tokio::test]
async fn containerd_pushes_and_pulls_the_same_bytes() {
    let image = Layout::busybox().await;
    let registry = Setup::filesystem().start().await;
    let containerd = Containerd::start().await;
    let bench = &containerd.bench;
    let remote = format!("{}/team/busybox:1", registry.host());

    bench
        .tool("skopeo")
        .args(&format!("--insecure-policy copy oci:{}:latest oci-archive:image.tar:{remote}", image.path()))
        .succeeds()
        .await;
    containerd.ctr(&format!("images import {}", bench.file("image.tar"))).await;
    containerd.ctr(&format!("images push --plain-http {remote}")).await;
    image.assert_served(&registry.client(), "team/busybox", "1").await;

    containerd.ctr(&format!("images rm --sync {remote}")).await;
    containerd.pull("--plain-http", &remote, image).await;
}

/// Bytes that containerd asks for at once: a sixth of the largest layer.
const PIECE: u32 = 4 << 20;

/// With parallel ranges switched on, containerd asks for a range of everything, manifests included.
#[tokio::test]
async fn claim_18_containerd_pulls_in_parallel_ranges_as_it_is_told_by_the_node_mirror() {
    let image = Layout::busybox().await;
    let home = Setup::filesystem().start().await;
    let mirror = mirror_of(&home, home.base(), Setup::filesystem()).await.start().await;
    push(image, &home).await;
    until_tag(&mirror.client(), REPOSITORY, TAG, &image.blob(&image.digest())).await;
    let before_mirror = Forwarder::to(mirror.address()).await;
    let containerd = Containerd::fetching(PIECE).await;
    let endpoints = [before_mirror.endpoint(), home.base().to_owned()];
    let endpoints = [endpoints[0].as_str(), endpoints[1].as_str()];
    let mut nodes = NodeMirror::start(HOST, &endpoints, None, "--hosts-dir", &containerd.hosts_dir());
    nodes.until_told(&told(&containerd), &endpoints, &[]).await;

    containerd.pull("", IMAGE, image).await;
    assert!(containerd.requests_to(home.base()).is_empty(), "the mirror has all of it");
    let ranges_of = |begin: &str| -> Vec<String> {
        let heads = before_mirror.heads();
        let heads = heads.iter().filter(|head| head.starts_with(begin));
        heads.filter_map(|head| head.lines().find_map(|line| line.strip_prefix("Range: "))).map(str::to_owned).collect()
    };
    let manifest = ranges_of(&format!("GET /v2/{REPOSITORY}/manifests/{}", image.digest()));
    assert_eq!(manifest, ["bytes=0-"], "a range of the manifest");
    let starts: BTreeSet<String> = ranges_of(&format!("GET /v2/{REPOSITORY}/blobs/")).into_iter().collect();
    let expected = (0..6).map(|piece| format!("bytes={}-", piece * PIECE));
    assert!(expected.into_iter().all(|range| starts.contains(&range)), "{starts:?}");
}
