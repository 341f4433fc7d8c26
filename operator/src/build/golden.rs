//! The objects as files, for people to read and for changes to be seen: `golden/*.yaml`.

use std::path::Path;

use roadstead_crds::{Registry, yaml};
use serde_json::json;

use super::{
    Errand, Join, Object, UpstreamWish, Wish, certificate, disruption_budget, errand, exposures, first_volume,
    frontends, join, mirror, objects, service, stateful_set,
};

/// The shortest Registry.
pub(crate) fn wish() -> Wish {
    let spec = json!({
        "storage": { "s3": {
            "bucket": "images", "endpoint": "http://minio.storage:9000", "region": "eu-central-1",
            "credentialsSecretRef": { "name": "bucket" },
        } },
    });
    of(&spec)
}

fn of(spec: &serde_json::Value) -> Wish {
    let registry = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "Registry", "metadata": { "name": "home" }, "spec": spec,
    });
    let registry: Registry = serde_json::from_value(registry).unwrap();
    Wish {
        name: "home".to_owned(),
        namespace: "images".to_owned(),
        uid: "00000000-0000-0000-0000-000000000001".to_owned(),
        spec: registry.spec,
        image: "registry.example.com/roadstead:1.2.3".to_owned(),
        pinned: "registry.example.com/roadstead:1.2.0".to_owned(),
        credentials: Some("0123456789abcdef".to_owned()),
        upstream: None,
    }
}

/// A home with a mirror in this cluster and one in another.
fn home() -> Wish {
    of(&json!({
        "region": "eu",
        "storage": { "s3": { "bucket": "images", "region": "eu-central-1" } },
        "auth": { "anonymous": "Pull" },
        "backup": { "interval": "6h", "retention": "168h" },
        "mirrors": [
            {
                "name": "us", "region": "us-east", "replicas": 1,
                "storage": { "s3": { "bucket": "images-us", "region": "us-east-1" } },
                "placement": { "nodeSelector": { "topology.kubernetes.io/region": "us-east" } },
                "expose": { "service": { "type": "LoadBalancer" } },
                "backup": { "retention": "48h" },
            },
            { "name": "asia", "remote": true, "homeEndpoint": "https://registry.example.com:5000/" },
        ],
    }))
}

/// A mirror, as the other cluster has it.
fn mirror_wish() -> Wish {
    let mut wish = of(&json!({
        "region": "asia",
        "storage": { "s3": { "bucket": "images-asia", "region": "ap-south-1" } },
        "upstream": { "credentialsSecretRef": { "name": "home-join-asia" }, "rate": "50Mi" },
    }));
    wish.upstream = Some(UpstreamWish {
        endpoint: "https://registry.example.com:5000".to_owned(),
        has_authority: true,
        has_accounts: true,
    });
    wish
}

/// One in which everything is said.
fn talkative() -> Wish {
    of(&json!({
        "replicas": 5,
        "storage": { "s3": {
            "bucket": "images", "prefix": "home", "region": "eu-central-1", "forcePathStyle": true,
        } },
        "metadataVolume": { "size": "20Gi", "storageClassName": "fast" },
        "tls": { "provider": "Secret", "secretRef": { "name": "certificate" } },
        "auth": { "anonymous": "Pull" },
        "expose": { "service": { "type": "NodePort", "nodePort": 30500, "annotations": { "a": "b" } } },
        "resources": { "requests": { "cpu": "500m", "memory": "256Mi" }, "limits": { "memory": "1Gi" } },
        "pod": {
            "nodeSelector": { "disk": "fast" },
            "tolerations": [{ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" }],
            "labels": { "team": "platform" }, "annotations": { "note": "yes" },
        },
        "imagePullSecrets": [{ "name": "pull" }],
        "backup": { "interval": "6h", "retention": "168h" },
        "deletionPolicy": "Delete",
    }))
}

/// `ROADSTEAD_WRITE_GOLDEN=1` writes the files anew.
fn check(name: &str, objects: &[Object]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let text = objects.iter().fold(String::new(), |text, object| text + "---\n" + &yaml(&object.value));
    if std::env::var_os("ROADSTEAD_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(golden == text, "{name} is not what is built; the difference is shown by writing it anew");
}

fn all(wish: &Wish) -> Vec<Object> {
    let budget = disruption_budget(wish, wish.voters());
    objects(wish).into_iter().chain([stateful_set(wish, wish.voters())]).chain(budget).collect()
}

#[test]
fn golden_objects() {
    check("shortest.yaml", &all(&wish()));
    check("talkative.yaml", &all(&talkative()));
    check("mirror.yaml", &all(&mirror_wish()));
    let wish = home();
    let [here, there] = &wish.spec.mirrors[..] else { panic!("two mirrors") };
    let joined = Join {
        endpoint: "https://registry.example.com:5000".to_owned(),
        cluster: "00000000-0000-0000-0000-000000000007".to_owned(),
        token: "rsm_0".to_owned(),
        authority: Some("PEM".to_owned()),
        accounts: Some("push:hash".to_owned()),
    };
    check("mirrors.yaml", &[join(&wish, here, &joined), mirror(&wish, here), join(&wish, there, &joined)]);
}

#[test]
fn golden_additions() {
    let passthrough = of(&json!({
        "storage": { "s3": { "bucket": "images", "region": "eu-central-1" } },
        "tls": { "provider": "CertManager", "issuerRef": { "name": "public", "kind": "ClusterIssuer" } },
        "expose": {
            "service": { "type": "LoadBalancer" },
            "gateway": { "host": "images.example.com", "parentRefs": [{ "name": "edge", "namespace": "edge" }] },
        },
    }));
    let mut terminated = wish();
    let gateway = json!({ "host": "images.example.com", "parentRefs": [{ "name": "edge" }], "tls": "Terminate" });
    terminated.spec.expose.gateway = serde_json::from_value(gateway).unwrap();
    let mut by_ingress = wish();
    let ingress = json!({
        "host": "images.example.com", "className": "nginx", "tlsSecretRef": { "name": "images" },
        "annotations": { "nginx.ingress.kubernetes.io/proxy-body-size": "10g" },
    });
    by_ingress.spec.expose.ingress = serde_json::from_value(ingress).unwrap();
    let exposed = [service(&passthrough)].into_iter();
    let exposed = exposed.chain([&passthrough, &terminated, &by_ingress].into_iter().flat_map(exposures));
    let names = ["images.example.com", "10.0.0.7"].map(str::to_owned);
    check("exposed.yaml", &exposed.chain(certificate(&passthrough, &names)).collect::<Vec<_>>());
    let restore = Errand::Restore { options: vec!["--sequence".to_owned(), "57".to_owned()] };
    let recover = Errand::Recover { ordinal: 2, cluster: "00000000-0000-0000-0000-000000000007".to_owned() };
    let mut with_frontends = wish();
    with_frontends.spec.frontends.replicas = 5;
    check("frontends.yaml", &frontends(&with_frontends));
    let errands = [first_volume(&wish()), errand(&wish(), &restore), errand(&talkative(), &recover)];
    check("errands.yaml", &errands);
}

#[test]
fn a_mirror_is_restarted_for_another_home_and_not_for_another_token() {
    let inputs = mirror_wish().inputs();
    let mut other = mirror_wish();
    other.upstream.as_mut().unwrap().endpoint = "https://other.example.com".to_owned();
    assert_ne!(other.inputs(), inputs);
    // What is no mirror has the inputs that it had before there were any.
    let mut none = mirror_wish();
    none.upstream = None;
    none.spec.upstream = None;
    assert_ne!(none.inputs(), inputs);
}

#[test]
fn a_replica_is_restarted_for_what_concerns_it_alone() {
    let inputs = wish().inputs();
    let with = |change: fn(&mut Wish)| {
        let mut wish = wish();
        change(&mut wish);
        wish.inputs()
    };
    assert_eq!(with(|wish| wish.spec.replicas = 5), inputs);
    assert_eq!(with(|wish| wish.spec.frontends.replicas = 5), inputs);
    assert_eq!(with(|wish| wish.spec.metadata_volume.size = "20Gi".to_owned()), inputs);
    assert_eq!(with(|wish| wish.spec.tls.names = vec!["images.example.com".to_owned()]), inputs);
    assert_ne!(with(|wish| wish.image = "other".to_owned()), inputs);
    let backup = |wish: &mut Wish| wish.spec.backup = serde_json::from_value(json!({ "interval": "6h" })).unwrap();
    assert_ne!(with(backup), inputs);
    assert_ne!(with(|wish| wish.credentials = None), inputs);
    assert_ne!(with(|wish| wish.spec.storage.s3.region = "eu-west-1".to_owned()), inputs);
}

#[test]
fn a_quorum_stays_whatever_is_evicted() {
    for (voters, away) in [(1, None), (2, Some(0)), (3, Some(1)), (4, Some(1)), (5, Some(2)), (7, Some(3))] {
        let budget = disruption_budget(&wish(), voters);
        assert_eq!(budget.map(|budget| budget.value["spec"]["maxUnavailable"].as_u64().unwrap()), away, "{voters}");
    }
}

#[test]
fn the_overlap_of_authorities_is_in_hours_or_minutes() {
    let overlap = |text: &str| {
        let mut wish = wish();
        wish.spec.tls.ca_overlap = text.to_owned();
        wish.ca_overlap().as_secs()
    };
    assert_eq!(["24h", "90m", "1m", ""].map(overlap), [86_400, 5_400, 60, 86_400]);
    assert_eq!(wish().ca_overlap().as_secs(), 86_400);
}
