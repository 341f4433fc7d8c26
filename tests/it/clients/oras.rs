use crate::harness::{Layout, Setup, Workbench, random_bytes, sha256};

#[tokio::test]
async fn oras_pushes_and_pulls_the_same_bytes() {
    let image = Layout::busybox().await;
    let registry = Setup::filesystem().start().await;
    let bench = Workbench::new();
    let oras = || bench.tool("oras");
    let remote = format!("{}/team/busybox:1", registry.host());

    oras().args(&format!("cp --from-oci-layout {}:latest --to-plain-http {remote}", image.path())).succeeds().await;
    image.assert_served(&registry.client(), "team/busybox", "1").await;
    oras().args(&format!("cp --from-plain-http {remote} --to-oci-layout pulled:latest")).succeeds().await;
    Layout::at(bench.path().join("pulled")).assert_same(image);
}

#[tokio::test]
async fn oras_attaches_a_signature_and_finds_it_again() {
    let registry = Setup::filesystem().start().await;
    let bench = Workbench::new();
    let oras = || bench.tool("oras");
    let remote = format!("{}/team/model:1", registry.host());
    let model = random_bytes(7, 100_000);
    bench.write("model.bin", &model);
    bench.write("model.sig", "signed");

    oras()
        .args("push --plain-http --artifact-type application/vnd.example.model")
        .arg(&remote)
        .arg("model.bin:application/octet-stream")
        .succeeds()
        .await;
    oras()
        .args("attach --plain-http --artifact-type application/vnd.example.signature")
        .arg(&remote)
        .arg("model.sig:text/plain")
        .succeeds()
        .await;

    let discovered = oras().args(&format!("discover --plain-http --format json {remote}")).succeeds().await;
    let discovered: serde_json::Value = serde_json::from_str(&discovered).expect("JSON");
    let referrer = &discovered["referrers"][0];
    assert_eq!(referrer["artifactType"], "application/vnd.example.signature");
    // It came from the registry's referrers, not from the fallback of a tag.
    assert_eq!(registry.client().tags("team/model").await, ["1"]);

    std::fs::remove_file(bench.path().join("model.bin")).expect("it was there");
    oras().args(&format!("pull --plain-http {remote}")).succeeds().await;
    assert_eq!(sha256(&bench.read("model.bin")), sha256(&model));
    std::fs::remove_file(bench.path().join("model.sig")).expect("it was there");
    let signature = format!("{}/team/model@{}", registry.host(), referrer["digest"].as_str().expect("a digest"));
    oras().args(&format!("pull --plain-http {signature}")).succeeds().await;
    assert_eq!(bench.read("model.sig"), b"signed");
}
