use crate::harness::{Layout, Setup, Workbench, random_bytes, sha256};

#[tokio::test]
async fn podman_pushes_and_pulls_the_same_bytes() {
    let image = Layout::busybox().await;
    let registry = Setup::filesystem().start().await;
    let bench = Workbench::new();
    let podman = || {
        // A storage of its own, of the kind that works on every file system.
        bench
            .tool("podman")
            .args("--storage-driver vfs --root")
            .arg(bench.file("root"))
            .arg("--runroot")
            .arg(bench.file("runroot"))
    };
    let remote = format!("{}/team/busybox:1", registry.host());

    let id = podman().args(&format!("pull --quiet oci:{}:latest", image.path())).succeeds().await;
    podman().args(&format!("push --tls-verify=false {} docker://{remote}", id.trim())).succeeds().await;
    let manifest = registry.client().manifest("team/busybox", "1").await.status(200).json();
    let config = manifest["config"]["digest"].as_str().expect("a config").to_owned();
    assert_eq!(config, format!("sha256:{}", id.trim()), "the image's id is its config's digest");

    podman().args("rmi --all --force").succeeds().await;
    let pulled = podman().args(&format!("pull --quiet --tls-verify=false {remote}")).succeeds().await;
    assert_eq!(pulled, id, "the image that is pulled");
    let mounted = podman().args(&format!("image mount {}", pulled.trim())).succeeds().await;
    let payload = std::fs::read(format!("{}/payload", mounted.trim())).expect("a file of the image");
    assert_eq!(sha256(&payload), sha256(&random_bytes(24, 24 << 20)), "the content of the largest layer");
    podman().args("image unmount --all").succeeds().await;
    podman().args("rmi --all --force").succeeds().await;
}
