//! The official conformance suite of the OCI distribution specification, at its newest text and with every API and
//! every kind of data switched on. Its reports stay in `results/conformance/<mode>/`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::harness::{Certificates, Cluster, Cut, Roadstead, S3, S3Kind, Setup, Workbench, alone, repository_root};

/// What the suite counts when everything is supported. Fewer would mean that it left something out.
const CASES: u32 = 1_032;

/// What is off by default, or could be switched off by an older version of the specification.
const EVERYTHING: [&str; 32] = [
    "OCI_API_PING",
    "OCI_API_PULL",
    "OCI_API_PUSH",
    "OCI_API_BLOBS_ATOMIC",
    "OCI_API_BLOBS_DELETE",
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_BLOBS_MOUNT_ANONYMOUS",
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_ATOMIC",
    "OCI_API_MANIFESTS_DELETE",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
    "OCI_API_TAGS_ATOMIC",
    "OCI_API_TAGS_DELETE",
    "OCI_API_TAGS_LIST",
    "OCI_API_REFERRER",
    "OCI_DATA_IMAGE",
    "OCI_DATA_INDEX",
    "OCI_DATA_INDEX_LIST",
    "OCI_DATA_SPARSE",
    "OCI_DATA_ARTIFACT",
    "OCI_DATA_SUBJECT",
    "OCI_DATA_SUBJECT_MISSING",
    "OCI_DATA_ARTIFACT_LIST",
    "OCI_DATA_SUBJECT_LIST",
    "OCI_DATA_DATA_FIELD",
    "OCI_DATA_NONDISTRIBUTABLE",
    "OCI_DATA_CUSTOM_FIELDS",
    "OCI_DATA_NO_LAYERS",
    "OCI_DATA_EMPTY_BLOB",
    "OCI_DATA_SHA512",
    "OCI_CACHE_AUTH",
];

const PLAIN: [(&str, &str); 1] = [("OCI_TLS", "disabled")];

/// The suite pushes manifests without their blobs, which is refused unless one asks for it.
const SPARSE: &str = "--sparse-manifests";

#[tokio::test]
async fn passes_on_the_filesystem() {
    let registry = Setup::filesystem().switch(SPARSE).start().await;
    passes("filesystem", &registry, &PLAIN).await;
}

#[tokio::test]
async fn passes_on_s3() {
    let s3 = S3::start(S3Kind::Minio).await;
    let registry = Setup::s3(&s3).switch(SPARSE).start().await;
    passes("s3", &registry, &PLAIN).await;
}

#[tokio::test]
#[ignore = "runs in make conformance"]
async fn passes_on_s3_with_redirects() {
    let s3 = S3::start(S3Kind::Minio).await;
    let registry = Setup::s3(&s3).switch(SPARSE).flag("--blob-serving", "redirect").start().await;
    passes("s3-redirect", &registry, &PLAIN).await;
}

#[tokio::test]
#[ignore = "runs in make conformance"]
async fn passes_with_tls_and_login() {
    let bench = Workbench::new();
    let entry = bench.tool("htpasswd").args("-nbB tester a-password").succeeds().await;
    let certificates = Certificates::new();
    let setup = Setup::filesystem().switch(SPARSE).flag("--htpasswd", &bench.write("htpasswd", entry));
    let registry = certificates.installed_in(&bench, setup).start().await;
    let authority = bench.write("ca.pem", certificates.authority());
    let environment = [
        ("OCI_TLS", "enabled"),
        ("SSL_CERT_FILE", authority.as_str()),
        ("OCI_USERNAME", "tester"),
        ("OCI_PASSWORD", "a-password"),
    ];
    passes("tls-login", &registry, &environment).await;
}

#[tokio::test]
async fn passes_on_three_replicas_with_every_request_to_another_one() {
    let cluster = Cluster::start(3, || Setup::filesystem().switch(SPARSE)).await;
    passes_at("three-replicas", &cluster.front.host(), &PLAIN).await;
}

#[tokio::test]
#[ignore = "runs in make conformance"]
async fn passes_on_three_replicas_over_s3() {
    let s3 = S3::start(S3Kind::Minio).await;
    let cluster = Cluster::start(3, || Setup::s3(&s3).switch(SPARSE)).await;
    passes_at("three-replicas-s3", &cluster.front.host(), &PLAIN).await;
}

/// When the leader is killed, and how many times in all: the suite is run again and again meanwhile.
const FIRST_KILL: Duration = Duration::from_secs(5);
const UNTIL_THE_NEXT: Duration = Duration::from_secs(17);
const KILLS: u32 = 6;
/// Together with that, 20 seconds.
const AWAY: Duration = Duration::from_secs(3);

#[tokio::test]
#[ignore = "runs in make conformance"]
async fn passes_while_the_leader_is_killed_every_20_seconds() {
    let _alone = alone().await;
    let mut cluster = Cluster::start(3, || Setup::filesystem().switch(SPARSE)).await;
    let front = Arc::clone(&cluster.front);
    let (done, mut is_done) = watch::channel(false);
    let kills = async {
        for kill in 0..KILLS {
            // Not when the suite begins, and each time at another moment of it.
            sleep_until(Instant::now() + if kill == 0 { FIRST_KILL } else { UNTIL_THE_NEXT }).await;
            let leader = cluster.leader().await;
            cluster.replicas[leader].kill();
            sleep_until(Instant::now() + AWAY).await;
            cluster.replicas[leader].restart().await;
        }
        done.send_replace(true);
    };
    let passes = async {
        let mut passes = Vec::new();
        while !*is_done.borrow_and_update() {
            let cut_before = front.cut().len();
            let pass = run(&format!("leader-killed/{}", passes.len() + 1), &front.host(), &PLAIN).await;
            passes.push((pass, front.cut().split_off(cut_before)));
        }
        passes
    };
    let ((), passes) = tokio::join!(kills, passes);
    assert_eq!(front.refused(), Vec::<String>::new(), "writes and reads wait until there is a leader again");
    for (pass, cut) in &passes {
        pass.print(&format!("leader killed, cut off {cut:#?}"));
        pass.assert_explained_by(cut);
    }
    assert!(passes.iter().any(|(pass, _)| pass.failures == 0), "no pass was whole");
    cluster.replicas.iter_mut().for_each(Roadstead::assert_unharmed);
}

async fn passes(mode: &str, registry: &Roadstead, environment: &[(&str, &str)]) {
    passes_at(mode, registry.host(), environment).await;
}

async fn passes_at(mode: &str, host: &str, environment: &[(&str, &str)]) {
    let _alone = alone().await;
    let pass = run(mode, host, environment).await;
    pass.print(mode);
    pass.assert_explained_by(&[]);
}

/// What one run of the suite came to.
struct Pass {
    tests: u32,
    failures: u32,
    skipped: u32,
    /// The cases that did not pass, with all that the report says of them.
    bad: Vec<String>,
    printed: String,
    reports: PathBuf,
}

async fn run(mode: &str, host: &str, environment: &[(&str, &str)]) -> Pass {
    let reports = reports_folder(mode);
    let bench = Workbench::new();
    let mut suite = bench
        .tool("oci-conformance")
        .env("OCI_REGISTRY", host)
        .env("OCI_VERSION", "dev")
        .env("OCI_RESULTS_DIR", &reports);
    for name in EVERYTHING {
        suite = suite.env(name, "true");
    }
    for (name, value) in environment {
        suite = suite.env(name, value);
    }
    let (succeeded, printed) = suite.outcome().await;
    let junit = std::fs::read_to_string(reports.join("junit.xml"))
        .unwrap_or_else(|error| panic!("the suite left no report ({error}):\n{printed}"));
    let [tests, failures, errors, skipped, disabled] =
        ["tests", "failures", "errors", "skipped", "disabled"].map(|name| count(&junit, name));
    let (failures, skipped) = (failures + errors, skipped + disabled);
    assert_eq!(succeeded, failures == 0, "the suite contradicts its report:\n{printed}");
    Pass { tests, failures, skipped, bad: bad_cases(&junit), printed, reports }
}

impl Pass {
    #[expect(clippy::print_stdout, reason = "the count is the result that one looks for in the log")]
    fn print(&self, mode: &str) {
        let Self { tests, failures, skipped, .. } = self;
        println!("conformance, {mode}: {tests} cases, {failures} failed, {skipped} skipped");
    }

    /// Everything passed, but for cases that say that one of these requests was cut off.
    #[track_caller]
    fn assert_explained_by(&self, cut: &[Cut]) {
        let Self { tests, failures, skipped, bad, printed, reports } = self;
        let where_more = format!("more in {}\n{printed}", reports.join("report.html").display());
        let unexplained: Vec<_> = bad.iter().filter(|case| !is_explained(case, cut)).collect();
        let shown = unexplained.iter().take(20).map(|case| case.as_str()).collect::<Vec<_>>().join("\n");
        assert!(unexplained.is_empty(), "{failures} failed cases, {skipped} skipped:\n{shown}\n{where_more}");
        assert!(*tests >= CASES, "the suite has only {tests} cases of {CASES}");
    }
}

/// Whether a case says that one of these requests has failed, by what its client was told or by its target.
fn is_explained(case: &str, cut: &[Cut]) -> bool {
    cut.iter().any(|cut| {
        let target = cut.target.replace('&', "&amp;");
        let rests = case.match_indices(&target).map(|(at, _)| &case[at + target.len()..]);
        // Not a longer one that begins with it. What follows it in the report is an escaped quote or end of a line.
        let mut ends = rests.filter(|rest| rest.starts_with("&#") || rest.starts_with(['"', ' ', ':', '<', '\n']));
        case.contains(&cut.name) || ends.next().is_some()
    })
}

fn reports_folder(mode: &str) -> PathBuf {
    let folder = repository_root().join("results/conformance").join(mode);
    // Reports of an earlier run must not be taken for this one's.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the reports' folder");
    folder
}

/// An attribute of the report's outermost element; what is zero is left out there.
fn count(junit: &str, name: &str) -> u32 {
    let element = junit.lines().find(|line| line.starts_with("<testsuites")).expect("a JUnit report");
    let value = element.split_once(&format!(" {name}=\"")).map_or("0", |(_, rest)| rest);
    value.split('"').next().and_then(|digits| digits.parse().ok()).expect("a count")
}

/// The cases that did not pass, with what is reported of each.
fn bad_cases(junit: &str) -> Vec<String> {
    let cases = junit.split("<testcase ").skip(1);
    cases.filter(|case| !case.contains("status=\"passed\"")).map(|case| case.trim().to_owned()).collect()
}
