use crate::harness::{Layout, Setup, Workbench, script};

/// A containerd that runs until it is dropped.
pub(crate) struct Containerd {
    pub(crate) bench: Workbench,
    environment: Vec<(String, String)>,
}

impl Containerd {
    pub(crate) async fn start() -> Self {
        let bench = Workbench::new();
        let printed = script("containerd").arg("start").arg(bench.file("state")).succeeds().await;
        let pairs = printed.lines().filter_map(|line| line.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { bench, environment }
    }

    /// Writes a file of the folder in which it looks for what it is told of a registry.
    pub(crate) fn tell(&self, host: &str, file: &str, content: impl AsRef<[u8]>) {
        let folder = self.bench.path().join("state/certs.d").join(host);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(file), content).expect("a file is written");
    }

    pub(crate) async fn ctr(&self, arguments: &str) -> String {
        let tool = self.bench.tool("ctr").args(arguments);
        self.environment.iter().fold(tool, |tool, (name, value)| tool.env(name, value)).succeeds().await
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

    // Nothing may be left here, or it would not be fetched.
    containerd.ctr(&format!("images rm --sync {remote}")).await;
    assert_eq!(containerd.ctr("content ls -q").await, "");
    containerd.ctr(&format!("images pull --plain-http {remote}")).await;
    containerd.ctr(&format!("images export --local {} {remote}", bench.file("pulled.tar"))).await;
    bench.tool("mkdir").arg("pulled").succeeds().await;
    bench.tool("tar").args("-C pulled -xf pulled.tar").succeeds().await;
    Layout::at(bench.path().join("pulled")).assert_same(image);
    containerd.ctr(&format!("images rm --sync {remote}")).await;
}
