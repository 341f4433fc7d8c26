//! A replica's pod.

use roadstead_crds::{Amounts, Anonymous, TlsProvider};
use serde_json::{Value, json};

use super::object::{INPUTS, labels, merge};
use super::{PEER_PORT, PORT, Part, Wish, peer_name, pod_name};
use crate::plan::MAX_VOTERS;

/// Whose files the volumes are; any user of this group may run the process.
const GROUP: u32 = 65_532;

/// From being told to end to its end: for load balancers to notice, requests to finish, and everything to be written.
const TERMINATION_SECONDS: u32 = 60;

/// For how long load balancers may go on sending connections to a pod that ends.
const LINGER: &str = "3s";

/// What every pod of a StatefulSet is made of, but for the volume `data`.
pub(super) fn template(wish: &Wish, part: Part) -> Value {
    let mut metadata = json!({ "labels": labels(wish), "annotations": { INPUTS: wish.inputs() } });
    merge(&mut metadata, json!({ "labels": part.selector(&wish.name) }));
    let mut spec = json!({
        "serviceAccountName": wish.name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "fsGroup": GROUP,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "topologySpreadConstraints": [
            spread(wish, part, "topology.kubernetes.io/zone"),
            spread(wish, part, "kubernetes.io/hostname"),
        ],
        "containers": [container(wish, part)],
        "volumes": volumes(wish),
    });
    if !wish.spec.image_pull_secrets.is_empty() {
        merge(&mut spec, json!({ "imagePullSecrets": wish.spec.image_pull_secrets }));
    }
    if let Some(pod) = &wish.spec.pod {
        if !pod.node_selector.is_empty() {
            merge(&mut spec, json!({ "nodeSelector": pod.node_selector }));
        }
        if !pod.tolerations.is_empty() {
            merge(&mut spec, json!({ "tolerations": pod.tolerations }));
        }
        merge(&mut metadata, json!({ "labels": pod.labels, "annotations": pod.annotations }));
    }
    json!({ "metadata": metadata, "spec": spec })
}

/// Apart from each other where that can be: a cluster of one node is one, too.
fn spread(wish: &Wish, part: Part, topology: &str) -> Value {
    json!({
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": part.selector(&wish.name) },
    })
}

fn container(wish: &Wish, part: Part) -> Value {
    let scheme = if wish.spec.tls.provider == TlsProvider::Disabled { "HTTP" } else { "HTTPS" };
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": "registry", "scheme": scheme },
            "periodSeconds": period,
            "timeoutSeconds": 3,
            "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": "roadstead",
        "image": wish.image,
        "command": ["/roadstead", "serve"],
        // What it said at its end is in the pod's status, and so in the Registry's.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": environment(wish, part),
        "ports": [
            { "name": "registry", "containerPort": PORT, "protocol": "TCP" },
            { "name": "peers", "containerPort": PEER_PORT, "protocol": "TCP" },
        ],
        // A replica waits for its cluster before it listens: ten minutes, then again.
        "startupProbe": probe("/livez", 1, 600),
        "livenessProbe": probe("/livez", 10, 3),
        "readinessProbe": probe("/readyz", 2, 2),
        "lifecycle": { "preStop": { "exec": { "command": ["/roadstead", "drain", "--data", "/data", "--linger", LINGER] } } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": mounts(wish),
    });
    if let Some(resources) = &wish.spec.resources {
        let mut given = json!({});
        for (name, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
            if let Some(amounts) = amounts.as_ref().filter(|amounts| **amounts != Amounts::default()) {
                merge(&mut given, json!({ name: amounts }));
            }
        }
        merge(&mut container, json!({ "resources": given }));
    }
    container
}

/// The settings, which are those of `roadstead serve`.
fn environment(wish: &Wish, part: Part) -> Value {
    let s3 = &wish.spec.storage.s3;
    let seeds: Vec<String> = (0..MAX_VOTERS)
        .map(|ordinal| format!("{}:{PEER_PORT}", peer_name(wish, Part::Voter, &pod_name(&wish.name, ordinal))))
        .collect();
    let path_style =
        s3.force_path_style.unwrap_or_else(|| s3.endpoint.as_ref().is_some_and(|endpoint| !is_amazon(endpoint)));
    let mut settings = vec![
        ("LISTEN", format!("0.0.0.0:{PORT}")),
        ("DATA", "/data".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("STORAGE", "s3".to_owned()),
        ("S3_BUCKET", s3.bucket.clone()),
        ("S3_REGION", s3.region.clone()),
        ("S3_PATH_STYLE", path_style.to_string()),
        ("PEER_LISTEN", format!("0.0.0.0:{PEER_PORT}")),
        ("PEER_ADDRESS", format!("{}:{PEER_PORT}", peer_name(wish, part, "$(POD_NAME)"))),
        ("JOIN", seeds.join(",")),
        ("JOIN_AS", "learner".to_owned()),
        ("CLUSTER_CERTIFICATE", "/etc/roadstead/peer/tls.crt".to_owned()),
        ("CLUSTER_KEY", "/etc/roadstead/peer/tls.key".to_owned()),
        ("CLUSTER_CA", "/etc/roadstead/peer/ca.crt".to_owned()),
        ("HTPASSWD", format!("/etc/roadstead/{}/htpasswd", accounts(wish))),
    ];
    settings.extend(upstream(wish));
    if let Some(backup) = &wish.spec.backup {
        settings.push(("BACKUP_INTERVAL", backup.interval.clone()));
        settings.push(("BACKUP_RETENTION", backup.retention.clone()));
    }
    if !s3.prefix.is_empty() {
        settings.push(("S3_PREFIX", s3.prefix.clone()));
    }
    settings.extend(s3.endpoint.clone().map(|endpoint| ("S3_ENDPOINT", endpoint)));
    if wish.spec.tls.provider == TlsProvider::Disabled {
        settings.push(("INSECURE_HTTP", "true".to_owned()));
    } else {
        settings.push(("TLS_CERTIFICATE", "/etc/roadstead/serving/tls.crt".to_owned()));
        settings.push(("TLS_KEY", "/etc/roadstead/serving/tls.key".to_owned()));
    }
    if wish.spec.auth.anonymous == Anonymous::Pull {
        settings.push(("ANONYMOUS_PULL", "true".to_owned()));
    }
    let mut environment = vec![json!({
        "name": "POD_NAME",
        "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } },
    })];
    environment.extend(
        settings.into_iter().map(|(name, value)| json!({ "name": format!("ROADSTEAD_{name}"), "value": value })),
    );
    if let Some(secret) = &s3.credentials_secret_ref {
        environment.extend(
            CREDENTIALS.map(
                |key| json!({ "name": key, "valueFrom": { "secretKeyRef": { "name": secret.name, "key": key } } }),
            ),
        );
    }
    Value::Array(environment)
}

/// Whose logins are good: those of a mirror are its home's.
fn accounts(wish: &Wish) -> &'static str {
    if wish.has_accounts_of_home() { "upstream" } else { "push" }
}

/// The settings of a mirror.
fn upstream(wish: &Wish) -> Vec<(&'static str, String)> {
    let (Some(found), Some(asked)) = (&wish.upstream, &wish.spec.upstream) else { return Vec::new() };
    let mut settings =
        vec![("UPSTREAM", found.endpoint.clone()), ("UPSTREAM_TOKEN_FILE", "/etc/roadstead/upstream/token".to_owned())];
    if asked.ca_config_map_ref.is_some() {
        settings.push(("UPSTREAM_CA_FILE", "/etc/roadstead/upstream-ca/ca.crt".to_owned()));
    } else if found.has_authority {
        settings.push(("UPSTREAM_CA_FILE", "/etc/roadstead/upstream/ca.crt".to_owned()));
    }
    settings.extend(asked.rate.as_ref().map(|rate| ("UPSTREAM_RATE", format!("{rate}B"))));
    for (key, values) in [
        ("UPSTREAM_FILTER", &asked.filters),
        ("UPSTREAM_PLATFORM", &asked.platforms),
        ("UPSTREAM_WINDOW", &asked.windows),
    ] {
        if !values.is_empty() {
            settings.push((key, values.join(",")));
        }
    }
    settings
}

/// The keys of a Secret with S3 credentials.
pub(crate) const CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

fn is_amazon(endpoint: &str) -> bool {
    endpoint.trim_end_matches('/').ends_with(".amazonaws.com")
}

fn volumes(wish: &Wish) -> Value {
    // Readable for the group, since any user may run the process.
    const MODE: u32 = 0o440;
    let secret = |name: &str, secret: &str, items: &[&str]| {
        let items: Vec<_> = items.iter().map(|key| json!({ "key": key, "path": key })).collect();
        json!({ "name": name, "secret": { "secretName": secret, "defaultMode": MODE, "items": items } })
    };
    let mut volumes = vec![secret("peer", &wish.named("peer-tls"), &["tls.crt", "tls.key", "ca.crt"])];
    if !wish.has_accounts_of_home() {
        volumes.push(secret("push", &wish.named("push"), &["htpasswd"]));
    }
    if let (Some(found), Some(asked)) = (&wish.upstream, &wish.spec.upstream) {
        let mut keys = vec!["token"];
        keys.extend(found.has_authority.then_some("ca.crt"));
        keys.extend(found.has_accounts.then_some("htpasswd"));
        volumes.push(secret("upstream", &asked.credentials_secret_ref.name, &keys));
        volumes.extend(asked.ca_config_map_ref.as_ref().map(|given| {
            let items = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
            json!({ "name": "upstream-ca", "configMap": { "name": given.name, "defaultMode": MODE, "items": items } })
        }));
    }
    match (&wish.spec.tls.provider, &wish.spec.tls.secret_ref) {
        (TlsProvider::Disabled, _) => {}
        (TlsProvider::Secret, Some(given)) => volumes.push(secret("serving", &given.name, &["tls.crt", "tls.key"])),
        (TlsProvider::SelfSigned | TlsProvider::CertManager | TlsProvider::Secret, _) => {
            volumes.push(secret("serving", &wish.named("serving-tls"), &["tls.crt", "tls.key"]));
        }
    }
    Value::Array(volumes)
}

fn mounts(wish: &Wish) -> Value {
    let mounted = |name: &str| json!({ "name": name, "mountPath": format!("/etc/roadstead/{name}"), "readOnly": true });
    let mut mounts = vec![json!({ "name": "data", "mountPath": "/data" }), mounted("peer")];
    if !wish.has_accounts_of_home() {
        mounts.push(mounted("push"));
    }
    if let Some(asked) = wish.spec.upstream.as_ref().filter(|_| wish.upstream.is_some()) {
        mounts.push(mounted("upstream"));
        mounts.extend(asked.ca_config_map_ref.as_ref().map(|_| mounted("upstream-ca")));
    }
    if wish.spec.tls.provider != TlsProvider::Disabled {
        mounts.push(mounted("serving"));
    }
    Value::Array(mounts)
}
