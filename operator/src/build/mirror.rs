//! What a home makes for its mirrors: the join Secret of each, and the Registry of those of this cluster.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roadstead_crds::{Mirror, ServiceType};
use serde_json::{Value, json};

use super::object::{Kind, Object, merge};
use super::{PORT, Wish};

/// On the Registry of a mirror: the name of its home, in the same namespace.
pub(crate) const HOME: &str = "roadstead.dev/home";

/// On the Registry and on the join Secret of a mirror: the name of its entry.
pub(crate) const MIRROR: &str = "roadstead.dev/mirror";

/// What a mirror needs to follow its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    /// An https URL.
    pub endpoint: String,
    /// Home's cluster id.
    pub cluster: String,
    /// Minted by home for this mirror.
    pub token: String,
    /// Who has signed home's certificate, if that is known.
    pub authority: Option<String>,
    /// The logins that are good at home: hashes.
    pub accounts: Option<String>,
}

/// The name of the Registry of a mirror of this cluster.
pub(crate) fn mirror_name(wish: &Wish, mirror: &Mirror) -> String {
    wish.named(&mirror.name)
}

/// The name of a mirror's join Secret.
pub(crate) fn join_name(wish: &Wish, mirror: &Mirror) -> String {
    wish.named(&format!("join-{}", mirror.name))
}

/// The join Secret of a mirror. It outlives its entry, since its token cannot be had a second time.
pub(crate) fn join(wish: &Wish, mirror: &Mirror, join: &Join) -> Object {
    let mut data = json!({});
    let known = [
        ("endpoint", Some(&join.endpoint)),
        ("cluster", Some(&join.cluster)),
        ("token", Some(&join.token)),
        ("ca.crt", join.authority.as_ref()),
        ("htpasswd", join.accounts.as_ref()),
    ];
    for (key, text) in known {
        if let Some(text) = text {
            merge(&mut data, json!({ key: STANDARD.encode(text) }));
        }
    }
    let content = json!({ "metadata": { "labels": { MIRROR: mirror.name } }, "type": "Opaque", "data": data });
    Object::retained(Kind::Secret, wish, &join_name(wish, mirror), content)
}

/// The Registry of a mirror of this cluster: nobody owns it, so that a region's data goes only with its own Registry.
pub(crate) fn mirror(wish: &Wish, mirror: &Mirror) -> Object {
    let home = &wish.spec;
    let mut spec = json!({
        "region": mirror.region.as_ref().unwrap_or(&mirror.name),
        "replicas": mirror.replicas.unwrap_or(home.replicas),
        "storage": mirror.storage,
        "metadataVolume": home.metadata_volume,
        "auth": home.auth,
        "upstream": { "credentialsSecretRef": { "name": join_name(wish, mirror) } },
    });
    let optional = [
        ("image", json!(home.image)),
        ("imagePullSecrets", json!(home.image_pull_secrets)),
        ("resources", json!(home.resources)),
        ("expose", json!(mirror.expose)),
        ("pod", json!(mirror.placement)),
        ("topology", json!(home.topology)),
        // Not home's: what a mirror has comes from there.
        ("backup", json!(mirror.backup)),
    ];
    for (field, value) in optional.into_iter().filter(|(_, value)| !value.is_null() && *value != json!([])) {
        merge(&mut spec, json!({ field: value }));
    }
    let labels = json!({ HOME: wish.name, MIRROR: mirror.name });
    let content = json!({ "metadata": { "labels": labels }, "spec": spec });
    Object::unowned(Kind::Registry, wish, &mirror_name(wish, mirror), content)
}

/// Where a mirror reaches this registry, if there is such a place.
pub(crate) fn home_endpoint(wish: &Wish, mirror: &Mirror, service: &Value) -> Option<String> {
    if let Some(endpoint) = &mirror.home_endpoint {
        return Some(endpoint.trim_end_matches('/').to_owned());
    }
    if !mirror.remote {
        return Some(format!("https://{}.{}.svc:{PORT}", wish.name, wish.namespace));
    }
    let first = service.pointer("/status/loadBalancer/ingress/0")?;
    let host = first["hostname"].as_str().or_else(|| first["ip"].as_str())?;
    let is_balanced = wish.spec.expose.service.type_ == ServiceType::LoadBalancer;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    is_balanced.then(|| format!("https://{host}:{PORT}"))
}

/// The hosts by which mirrors call this registry besides its Service's: they belong into its certificate.
pub(crate) fn home_hosts(wish: &Wish) -> Vec<String> {
    let endpoints = wish.spec.mirrors.iter().filter_map(|mirror| mirror.home_endpoint.as_deref());
    endpoints.filter_map(host).collect()
}

/// The host of an https URL without a path.
fn host(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.trim_end_matches('/');
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::is_within;
    use crate::build::golden;

    /// What is no longer wanted is not in an object that is to be; without a mark, it would be no difference.
    #[test]
    fn what_is_taken_away_from_an_entry_is_taken_away_from_its_mirror() {
        let entry = json!({
            "name": "us", "region": "us-east", "replicas": 5,
            "storage": { "s3": {
                "bucket": "images-us", "region": "us-east-1", "endpoint": "https://s3.example.com", "forcePathStyle": true,
                "credentialsSecretRef": { "name": "bucket-us" },
            } },
            "placement": { "nodeSelector": { "region": "us-east" }, "tolerations": [{ "key": "far", "operator": "Exists" }] },
            "expose": { "service": { "type": "LoadBalancer", "annotations": { "example.com/internal": "true" } } },
            "backup": { "interval": "12h", "retention": "48h" },
        });
        let mirror_of = |entry: &Value| {
            let entry: Mirror = serde_json::from_value(entry.clone()).unwrap();
            mirror(&golden::wish(), &entry).value
        };
        let whole = mirror_of(&entry);
        for path in [
            "/region",
            "/replicas",
            "/storage/s3/endpoint",
            "/storage/s3/forcePathStyle",
            "/storage/s3/credentialsSecretRef",
            "/placement",
            "/placement/nodeSelector",
            "/placement/tolerations",
            "/expose",
            "/expose/service/annotations",
            "/backup",
        ] {
            let (parent, field) = path.rsplit_once('/').unwrap();
            let mut less = entry.clone();
            let taken = less.pointer_mut(parent).and_then(Value::as_object_mut).unwrap().remove(field);
            assert!(taken.is_some(), "{path}");
            let less = mirror_of(&less);
            assert!(is_within(&less, &less) && !is_within(&less, &whole), "without {path} nothing is written");
        }
    }

    #[test]
    fn the_host_of_an_endpoint() {
        for (url, expected) in [
            ("https://registry.example.com", Some("registry.example.com")),
            ("https://registry.example.com:5000/", Some("registry.example.com")),
            ("https://10.0.0.7:5000", Some("10.0.0.7")),
            ("https://[fd00::7]:5000", Some("fd00::7")),
            ("https://:5000", None),
        ] {
            assert_eq!(host(url).as_deref(), expected, "{url}");
        }
    }
}
