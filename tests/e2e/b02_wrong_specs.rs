use anyhow::{Result, ensure};
use roadstead_cluster::Refusal;
use serde_json::{Value, json};

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn b02_a_wrong_spec_is_refused_with_the_path_of_what_is_wrong() {
    report(run().await);
}

/// What is wrong, as a patch of the eight lines, and what the refusal must name.
fn wrong_specs() -> Vec<(Value, &'static str)> {
    let s3 = |field: &str, value: Value| json!({"storage": {"s3": {field: value}}});
    let labels = |key: &str| json!({"pod": {"labels": {key: "x"}}});
    vec![
        (json!({"storage": null}), "spec.storage"),
        (json!({"storage": {"s3": null}}), "spec.storage"),
        (json!({"replicas": 0}), "spec.replicas"),
        (json!({"replicas": 2}), "`replicas` must be"),
        (json!({"replicas": 4}), "`replicas` must be"),
        (json!({"replicas": 6}), "`replicas` must be"),
        (json!({"replicas": 9}), "spec.replicas"),
        (json!({"replicas": -1}), "spec.replicas"),
        (json!({"replicas": "3"}), "spec.replicas"),
        (json!({"replicas": 2.5}), "spec.replicas"),
        (s3("bucket", json!("")), "spec.storage.s3.bucket"),
        (s3("bucket", json!("ab")), "spec.storage.s3.bucket"),
        (s3("bucket", json!("Upper")), "spec.storage.s3.bucket"),
        (s3("bucket", json!("a/b/c")), "spec.storage.s3.bucket"),
        (s3("bucket", json!("x".repeat(64))), "spec.storage.s3.bucket"),
        (s3("bucket", Value::Null), "spec.storage.s3.bucket"),
        (s3("bucket", json!(7)), "spec.storage.s3.bucket"),
        (s3("region", Value::Null), "spec.storage.s3.region"),
        (s3("region", json!("")), "spec.storage.s3.region"),
        (s3("region", json!("eu west")), "spec.storage.s3.region"),
        (s3("prefix", json!("/begins-with-a-slash")), "spec.storage.s3.prefix"),
        (s3("prefix", json!("has blanks")), "spec.storage.s3.prefix"),
        (s3("prefix", json!("x".repeat(257))), "spec.storage.s3.prefix"),
        (s3("endpoint", json!("minio:9000")), "spec.storage.s3.endpoint"),
        (s3("endpoint", json!("ftp://minio")), "spec.storage.s3.endpoint"),
        (s3("endpoint", json!("http://")), "spec.storage.s3.endpoint"),
        (s3("credentialsSecretRef", json!({"name": null})), "spec.storage.s3.credentialsSecretRef.name"),
        (s3("credentialsSecretRef", json!({"name": ""})), "spec.storage.s3.credentialsSecretRef.name"),
        (s3("credentialsSecretRef", json!({"name": "Not_A_Name"})), "spec.storage.s3.credentialsSecretRef.name"),
        (s3("forcePathStyle", json!("yes")), "spec.storage.s3.forcePathStyle"),
        (json!({"metadataVolume": {"size": "10"}}), "spec.metadataVolume.size"),
        (json!({"metadataVolume": {"size": "-1Gi"}}), "spec.metadataVolume.size"),
        (json!({"metadataVolume": {"storageClassName": "Not A Class"}}), "spec.metadataVolume.storageClassName"),
        (json!({"image": "has blanks"}), "spec.image"),
        (json!({"image": ""}), "spec.image"),
        (json!({"tls": {"provider": "Magic"}}), "spec.tls.provider"),
        (json!({"tls": {"provider": "Secret"}}), "must be set with `provider: Secret`"),
        (json!({"tls": {"secretRef": {"name": "cert"}}}), "must be set with `provider: Secret`"),
        (json!({"tls": {"provider": "Disabled", "names": ["a.example"]}}), "`names` must be empty"),
        (json!({"tls": {"names": ["not a name"]}}), "spec.tls.names"),
        (json!({"auth": {"anonymous": "Push"}}), "spec.auth.anonymous"),
        (json!({"expose": {"service": {"type": "Ingress"}}}), "spec.expose.service.type"),
        (json!({"expose": {"service": {"nodePort": 30000}}}), "`nodePort` must not be set"),
        (json!({"expose": {"service": {"type": "NodePort", "nodePort": 70000}}}), "spec.expose.service.nodePort"),
        (json!({"deletionPolicy": "Keep"}), "spec.deletionPolicy"),
        (json!({"paused": "yes"}), "spec.paused"),
        (json!({"resources": {"requests": {"cpu": "a lot"}}}), "spec.resources.requests.cpu"),
        (json!({"resources": {"limits": {"memory": "0"}}}), "spec.resources.limits.memory"),
        (labels("app.kubernetes.io/name"), "`labels` must not begin with"),
        (labels("roadstead.dev/anything"), "`labels` must not begin with"),
        (json!({"pod": {"tolerations": [{"operator": "Maybe"}]}}), "`operator` must be"),
        (json!({"pod": {"tolerations": [{"effect": "Explode"}]}}), "`effect` must be"),
    ]
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("2 wrong specs are refused at admission, without a webhook");
    let world = World::with_operator().await;
    world.namespace("b02", "restricted").await?;
    watch.lap("the operator's chart is installed");
    let registry = Registry::new(&world, "b02", "wrong");
    let api = world.cluster.api();
    let list = "/apis/roadstead.dev/v1alpha1/namespaces/b02/registries?fieldValidation=Strict";
    let specs = wrong_specs();
    let mut problems = Vec::new();
    for (patch, names) in &specs {
        let mut object = registry.eight_lines();
        merge(&mut object["spec"], patch);
        match api.create(list, &object).await {
            Ok(_) => {
                problems.push(format!("{patch} was taken"));
                api.delete(&registry.path()).await?;
            }
            Err(error) => match error.downcast_ref::<Refusal>() {
                Some(refusal) if matches!(refusal.status, 400 | 422) && refusal.message.contains(names) => {}
                _ => problems.push(format!("{patch} was refused without naming {names}: {error:#}")),
            },
        }
    }
    watch.lap(&format!(
        "{} of {} wrong specs refused with what they have to name",
        specs.len() - problems.len(),
        specs.len()
    ));
    ensure!(problems.is_empty(), "{}", problems.join("\n"));

    // What may be said once may not be taken back.
    let mut paused = registry.eight_lines();
    paused["spec"]["paused"] = json!(true);
    registry.apply(&paused).await?;
    let changes = [
        (json!({"storage": {"s3": {"bucket": "another"}}}), "`bucket` must not change"),
        (json!({"storage": {"s3": {"prefix": "another"}}}), "`prefix` must not change"),
        (json!({"metadataVolume": {"size": "1Gi"}}), "`size` must not shrink"),
    ];
    for (change, names) in changes {
        let Err(error) = registry.change(change.clone()).await else { anyhow::bail!("{change} was taken") };
        ensure!(format!("{error:#}").contains(names), "{change}: {error:#}");
    }
    watch.lap("3 changes of what is for ever refused");
    world.remove_namespace("b02").await
}

/// A merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(name);
            }
        } else {
            merge(&mut target[name], value);
        }
    }
}
