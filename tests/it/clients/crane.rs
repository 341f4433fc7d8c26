use crate::harness::{Layout, MEDIA_TYPE_INDEX, Setup, Workbench};

#[tokio::test]
async fn crane_pushes_and_pulls_the_same_bytes() {
    let image = Layout::busybox().await;
    let registry = Setup::filesystem().start().await;
    let bench = Workbench::new();
    let crane = || bench.tool("crane");
    let remote = format!("{}/team/busybox:1", registry.host());

    crane().args(&format!("push {} {remote}", image.path())).succeeds().await;
    image.assert_served(&registry.client(), "team/busybox", "1").await;
    assert_eq!(crane().args(&format!("digest {remote}")).succeeds().await.trim(), image.digest());
    crane().args(&format!("validate --remote {remote}")).succeeds().await;

    crane().args(&format!("pull --format=oci {remote} pulled")).succeeds().await;
    Layout::at(bench.path().join("pulled")).assert_same(image);

    crane().args(&format!("copy {remote} {}/release/busybox:1", registry.host())).succeeds().await;
    image.assert_served(&registry.client(), "release/busybox", "1").await;
}

#[tokio::test]
async fn crane_makes_an_index_of_two_images_and_pulls_it_whole() {
    let image = Layout::busybox().await;
    let registry = Setup::filesystem().start().await;
    let bench = Workbench::new();
    let crane = || bench.tool("crane");
    let repository = format!("{}/team/busybox", registry.host());

    crane().args(&format!("push {} {repository}:amd64", image.path())).succeeds().await;
    crane()
        .args(&format!("mutate {repository}:amd64 --set-platform linux/arm64 -t {repository}:arm64"))
        .succeeds()
        .await;
    crane()
        .args(&format!("index append -m {repository}:amd64 -m {repository}:arm64 -t {repository}:all"))
        .succeeds()
        .await;
    let index = registry.client().manifest("team/busybox", "all").await.status(200);
    assert_eq!(index.header("content-type"), Some(MEDIA_TYPE_INDEX));

    crane().args(&format!("pull --format=oci {repository}:all pulled")).succeeds().await;
    let pulled = Layout::at(bench.path().join("pulled"));
    pulled.assert_served(&registry.client(), "team/busybox", "all").await;
    assert_eq!(index.json()["manifests"].as_array().map(Vec::len), Some(2));
    assert_eq!(pulled.blob(&pulled.digest()), index.body, "the index");

    let tags = crane().args(&format!("ls {repository}")).succeeds().await;
    assert_eq!(tags.lines().collect::<Vec<_>>(), ["all", "amd64", "arm64"]);
    let catalog = crane().args(&format!("catalog {}", registry.host())).succeeds().await;
    assert_eq!(catalog.trim(), "team/busybox");
}
