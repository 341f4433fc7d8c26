//! The admin API, as subcommands reach it.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Certificates, Cluster, Setup, Tool, Workbench};

#[tokio::test]
async fn status_says_what_the_registry_is_doing() {
    let registry = Setup::filesystem().start().await;
    let _upload = registry.client().begin("team/app").await;
    let text = registry.subcommand("status").succeeds().await;
    for words in [&format!("ready on {}", registry.base()), "leader, term 1", "1 open"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&registry.subcommand("status").args("--json").succeeds().await).expect("JSON");
    assert_eq!(json["url"], registry.base());
    assert_eq!(json["uploads_open"], 1);
    assert_eq!(json["raft"]["role"], "leader");
}

#[tokio::test]
async fn where_no_registry_runs_it_is_said_what_to_do() {
    let setup = Setup::filesystem();
    let (code, _, before) = setup.subcommand("status").ends().await;
    assert_eq!(code, 1);
    assert!(before.contains("no registry runs on the data folder") && before.contains("roadstead serve"), "{before}");
    let mut registry = setup.start().await;
    registry.terminate().await;
    assert!(!registry.data().join("admin.sock").exists(), "the socket goes with the registry");
    let (code, _, after) = registry.subcommand("status").ends().await;
    assert_eq!((code, after), (1, before));
}

/// A killed registry leaves its socket behind.
#[tokio::test]
async fn a_socket_that_was_left_behind_is_taken_over() {
    let mut registry = Setup::filesystem().start().await;
    registry.kill();
    let socket = registry.data().join("admin.sock");
    assert!(socket.exists());
    let (code, _, told) = registry.subcommand("status").ends().await;
    assert!(code == 1 && told.contains("no registry runs on the data folder"), "{told}");
    registry.restart().await;
    registry.subcommand("status").succeeds().await;
    let mode = socket.metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its user alone");
}

/// What the operator does: the same API, at the address where replicas reach each other.
#[tokio::test]
async fn over_the_network_whoever_has_a_certificate_of_the_cluster_is_answered_and_nobody_else() {
    let bench = Workbench::new();
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    bench.write("ca.pem", ours.authority());
    for (name, certificates) in [("ours", &ours), ("theirs", &theirs)] {
        let path = |what: &str| bench.path().join(format!("{name}-{what}.pem"));
        certificates.write_as(&path("certificate"), &path("key"));
    }
    let setup = || {
        let files = [("certificate", "ours-certificate.pem"), ("key", "ours-key.pem"), ("ca", "ca.pem")];
        let flag =
            |setup: Setup, (name, file): (&str, &str)| setup.flag(&format!("--cluster-{name}"), &bench.file(file));
        files.into_iter().fold(Setup::filesystem(), flag)
    };
    let cluster = Cluster::start(2, setup).await;
    let ask = |certificate: Option<&str>, method: &str, path: &str| -> Tool {
        let tool = bench.tool("curl").args("--silent --show-error --http2 --cacert").arg(bench.file("ca.pem"));
        let tool = tool.args("-w").arg("\n%{http_version} %{http_code}").args(&format!("-X {method}"));
        let tool = match certificate {
            Some(name) => tool
                .arg("--cert")
                .arg(bench.file(&format!("{name}-certificate.pem")))
                .arg("--key")
                .arg(bench.file(&format!("{name}-key.pem"))),
            None => tool,
        };
        tool.arg(format!("https://{}{path}", cluster.peer(0)))
    };
    let answered = |printed: String| {
        let (body, status) = printed.rsplit_once('\n').expect("a status");
        (serde_json::from_str::<serde_json::Value>(body).unwrap_or_default(), status.to_owned())
    };
    let (members, status) = answered(ask(Some("ours"), "GET", "/admin/v1/members").succeeds().await);
    assert_eq!((status.as_str(), &members["quorum"]["voters"]), ("2 200", &serde_json::Value::from(2)));
    assert_eq!(members["cluster"], cluster.members(1).await["cluster"]);
    let (problem, status) = answered(ask(Some("ours"), "POST", "/admin/v1/members/99/promote").succeeds().await);
    assert_eq!((status.as_str(), &problem["code"]), ("2 404", &"unknown_node".into()));
    assert!(problem["message"].as_str().is_some_and(|text| text.contains("no node 99")), "{problem}");
    for (method, path, expected) in [
        ("GET", "/admin/v1/no-such-path", ("2 404", "unknown_path")),
        ("GET", "/admin/v1/drain", ("2 404", "unknown_path")),
        ("POST", "/admin/v1/members/first/promote", ("2 400", "bad_request")),
    ] {
        let (problem, status) = answered(ask(Some("ours"), method, path).succeeds().await);
        assert_eq!((status.as_str(), &problem["code"]), (expected.0, &expected.1.into()), "{path}: {problem}");
    }
    for stranger in [None, Some("theirs")] {
        let told = ask(stranger, "GET", "/admin/v1/members").fails().await;
        assert!(told.contains("curl: (") && !told.contains("voters"), "{told}");
    }
}
