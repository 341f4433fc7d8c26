//! TLS: certificates that are given and change, certificates that are made, and no plain HTTP by accident.

use std::path::PathBuf;
use std::time::Duration;

use crate::clients::containerd::Containerd;
use crate::harness::{Certificates, Client, Image, Layout, Roadstead, Setup, Workbench, until};

/// Certificates are looked at again within this time.
const RELOADED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_changed_certificate_is_served_without_a_restart() {
    let bench = Workbench::new();
    let (first, second) = (Certificates::new(), Certificates::new());
    let mut registry = first.installed_in(&bench, Setup::filesystem()).start().await;
    let image = Image::random(1, &[1_000]);
    registry.client().push_image("team/app", "1", &image).await;

    second.write(&bench);
    let client = until("the new certificate is served", RELOADED_WITHIN, async || {
        let client = Client::with_authorities(registry.base(), &[second.authority()]);
        client.get("/v2/").try_send().await.is_ok().then_some(client)
    })
    .await;
    client.pull_image("team/app", "1", &image).await;
    let old = Client::with_authorities(registry.base(), &[first.authority()]);
    assert!(old.get("/v2/").try_send().await.is_err(), "the first certificate is not served any more");
    registry.assert_unharmed();
}

/// A key that does not go with the certificate, as between the two writes of a renewal, changes nothing.
#[tokio::test]
async fn a_certificate_that_cannot_be_used_does_not_replace_one_that_can() {
    let bench = Workbench::new();
    let (first, second) = (Certificates::new(), Certificates::new());
    let mut registry = first.installed_in(&bench, Setup::filesystem()).start().await;
    bench.write("certificate.pem", "no certificate");
    until("the log says that it cannot be used", RELOADED_WITHIN, async || {
        registry.log().contains("certificate.pem").then_some(())
    })
    .await;
    // New connections each time.
    Client::with_authorities(registry.base(), &[first.authority()]).get("/v2/").send().await.status(200);
    second.write(&bench);
    until("the next certificate that can be used is served", RELOADED_WITHIN, async || {
        let client = Client::with_authorities(registry.base(), &[second.authority()]);
        client.get("/v2/").try_send().await.ok()
    })
    .await;
    registry.assert_unharmed();
}

/// The path of the authority's certificate, as the registry says it.
fn authority_of(registry: &Roadstead) -> PathBuf {
    let printed = format!("{}\n{}", registry.stdout(), registry.log());
    let data = registry.data().display().to_string();
    let words = printed.split(|letter: char| letter.is_whitespace() || "\"'`=,;:()".contains(letter));
    let paths = words.map(PathBuf::from).filter(|path| path.starts_with(&data) && path.is_file());
    paths.into_iter().next().unwrap_or_else(|| panic!("the path of the CA is not told:\n{printed}"))
}

#[tokio::test]
async fn a_made_authority_is_trusted_by_real_clients() {
    let image = Layout::busybox().await;
    let setup = Setup::filesystem()
        .flag("--tls", "self-signed")
        .flag("--tls-name", "127.0.0.1")
        .flag("--tls-name", "localhost");
    let mut registry = setup.start().await;
    let authority = authority_of(&registry);
    let pem = std::fs::read(&authority).expect("the CA can be read");
    let host = registry.host().to_owned();
    let remote = format!("{host}/team/busybox:1");
    let bench = Workbench::new();
    bench.tool("mkdir").arg("certificates").succeeds().await;
    bench.write("certificates/ca.crt", &pem);

    // By its address and by its name; over HTTP/2 where the client speaks it.
    let port = registry.address().port();
    for url in [format!("https://{host}/v2/"), format!("https://localhost:{port}/v2/")] {
        let version = bench
            .tool("curl")
            .args("--silent --show-error --fail --http2 -o /dev/null -w %{http_version} --cacert")
            .arg(&authority)
            .arg(&url)
            .succeeds()
            .await;
        assert_eq!(version, "2", "{url}");
    }
    bench.tool("curl").args("--silent --show-error").arg(format!("https://{host}/v2/")).fails().await;

    bench
        .tool("crane")
        .env("SSL_CERT_FILE", &authority)
        .args(&format!("push {} {remote}", image.path()))
        .succeeds()
        .await;
    bench
        .tool("skopeo")
        .args("--insecure-policy copy --src-cert-dir certificates")
        .args(&format!("docker://{remote} oci:pulled:latest"))
        .succeeds()
        .await;
    Layout::at(bench.path().join("pulled")).assert_same(image);
    bench
        .tool("podman")
        .args("--storage-driver vfs --root")
        .arg(bench.file("root"))
        .arg("--runroot")
        .arg(bench.file("runroot"))
        .args(&format!("pull --quiet --cert-dir certificates {remote}"))
        .succeeds()
        .await;

    // How to trust it is told for each of them; containerd does as it is told.
    let printed = registry.stdout();
    for folder in ["/etc/docker/certs.d/", "/etc/containerd/certs.d/", "/etc/containers/certs.d/"] {
        let file = format!("{folder}{host}/ca.crt");
        assert!(printed.contains(&file), "{file} is not told in\n{printed}");
    }
    trusted_by_containerd(&printed, &host, &remote, &pem, image).await;

    // It outlives the process: clients trust it once.
    registry.terminate().await;
    registry.restart().await;
    assert_eq!(std::fs::read(&authority).expect("the CA is still there"), pem);
    Client::with_authorities(registry.base(), &[&pem]).get("/v2/").send().await.status(200);
}

/// containerd does as the registry has printed, and trusts nobody else.
async fn trusted_by_containerd(printed: &str, host: &str, remote: &str, authority: &[u8], image: &Layout) {
    let containerd = Containerd::start().await;
    let hosts = printed.lines().map(str::trim).skip_while(|line| !line.starts_with("server = "));
    containerd.tell(host, "hosts.toml", hosts.take(3).collect::<Vec<_>>().join("\n"));
    let pull = format!("images pull --hosts-dir {} {remote}", containerd.hosts_dir().display());
    // On loopback it would trust anybody, if it had not read that file.
    containerd.tell(host, "ca.crt", Certificates::new().authority());
    let refused = containerd.ctr_fails(&pull).await;
    assert!(refused.contains("certificate signed by unknown authority"), "{refused}");
    containerd.tell(host, "ca.crt", authority);
    containerd.ctr(&pull).await;
    let digests = containerd.ctr("content ls -q").await;
    assert!(digests.contains(&image.digest()), "{digests}");
    containerd.ctr(&format!("images rm --sync {remote}")).await;
}

#[tokio::test]
async fn plain_http_is_refused_off_loopback() {
    let (status, log) = Setup::filesystem().flag("--listen", "0.0.0.0:0").refuses().await;
    assert!(!status.success());
    assert!(log.contains("insecure-http"), "the log says what to do:\n{log}");

    let registry = Setup::filesystem().flag("--listen", "0.0.0.0:0").switch("--insecure-http").start().await;
    let log = registry.log().to_lowercase();
    assert!(log.contains("warn") && log.contains("plain http"), "it is said in the log:\n{log}");
}
