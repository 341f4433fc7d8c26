use crate::harness::{Certificates, Roadstead, Setup, Workbench};

#[tokio::test]
async fn helm_pushes_and_pulls_a_chart_over_plain_http() {
    let registry = Setup::filesystem().start().await;
    pushes_and_pulls(&registry, &Workbench::new(), "--plain-http").await;
}

#[tokio::test]
async fn helm_pushes_and_pulls_a_chart_over_tls() {
    let bench = Workbench::new();
    let certificates = Certificates::new();
    let registry = certificates.installed_in(&bench, Setup::filesystem()).start().await;
    let authority = bench.write("ca.pem", certificates.authority());
    pushes_and_pulls(&registry, &bench, &format!("--ca-file {authority}")).await;
}

async fn pushes_and_pulls(registry: &Roadstead, bench: &Workbench, transport: &str) {
    let helm = |arguments: &str| bench.tool("helm").args(arguments);
    let charts = format!("oci://{}/charts", registry.host());
    helm("create web").succeeds().await;
    helm("package web --version 0.1.0").succeeds().await;
    helm(&format!("push web-0.1.0.tgz {charts} {transport}")).succeeds().await;
    helm(&format!("pull {charts}/web --version 0.1.0 --destination . --untar --untardir unpacked {transport}"))
        .succeeds()
        .await;
    let pushed = bench.read("web-0.1.0.tgz");
    std::fs::remove_file(bench.path().join("web-0.1.0.tgz")).expect("it was there");
    helm(&format!("pull {charts}/web --version 0.1.0 {transport}")).succeeds().await;
    assert!(bench.read("web-0.1.0.tgz") == pushed, "the chart that is pulled has other bytes");
    assert_eq!(bench.read("unpacked/web/values.yaml"), bench.read("web/values.yaml"));
    assert_eq!(registry.client().tags("charts/web").await, ["0.1.0"]);
}
