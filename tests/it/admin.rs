//! The admin API, as subcommands reach it.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::Setup;

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
