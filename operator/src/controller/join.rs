//! Finds what a mirror's join Secret says.

use roadstead_crds::Upstream;

use super::dereference::Invalid;
use crate::apply::Objects;
use crate::build::{Kind, UpstreamWish};
use crate::secrets::{content, decoded};

/// Where people wrote the Secret's name.
const SECRET: &str = "upstream.credentialsSecretRef";

/// Where people wrote the ConfigMap's name.
const CONFIG_MAP: &str = "upstream.caConfigMapRef";

/// Finds and checks.
pub(super) async fn dereference(
    objects: &Objects<'_>,
    upstream: &Upstream,
) -> Result<Result<UpstreamWish, Invalid>, kube::Error> {
    let name = &upstream.credentials_secret_ref.name;
    let Some(secret) = objects.get(Kind::Secret, name).await? else {
        return Ok(Err(Invalid::NoSecret { name: name.clone(), field: SECRET }));
    };
    if let Some(named) = &upstream.ca_config_map_ref {
        let map = objects.get_now(Kind::ConfigMap, &named.name).await?;
        if !map.is_some_and(|map| map["data"]["ca.crt"].is_string()) {
            return Ok(Err(Invalid::NoAuthority { name: named.name.clone(), field: CONFIG_MAP }));
        }
    }
    let endpoint = decoded(&secret, "endpoint");
    Ok(check(upstream, endpoint.as_deref().map(str::trim), |key| content(&secret, key).is_some()))
}

/// What was found, if a mirror can be made of it.
fn check(upstream: &Upstream, endpoint: Option<&str>, has: impl Fn(&str) -> bool) -> Result<UpstreamWish, Invalid> {
    let name = &upstream.credentials_secret_ref.name;
    let missing = |key| Invalid::NoKey { name: name.clone(), key, field: SECRET };
    if !has("token") {
        return Err(missing("token"));
    }
    let endpoint = upstream.endpoint.as_deref().or(endpoint).ok_or_else(|| missing("endpoint"))?;
    // The rest of what it may be, the replicas say when they start.
    if !endpoint.starts_with("https://") {
        return Err(Invalid::NotHttps { name: name.clone(), field: SECRET });
    }
    Ok(UpstreamWish {
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        has_authority: has("ca.crt"),
        has_accounts: has("htpasswd"),
    })
}

#[cfg(test)]
mod tests {
    use roadstead_crds::SecretRef;

    use super::*;

    fn upstream(endpoint: Option<&str>) -> Upstream {
        Upstream {
            endpoint: endpoint.map(str::to_owned),
            credentials_secret_ref: SecretRef { name: "join".to_owned() },
            ca_config_map_ref: None,
            rate: None,
            filters: Vec::new(),
            platforms: Vec::new(),
            windows: Vec::new(),
        }
    }

    #[test]
    fn what_is_said_here_goes_before_what_home_said() {
        let found = check(&upstream(Some("https://here:5000/")), Some("https://there"), |_| true).unwrap();
        assert_eq!(found.endpoint, "https://here:5000");
        let found = check(&upstream(None), Some("https://there"), |key| key == "token").unwrap();
        assert_eq!((&*found.endpoint, found.has_authority, found.has_accounts), ("https://there", false, false));
    }

    #[test]
    fn what_makes_no_mirror_is_named() {
        let wrong = |endpoint, has: fn(&str) -> bool| check(&upstream(None), endpoint, has).unwrap_err().to_string();
        assert!(wrong(Some("https://there"), |key| key != "token").contains("`token`"));
        assert!(wrong(None, |_| true).contains("`endpoint`"));
        assert!(wrong(Some("http://there"), |_| true).contains("https"));
    }
}
