use crate::harness::{Layout, Setup, Workbench};

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
