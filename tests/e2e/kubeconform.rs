use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::repository_root;
use serde_json::{Map, Value, json};

use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

/// The charts, each with all of its parts that this cluster has the kinds for.
const CHARTS: [(&str, &[&str]); 3] = [
    ("roadstead", &["replicas=2"]),
    (
        "roadstead-registry",
        &[
            "spec.storage.s3.bucket=images",
            "spec.storage.s3.region=eu-central-1",
            "spec.backup.interval=6h",
            "test.image=lab.local/tools:1",
        ],
    ),
    (
        "roadstead-node-mirror",
        &[
            "hosts[0].host=registry.example.com",
            "hosts[0].mirrors[0].endpoint=https://home.registry.svc:5000",
            "hosts[0].mirrors[0].authority.configMap=home-ca",
        ],
    ),
];

/// How the definitions of quantities and of what is a number or a text are called.
const LOOSE: [&str; 2] =
    ["io.k8s.apimachinery.pkg.api.resource.Quantity", "io.k8s.apimachinery.pkg.util.intstr.IntOrString"];

#[tokio::test]
#[ignore = "make e2e"]
async fn kubeconform_finds_nothing_in_what_the_charts_render() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("kubeconform by what the API server says of its kinds");
    let world = World::with_operator().await;
    let folder = tempfile::tempdir()?;
    let count = write_schemas(&world.cluster.api().get("/openapi/v2").await?, folder.path())?;
    watch.lap(&format!("{count} kinds are described"));
    for (chart, settings) in CHARTS {
        let mut helm =
            world.helm("template release --kube-version 1.35")?.arg(repository_root().join("charts").join(chart));
        for setting in settings {
            helm = helm.arg("--set").arg(setting);
        }
        let rendered = helm.output().await?;
        let summary = check(&world, folder.path(), rendered.clone()).await?;
        ensure!(summary.0, "{chart}: {}", summary.1);
        // It would find something.
        let (succeeded, printed) =
            check(&world, folder.path(), rendered.replacen("metadata:", "metadatum: {}\nmetadata:", 1)).await?;
        ensure!(
            !succeeded && printed.contains("metadatum"),
            "{chart}: nothing is found in a field that there is not: {printed}"
        );
        watch.lap(&format!("{chart}: {}", summary.1.trim()));
    }
    Ok(())
}

async fn check(world: &World, schemas: &Path, rendered: String) -> Result<(bool, String)> {
    let location = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", schemas.display());
    let tool = world.cluster.tool("kubeconform")?.args("-strict -summary -schema-location").arg(location);
    tool.arg("-").input(rendered).outcome().await
}

/// Writes the schema of each kind that a document of the API server describes: with what it refers to, and nothing that is not
/// described allowed.
fn write_schemas(document: &Value, folder: &Path) -> Result<usize> {
    let definitions = document["definitions"].as_object().context("definitions")?;
    let strict: BTreeMap<&String, Value> =
        definitions.iter().map(|(name, schema)| (name, strict(name, schema))).collect();
    let mut count = 0;
    for (name, schema) in definitions {
        for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
            let group = text("group").split('.').next().map(|group| format!("{group}-")).unwrap_or_default();
            let file = format!("{}-{}{}.json", text("kind"), group.trim_start_matches('-'), text("version"));
            let needed: Map<String, Value> =
                closure(name, &strict).into_iter().map(|name| (name.clone(), strict[name].clone())).collect();
            let schema = json!({"$ref": format!("#/definitions/{name}"), "definitions": needed});
            std::fs::write(folder.join(file), schema.to_string())?;
            count += 1;
        }
    }
    Ok(count)
}

/// A definition that allows nothing else.
fn strict(name: &str, schema: &Value) -> Value {
    if LOOSE.contains(&name) {
        return json!({"type": ["string", "number"]});
    }
    let mut schema = schema.clone();
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    if let Some(fields) = schema.as_object_mut() {
        let is_closed = fields.get("properties").is_some_and(Value::is_object)
            && !fields.contains_key("additionalProperties")
            && fields.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(true));
        if is_closed {
            fields.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        for inner in fields.values_mut() {
            close(inner);
        }
    }
    for inner in schema.as_array_mut().into_iter().flatten() {
        close(inner);
    }
}

/// The names of all definitions that one needs, itself among them.
fn closure<'a>(name: &'a String, definitions: &'a BTreeMap<&'a String, Value>) -> BTreeSet<&'a String> {
    let (mut needed, mut open) = (BTreeSet::from([name]), vec![name]);
    while let Some(next) = open.pop() {
        let text = definitions[next].to_string();
        for part in text.split("\"#/definitions/").skip(1) {
            let Some((referred, _)) = part.split_once('"') else { continue };
            if let Some((known, _)) = definitions.get_key_value(&referred.to_owned())
                && needed.insert(known)
            {
                open.push(known);
            }
        }
    }
    needed
}
