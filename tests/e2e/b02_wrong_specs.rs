use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::{Bucket, Refusal};
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
        (json!({"bootstrap": {"restore": {"sequence": -1}}}), "spec.bootstrap.restore.sequence"),
        (json!({"bootstrap": {"restore": {"time": "yesterday"}}}), "spec.bootstrap.restore.time"),
        (json!({"bootstrap": {"restore": {"history": "the last one"}}}), "spec.bootstrap.restore.history"),
        (
            json!({"bootstrap": {"restore": {"sequence": 1, "time": "2026-07-01T12:00:00Z"}}}),
            "`sequence` must not be set together",
        ),
        (json!({"paused": "yes"}), "spec.paused"),
        (json!({"resources": {"requests": {"cpu": "a lot"}}}), "spec.resources.requests.cpu"),
        (json!({"resources": {"limits": {"memory": "0"}}}), "spec.resources.limits.memory"),
        (labels("app.kubernetes.io/name"), "`labels` must not begin with"),
        (labels("roadstead.dev/anything"), "`labels` must not begin with"),
        (json!({"pod": {"tolerations": [{"operator": "Maybe"}]}}), "`operator` must be"),
        (json!({"pod": {"tolerations": [{"effect": "Explode"}]}}), "`effect` must be"),
        (json!({"region": "EU West"}), "spec.region"),
        (json!({"region": "x".repeat(64)}), "spec.region"),
    ]
    .into_iter()
    .chain(wrong_endpoints())
    .chain(wrong_times())
    .chain(wrong_upstreams())
    .chain(wrong_mirrors())
    .collect()
}

fn wrong_endpoints() -> Vec<(Value, &'static str)> {
    let s3 = |field: &str, value: Value| json!({"storage": {"s3": {field: value}}});
    vec![
        (s3("endpoint", json!("minio:9000")), "spec.storage.s3.endpoint"),
        (s3("endpoint", json!("ftp://minio")), "spec.storage.s3.endpoint"),
        (s3("endpoint", json!("http://")), "spec.storage.s3.endpoint"),
        (s3("endpoint", json!("http://:9000")), "`endpoint` must be a URL"),
        (s3("endpoint", json!("http://minio:9000/?region=us")), "`endpoint` must be a URL"),
    ]
}

fn wrong_times() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"backup": {"interval": "often"}}), "spec.backup.interval"),
        (json!({"backup": {"interval": "0h"}}), "spec.backup.interval"),
        (json!({"backup": {"interval": "48h"}}), "`interval` must not be longer"),
        (json!({"backup": {"retention": "99999h"}}), "`retention` must be at most"),
        (json!({"tls": {"caOverlap": "1d"}}), "spec.tls.caOverlap"),
        (json!({"tls": {"caOverlap": "9999h"}}), "`caOverlap` must be at most"),
    ]
}

fn wrong_upstreams() -> Vec<(Value, &'static str)> {
    let upstream = |more: Value| {
        let mut upstream = json!({"credentialsSecretRef": {"name": "join"}});
        merge(&mut upstream, &more);
        json!({"region": "us", "upstream": upstream})
    };
    vec![
        (json!({"upstream": {"credentialsSecretRef": {"name": "join"}}}), "`region` must be set with `upstream`"),
        (upstream(json!({"credentialsSecretRef": null, "rate": "1Mi"})), "spec.upstream.credentialsSecretRef"),
        (upstream(json!({"endpoint": "http://home.example"})), "spec.upstream.endpoint"),
        (upstream(json!({"endpoint": "home.example:5000"})), "spec.upstream.endpoint"),
        (upstream(json!({"endpoint": "https://home.example/path"})), "spec.upstream.endpoint"),
        (upstream(json!({"endpoint": "https://a:b:c"})), "`endpoint` must be a URL"),
        (upstream(json!({"caConfigMapRef": {"name": "No"}})), "spec.upstream.caConfigMapRef.name"),
        (upstream(json!({"rate": "50"})), "spec.upstream.rate"),
        (upstream(json!({"rate": "0Mi"})), "spec.upstream.rate"),
        (upstream(json!({"rate": "1025Gi"})), "`rate` must be at most"),
        (upstream(json!({"endpoint": "https://:5000"})), "`endpoint` must be a URL"),
        (upstream(json!({"endpoint": "https://home.example:65536"})), "`endpoint` must be a URL"),
        (upstream(json!({"filters": ["team/app:v1:v2"]})), "spec.upstream.filters[0]"),
        (upstream(json!({"filters": ["team/**", "t".repeat(257)]})), "`filters` must have at most"),
        (upstream(json!({"filters": [format!("team/app:{}", "v".repeat(257))]})), "`filters` must have at most"),
        (upstream(json!({"filters": vec!["team/**"; 65]})), "spec.upstream.filters"),
        (upstream(json!({"platforms": ["linux"]})), "spec.upstream.platforms[0]"),
        (upstream(json!({"platforms": [format!("linux/{}", "a".repeat(33))]})), "`platforms` must have at most"),
        (upstream(json!({"windows": ["weekend"]})), "spec.upstream.windows[0]"),
        (upstream(json!({"windows": ["22:00-06:00", "29:00-30:00"]})), "spec.upstream.windows[1]"),
        (upstream(json!({"windows": ["22:00-25:00"]})), "`windows` must begin"),
        (upstream(json!({"windows": ["24:00-06:00"]})), "`windows` must begin"),
        (upstream(json!({"windows": ["mon-fri 22:00-00:00"]})), "`windows` must begin"),
        (upstream(json!({"windows": ["mon 06:30-06:30"]})), "at the same minute"),
        (json!({"topology": {"primary": "eu"}}), "`region` must be set with `topology`"),
        (json!({"region": "eu", "topology": {"primary": "EU"}}), "spec.topology.primary"),
        (json!({"region": "eu", "topology": {"primary": "eu", "epoch": 0}}), "spec.topology.epoch"),
    ]
}

/// What is just allowed: the registry takes it.
fn right_upstreams() -> Vec<Value> {
    let upstream = |more: Value| {
        let mut upstream = json!({"credentialsSecretRef": {"name": "join"}});
        merge(&mut upstream, &more);
        json!({"region": "us", "upstream": upstream})
    };
    let longest = format!("{}:{}", "t".repeat(256), "v".repeat(256));
    let widest = ["linux", "a", "v"].map(|part| part.repeat(32).chars().take(32).collect::<String>()).join("/");
    vec![
        upstream(json!({"endpoint": "https://[fd00::7]:65535/", "rate": "1024Gi"})),
        upstream(json!({"endpoint": "https://home.example", "rate": "1Ki"})),
        upstream(json!({"filters": [longest, "team/*", "**:v*"], "platforms": [widest, "linux/amd64"]})),
        upstream(json!({"windows": ["00:00-24:00", "23:59-00:01", "sat-mon 20:00-06:30", "fri 00:01-24:00"]})),
        upstream(
            json!({"filters": vec!["team/**"; 64], "platforms": vec!["linux/amd64"; 64], "windows": vec!["22:00-06:00"; 64]}),
        ),
        json!({"storage": {"s3": {"endpoint": "https://minio.example.com:9000/s3/"}}}),
    ]
}

fn wrong_mirrors() -> Vec<(Value, &'static str)> {
    let own = || json!({"s3": {"bucket": "images-us", "region": "us-east-1"}});
    let mirror = |more: Value| {
        let mut mirror = json!({"name": "us", "storage": own()});
        merge(&mut mirror, &more);
        json!({"mirrors": [mirror]})
    };
    let beside = |more: Value| {
        let mut spec = mirror(json!({}));
        merge(&mut spec, &more);
        spec
    };
    let remote = |more: Value| {
        let mut mirror = json!({"name": "us", "remote": true});
        merge(&mut mirror, &more);
        json!({"mirrors": [mirror]})
    };
    let same = json!({"bucket": Bucket::NAME, "prefix": "same", "endpoint": Bucket::ENDPOINT, "region": "here"});
    let upstream = json!({"region": "us", "upstream": {"credentialsSecretRef": {"name": "join"}}});
    vec![
        (mirror(json!({"name": "US"})), "spec.mirrors[0].name"),
        (mirror(json!({"name": null})), "spec.mirrors[0].name"),
        (mirror(json!({"name": "peer"})), "`name` must not be one that objects"),
        (mirror(json!({"name": "join-us"})), "`name` must not be one that objects"),
        (mirror(json!({"name": "x".repeat(36)})), "at most 39 characters together"),
        (mirror(json!({"region": "US East"})), "spec.mirrors[0].region"),
        (mirror(json!({"storage": null})), "`storage` must be set"),
        (mirror(json!({"storage": {"s3": {"bucket": "No"}}})), "spec.mirrors[0].storage.s3.bucket"),
        (mirror(json!({"replicas": 2})), "`replicas` must be"),
        (mirror(json!({"homeEndpoint": "http://home.example"})), "spec.mirrors[0].homeEndpoint"),
        (mirror(json!({"homeEndpoint": "https://a:b:c"})), "`homeEndpoint` must be a URL"),
        (mirror(json!({"placement": {"tolerations": [{"operator": "Maybe"}]}})), "`operator` must be"),
        (mirror(json!({"expose": {"service": {"nodePort": 30000}}})), "`nodePort` must not be set"),
        (remote(json!({"storage": own()})), "must not be set with `remote: true`"),
        (remote(json!({"replicas": 3})), "must not be set with `remote: true`"),
        (remote(json!({"expose": {"service": {"type": "NodePort"}}})), "must not be set with `remote: true`"),
        (json!({"mirrors": [{"name": "us", "remote": true}, {"name": "us", "remote": true}]}), "spec.mirrors[1]"),
        (json!({"mirrors": vec![json!({"name": "us", "remote": true}); 17]}), "spec.mirrors"),
        (beside(json!({"tls": {"provider": "Disabled"}})), "their tokens would travel unprotected"),
        (beside(upstream), "`mirrors` must not be set with `upstream`"),
        (
            json!({"storage": {"s3": {"prefix": "same"}}, "mirrors": [{"name": "us", "storage": {"s3": same}}]}),
            "must be another bucket or prefix",
        ),
    ]
}

/// The same, of what leads to the registry and multiplies it.
fn wrong_ways() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"expose": {"ingress": {"host": "Not A Host"}}}), "spec.expose.ingress.host"),
        (json!({"expose": {"ingress": {"className": "nginx"}}}), "spec.expose.ingress.host"),
        (json!({"expose": {"gateway": {"host": "a.example", "parentRefs": []}}}), "spec.expose.gateway.parentRefs"),
        (
            json!({"expose": {"ingress": {"host": "a.example"}, "gateway": {"host": "a.example", "parentRefs": [{"name": "edge"}]}}}),
            "`ingress` must not be set together",
        ),
        (json!({"tls": {"provider": "CertManager"}}), "`issuerRef` must be set"),
        (json!({"tls": {"issuerRef": {"name": "public"}}}), "`issuerRef` must be set"),
        (json!({"frontends": {"replicas": 65}}), "spec.frontends.replicas"),
        (json!({"frontends": {"replicas": -1}}), "spec.frontends.replicas"),
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
    let specs = [wrong_specs(), wrong_ways()].concat();
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

    for patch in right_upstreams() {
        let mut object = registry.eight_lines();
        merge(&mut object["spec"], &patch);
        api.create(&format!("{list}&dryRun=All"), &object).await.with_context(|| format!("{patch} is taken"))?;
    }
    watch.lap("what is just allowed is taken");

    nothing_for_ever_changes(&registry).await?;
    watch.lap("5 changes of what is for ever refused");
    world.remove_namespace("b02").await
}

/// What may be said once may not be taken back.
async fn nothing_for_ever_changes(registry: &Registry<'_>) -> Result<()> {
    let mut paused = registry.eight_lines();
    paused["spec"]["paused"] = json!(true);
    registry.apply(&paused).await?;
    let changes = [
        (json!({"storage": {"s3": {"bucket": "another"}}}), "`bucket` must not change"),
        (json!({"storage": {"s3": {"prefix": "another"}}}), "`prefix` must not change"),
        (json!({"metadataVolume": {"size": "1Gi"}}), "`size` must not shrink"),
        (
            json!({"region": "us", "upstream": {"credentialsSecretRef": {"name": "join"}}}),
            "`upstream` must not be set or taken away later",
        ),
        (json!({"bootstrap": {"restore": {}}}), "`bootstrap` must not change"),
    ];
    for (change, names) in changes {
        let Err(error) = registry.change(change.clone()).await else { anyhow::bail!("{change} was taken") };
        ensure!(format!("{error:#}").contains(names), "{change}: {error:#}");
    }
    Ok(())
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
