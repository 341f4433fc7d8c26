//! The charts as people get them: what they accept, what they render, and that nothing in it needs more than it says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Workbench, repository_root};

const CHARTS: [&str; 3] = ["roadstead", "roadstead-registry", "roadstead-node-mirror"];

/// The settings without which a chart has nothing to render.
fn least(chart: &str) -> &'static [&'static str] {
    match chart {
        "roadstead-registry" => &["spec.storage.s3.bucket=images", "spec.storage.s3.region=eu-central-1"],
        "roadstead-node-mirror" => &[
            "hosts[0].host=registry.example.com",
            "hosts[0].mirrors[0].endpoint=https://home.registry.svc:5000",
            "hosts[0].mirrors[0].authority.configMap=home-ca",
        ],
        _ => &[],
    }
}

/// Whether helm succeeds with a chart, and what it prints.
async fn helm(verb: &str, chart: &str, settings: &[&str]) -> (bool, String) {
    let bench = Workbench::new();
    let tool = bench.tool("helm").args(verb).arg(repository_root().join("charts").join(chart));
    settings.iter().fold(tool, |tool, setting| tool.arg("--set").arg(setting)).outcome().await
}

async fn rendered(chart: &str, settings: &[&str]) -> String {
    let settings = [least(chart), settings].concat();
    let (succeeded, printed) = helm("template release --kube-version 1.33", chart, &settings).await;
    assert!(succeeded, "{chart}: {printed}");
    printed
}

async fn refusal(chart: &str, settings: &[&str]) -> String {
    let (succeeded, printed) = helm("template release --kube-version 1.33", chart, settings).await;
    assert!(!succeeded, "{chart} takes {settings:?}");
    printed
}

#[tokio::test]
async fn charts_have_nothing_that_helm_warns_of() {
    for chart in CHARTS {
        let (succeeded, printed) = helm("lint --strict", chart, least(chart)).await;
        assert!(succeeded, "{printed}");
    }
}

#[tokio::test]
async fn charts_refuse_settings_that_they_do_not_have() {
    for chart in CHARTS {
        let settings = [least(chart), &["imagee.tag=1"]].concat();
        let printed = refusal(chart, &settings).await;
        assert!(printed.contains("imagee"), "{chart}: {printed}");
    }
    let printed = refusal("roadstead-registry", &[]).await;
    assert!(printed.contains("spec.storage.s3.bucket"), "{printed}");
}

/// What a chart renders beside the definition, which is tested where it is made.
async fn objects(chart: &str) -> String {
    let settings: &[&str] = if chart == "roadstead" { &["crds.enabled=false"] } else { &[] };
    rendered(chart, settings).await
}

#[tokio::test]
async fn charts_render_no_empty_settings() {
    for chart in CHARTS {
        let objects = objects(chart).await;
        let mut settings = objects.lines().filter(|line| !line.contains("emptyDir"));
        let empty = settings.find(|line| line.ends_with(": null") || line.ends_with(": {}") || line.ends_with(": []"));
        assert!(empty.is_none(), "{chart}: {empty:?}");
    }
}

#[tokio::test]
async fn pods_of_charts_may_do_nothing_that_they_need_not() {
    for chart in CHARTS {
        let objects = objects(chart).await;
        for needed in
            ["allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true", "drop: [ALL]", "type: RuntimeDefault"]
        {
            assert!(objects.contains(needed), "{chart} has no {needed}");
        }
        assert!(!objects.contains("privileged: true") && !objects.contains("hostNetwork"), "{chart}");
        assert!(!objects.contains("password:"), "{chart} has a password");
    }
    let mirror = objects("roadstead-node-mirror").await;
    assert!(mirror.contains("automountServiceAccountToken: false"));
}

#[tokio::test]
async fn the_operator_lists_no_secrets_and_has_rights_in_the_namespaces_that_it_watches_only() {
    let everywhere = rendered("roadstead", &[]).await;
    assert!(everywhere.contains("kind: ClusterRoleBinding"));
    let (_, secrets) = everywhere.split_once("resources: [secrets]").expect("it has rights on Secrets");
    let verbs = secrets.lines().find(|line| line.contains("verbs:")).expect("verbs");
    assert!(!verbs.contains("list") && !verbs.contains("watch") && !verbs.contains('*'), "{verbs}");

    let some = rendered("roadstead", &["watchNamespaces={team-a,team-b}"]).await;
    assert!(!some.contains("kind: ClusterRoleBinding"), "{some}");
    for namespace in ["team-a", "team-b"] {
        assert!(
            some.contains(&format!("namespace: {namespace}")) && some.contains(&format!("--namespace={namespace}"))
        );
    }
}

#[tokio::test]
async fn images_of_charts_can_be_named_by_digest() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for chart in ["roadstead", "roadstead-node-mirror"] {
        let rendered =
            rendered(chart, &["image.repository=example.com/roadstead", &format!("image.digest={digest}")]).await;
        assert!(rendered.contains(&format!("image: example.com/roadstead@{digest}")), "{chart}: {rendered}");
    }
}

#[tokio::test]
async fn the_definition_stays_when_its_chart_goes() {
    let with = rendered("roadstead", &[]).await;
    let (_, definition) = with.split_once("kind: CustomResourceDefinition").expect("the definition is rendered");
    let metadata = definition.split("spec:").next().unwrap_or_default();
    assert!(metadata.contains("helm.sh/resource-policy: keep"), "{metadata}");
    let without = rendered("roadstead", &["crds.enabled=false"]).await;
    assert!(!without.contains("kind: CustomResourceDefinition"));
}

#[tokio::test]
async fn the_node_mirror_is_given_what_it_reads() {
    let rendered = rendered("roadstead-node-mirror", &["hosts[0].fallback=https://registry.example.com"]).await;
    let (_, settings) = rendered.split_once("settings.json: |\n").expect("settings");
    let settings: String = settings.lines().take_while(|line| line.starts_with("    ")).collect();
    let settings: Value = serde_json::from_str(&settings).expect("JSON");
    assert_eq!(
        settings,
        serde_json::json!({"hosts": [{
            "host": "registry.example.com",
            "fallback": "https://registry.example.com",
            "mirrors": [{
                "endpoint": "https://home.registry.svc:5000",
                "capabilities": ["pull", "resolve"],
                "authority": "/authorities/0-0/ca.crt",
            }],
        }]})
    );
}

#[tokio::test]
async fn the_node_mirror_sees_the_folders_of_the_runtimes_that_are_named() {
    let chart = "roadstead-node-mirror";
    for (settings, expected) in [
        (&[][..], [true, false]),
        (&["containersDir=/etc/containers"], [true, true]),
        (&["containersDir=/etc/containers", "containerdDir="], [false, true]),
    ] {
        let rendered = rendered(chart, settings).await;
        let flags = ["--hosts-dir=/host/containerd/certs.d", "--containers-dir=/host/containers"];
        let folders = ["path: /etc/containerd/certs.d", "path: /etc/containers/registries.conf.d"];
        for named in [flags, folders] {
            assert_eq!(named.map(|text| rendered.contains(text)), expected, "{settings:?}");
        }
    }
    refusal(chart, &[least(chart), &["containerdDir="]].concat()).await;
}

/// What of the chart is there for those who run Prometheus and Grafana.
#[tokio::test]
async fn what_is_drawn_and_alerted_of_is_measured() {
    let parts = ["serviceMonitor", "podMonitor", "prometheusRule", "dashboard"];
    let settings = parts.map(|part| format!("metrics.{part}.enabled=true"));
    let mut settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    settings.push("crds.enabled=false");
    let rendered = rendered("roadstead", &settings).await;
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule"] {
        assert!(rendered.contains(&format!("kind: {kind}\n")), "there is no {kind}");
    }
    let without = objects("roadstead").await;
    assert!(!without.contains("monitoring.coreos.com") && !without.contains("grafana"), "they are for those who ask");

    let (_, dashboard) = rendered.split_once("roadstead.json: |\n").expect("a dashboard");
    let dashboard: String = dashboard.lines().take_while(|line| line.starts_with("    ") || line.is_empty()).collect();
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()), "each panel draws something");

    let sources = ["registry/server/src", "operator/src"].map(|folder| text_of(&repository_root().join(folder)));
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let shown: BTreeSet<&str> =
        rendered.split(|c| !is_name(c)).filter(|word| word.starts_with("roadstead_")).map(metric).collect();
    assert!(shown.len() > 15, "{shown:?}");
    let is_measured = |name: &str| sources.iter().any(|source| source.contains(&format!("\"{name}\"")));
    let unknown: Vec<&&str> = shown.iter().filter(|name| !is_measured(name)).collect();
    assert!(unknown.is_empty(), "nobody measures {unknown:?}");
}

/// What a series of it is of.
fn metric(series: &str) -> &str {
    ["_bucket", "_sum", "_count"].into_iter().find_map(|part| series.strip_suffix(part)).unwrap_or(series)
}

/// The sources in a folder.
fn text_of(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder of sources");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let texts = paths
        .map(|path| if path.is_dir() { text_of(&path) } else { std::fs::read_to_string(path).unwrap_or_default() });
    texts.collect()
}
