//! The contract of the admin API, as files that this and every later release answers to: `golden/admin/v1`.
//!
//! The operator and scripts are written against these files. Fields, codes and paths are added, never changed or taken
//! away; `ROADSTEAD_WRITE_GOLDEN=1 cargo test --workspace --lib contract` writes the files anew, and the difference is
//! looked at in review.

use std::fmt::Debug;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api::routes;
use super::aside;
use super::backup::Taken;
use super::beginning::{self, Volume};
use super::demotion;
use super::drain::Drained;
use super::leadership::{Request as TransferRequest, Transferred};
use super::members;
use super::mirrors::{Admitted, Dismissed, Mint, Minted, Mirrors};
use super::problem::{Problem, tests::CODES};
use super::region;
use super::scrub::{Found, Line, Report, Request as ScrubRequest};
use super::snapshot::Snapshot;
use super::status;

/// Compares a text with the file of this name.
fn check_text(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/admin/v1").join(name);
    if std::env::var_os("ROADSTEAD_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(golden, text, "{name} is written otherwise");
}

/// Compares a value with the file of this name, from which it is read as well.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    check_text(name, &text);
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value, "{name} is read as another value");
}

#[test]
fn golden_paths() {
    let lines: Vec<String> = routes().into_iter().map(|(method, path, _)| format!("{method} {path}\n")).collect();
    check_text("paths.txt", &lines.concat());
}

#[test]
fn golden_problems() {
    let codes: Vec<(u16, Problem)> =
        CODES.into_iter().map(|code| (code.status().as_u16(), Problem::new(code, "why"))).collect();
    let lines = codes.iter().map(|(status, problem)| format!("{status} {}\n", serde_json::to_string(problem).unwrap()));
    check_text("problems.txt", &lines.collect::<String>());
}

#[test]
fn golden_answers() {
    check("status.json", &status::tests::status());
    let blank = Volume { volume: members::uuid(0x1001), cluster: None, node: None };
    check("volume-blank.json", &blank);
    check("volume.json", &Volume { cluster: Some(members::uuid(7)), node: Some(1), ..blank });
    check("members.json", &members::tests::members());
    check("members-without-leader.json", &members::tests::members_alone());
    check("leadership-transferred.json", &Transferred { from: 1, leader: Some(2), term: 4 });
    check("drained.json", &Drained { node: 1, leader: Some(2), handed_over: true, alone: false });
    check("snapshot.json", &Snapshot { node: 1, index: 120 });
    let admitted = Admitted { name: "eu".to_owned(), admitted: "2026-07-01T12:00:00.000Z".to_owned(), writes: false };
    check("mirrors.json", &Mirrors { mirrors: vec![admitted] });
    check("mirror-token-request.json", &Mint { writes: true });
    check("mirror-token.json", &Minted { name: "eu".to_owned(), token: format!("rsm_{}", "0".repeat(64)) });
    check("mirror-dismissed.json", &Dismissed { name: "eu".to_owned(), dismissed: true });
    check("status-with-a-backup.json", &status::tests::status_with_a_backup());
    check("status-of-a-mirror.json", &status::tests::status_of_a_mirror());
    check("region.json", &region::tests::promoted());
    check("region-handing-over.json", &region::tests::handing_over());
    check("promotion-outlook.json", &region::tests::outlook());
    check("promotion-outlook-under-way.json", &region::tests::outlook_under_way());
    check("promotion.json", &region::tests::done());
    check("aside.json", &aside::tests::aside());
    check("aside-pushed.json", &aside::tests::pushed());
    check("aside-dismissed.json", &aside::DismissedAside { dismissed: 2 });
    check("demotion.json", &demotion::tests::demoted());
    let taken = Taken {
        sequence: 57,
        time: "2026-07-01T12:00:00.000Z".to_owned(),
        key: "meta/00000000-0000-0000-0000-000000000005/snapshot-000000000120".to_owned(),
        bytes: 20_480,
        index: 120,
    };
    check("backup.json", &taken);
    let report = Report { percent: 100, contents: 12, bytes: 1_600_000, damaged: 1, ..Report::default() };
    let found = Found {
        kind: "damaged".to_owned(),
        digest: Some(format!("sha256:{}", "0".repeat(64))),
        repository: None,
        object: Some("blobs/00000000-0000-0000-0000-000000000001".to_owned()),
        reason: "its bytes have another digest".to_owned(),
    };
    let lines =
        [Line::Found(found), Line::Progress(report.clone()), Line::Report(report), Line::Failed("why".to_owned())];
    let text = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect::<String>();
    check_text("scrub.ndjson", &text);
    for (line, text) in lines.iter().zip(text.lines()) {
        assert_eq!(serde_json::from_str::<Line>(text).unwrap(), *line);
    }
}

#[test]
fn golden_requests() {
    check("leadership-transfer-request.json", &TransferRequest { to: Some(2) });
    check("leadership-transfer-request-any.json", &TransferRequest { to: None });
    let begin = beginning::Request { volume: uuid::Uuid::from_u128(0x1001), cluster: uuid::Uuid::from_u128(7) };
    check("begin-request.json", &begin);
    check("promotion-request.json", &region::PromotionRequest { force: true, epoch: None });
    check("promotion-of-an-epoch-request.json", &region::PromotionRequest { force: true, epoch: Some(2) });
    let dismiss = aside::DismissRequest { epoch: Some(1), sequence: Some(301), all: false };
    check("aside-dismiss-request.json", &dismiss);
    check("aside-push-request.json", &aside::tests::push_request());
    check("demotion-request.json", &demotion::DemotionRequest { epoch: 2, home: uuid::Uuid::from_u128(9) });
    check("replace-request.json", &members::Replace { by: 5 });
    check("scrub-request.json", &ScrubRequest { rate: None, orphan_age_seconds: 86_400, delete_orphans: false });
    assert!(serde_json::from_str::<TransferRequest>(r#"{"too": 2}"#).is_err(), "what is misspelt is not ignored");
}
