use super::nearest::{HOST, IMAGE, Regions};
use crate::harness::{Layout, NodeMirror, Setup, Workbench};

#[tokio::test]
async fn skopeo_pushes_and_pulls_the_same_bytes() {
    let image = Layout::busybox().await;
    let registry = Setup::filesystem().start().await;
    let bench = Workbench::new();
    let skopeo = || bench.tool("skopeo").arg("--insecure-policy");
    let remote = format!("docker://{}/team/busybox:1", registry.host());

    skopeo()
        .args("copy --preserve-digests --dest-tls-verify=false")
        .args(&format!("oci:{}:latest {remote}", image.path()))
        .succeeds()
        .await;
    image.assert_served(&registry.client(), "team/busybox", "1").await;

    let inspected = skopeo().args("inspect --raw --tls-verify=false").arg(&remote).succeeds().await;
    assert_eq!(inspected.as_bytes(), image.blob(&image.digest()), "the manifest as skopeo sees it");
    let tags = skopeo().args("list-tags --tls-verify=false").arg(&remote[..remote.len() - 2]).succeeds().await;
    assert!(tags.contains("\"1\""), "{tags}");

    skopeo().args(&format!("copy --src-tls-verify=false {remote} oci:pulled:latest")).succeeds().await;
    Layout::at(bench.path().join("pulled")).assert_same(image);

    // From one repository to another: skopeo mounts what is there.
    let promoted = format!("docker://{}/release/busybox:1", registry.host());
    skopeo().args(&format!("copy --src-tls-verify=false --dest-tls-verify=false {remote} {promoted}")).succeeds().await;
    image.assert_served(&registry.client(), "release/busybox", "1").await;

    skopeo().args(&format!("delete --tls-verify=false {remote}")).succeeds().await;
    registry.client().manifest("team/busybox", "1").await.status(404);
}

/// Skopeo pulls by the library of CRI-O, which reads the same files.
#[tokio::test]
async fn claim_18_skopeo_pulls_as_the_node_mirror_tells_cri_o() {
    let image = Layout::busybox().await;
    let mut regions = Regions::start().await;
    let bench = Workbench::new();
    let folder = bench.path().join(".config/containers");
    let endpoints = [regions.mirror.base().to_owned(), regions.home.base().to_owned()];
    let endpoints = [endpoints[0].as_str(), endpoints[1].as_str()];
    let authority = Some(regions.certificates.authority());
    let mut nodes = NodeMirror::start(HOST, &endpoints, authority, "--containers-dir", &folder);
    let file = folder.join("registries.conf.d/90-roadstead-node-mirror.conf");
    nodes.until_told(&file, &[regions.mirror.host(), regions.home.host()], &[]).await;

    let skopeo = |to: &str| {
        let tool = bench.tool("skopeo").args("--debug --insecure-policy copy");
        tool.arg(format!("docker://{IMAGE}")).arg(format!("oci:{to}:latest"))
    };
    let (succeeded, told) = skopeo("from-mirror").outcome().await;
    assert!(succeeded, "{told}");
    let went_to = |host: &str| format!(r#"Trying to access \"{host}/"#);
    assert!(told.contains(&went_to(regions.mirror.host())) && !told.contains(&went_to(regions.home.host())), "{told}");
    Layout::at(bench.path().join("from-mirror")).assert_same(image);

    regions.mirror.kill();
    let (succeeded, told) = skopeo("from-home").outcome().await;
    assert!(succeeded && told.contains(&went_to(regions.home.host())), "{told}");
    Layout::at(bench.path().join("from-home")).assert_same(image);

    assert!(nodes.terminate().await.success());
    assert!(!file.exists(), "it goes with the program");
    skopeo("from-nowhere").fails().await;
}
