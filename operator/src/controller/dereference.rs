//! Finds what a Registry names, and checks it.

use roadstead_crds::Registry;
use serde_json::json;

use super::join;
use crate::apply::Objects;
use crate::build::{CREDENTIALS, Kind, Wish, short_hash};
use crate::secrets::content;

/// Why a Registry cannot be what it is to be. People have to change something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    /// A Secret is not there.
    #[error("the Secret {name} is not there; `{field}` names it")]
    NoSecret {
        /// Of the Secret.
        name: String,
        /// In the spec.
        field: &'static str,
    },
    /// A key of a Secret is not there.
    #[error("the Secret {name} has no key `{key}`; `{field}` names it")]
    NoKey {
        /// Of the Secret.
        name: String,
        /// In it.
        key: &'static str,
        /// In the spec.
        field: &'static str,
    },
    /// A ConfigMap is not there, or has no CA.
    #[error("there is no ConfigMap {name} with a key `ca.crt`; `{field}` names it")]
    NoAuthority {
        /// Of the ConfigMap.
        name: String,
        /// In the spec.
        field: &'static str,
    },
    /// A token and images would travel unprotected.
    #[error("the `endpoint` of the Secret {name} is no https URL; `{field}` names it")]
    NotHttps {
        /// Of the Secret.
        name: String,
        /// In the spec.
        field: &'static str,
    },
}

impl Invalid {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::NoSecret { .. } => "SecretMissing",
            Self::NoKey { .. } | Self::NotHttps { .. } => "SecretIncomplete",
            Self::NoAuthority { .. } => "ConfigMapMissing",
        }
    }
}

/// Finds and checks.
pub(super) async fn dereference(
    objects: &Objects<'_>,
    registry: &Registry,
    default_image: &str,
) -> Result<Result<Wish, Invalid>, kube::Error> {
    let s3 = &registry.spec.storage.s3;
    let credentials = match &s3.credentials_secret_ref {
        None => None,
        Some(named) => match hash(objects, &named.name, "storage.s3.credentialsSecretRef", CREDENTIALS).await? {
            Ok(hash) => Some(hash),
            Err(invalid) => return Ok(Err(invalid)),
        },
    };
    if let Some(named) = &registry.spec.tls.secret_ref {
        // A renewed certificate is used without a restart, so that its hash does not matter.
        let found = hash(objects, &named.name, "tls.secretRef", ["tls.crt", "tls.key"]).await?;
        if let Err(invalid) = found {
            return Ok(Err(invalid));
        }
    }
    let upstream = match &registry.spec.upstream {
        None => None,
        Some(upstream) => match join::dereference(objects, upstream).await? {
            Ok(found) => Some(found),
            Err(invalid) => return Ok(Err(invalid)),
        },
    };
    let pinned = registry.status.as_ref().and_then(|status| status.image.clone());
    let pinned = pinned.unwrap_or_else(|| default_image.to_owned());
    let image = registry.spec.image.clone().unwrap_or_else(|| pinned.clone());
    Ok(Ok(Wish {
        name: registry.metadata.name.clone().unwrap_or_default(),
        namespace: objects.namespace.to_owned(),
        uid: registry.metadata.uid.clone().unwrap_or_default(),
        spec: registry.spec.clone(),
        image,
        pinned,
        credentials,
        upstream,
    }))
}

/// A hash of these keys of a Secret.
async fn hash(
    objects: &Objects<'_>,
    name: &str,
    field: &'static str,
    keys: [&'static str; 2],
) -> Result<Result<String, Invalid>, kube::Error> {
    let Some(secret) = objects.get(Kind::Secret, name).await? else {
        return Ok(Err(Invalid::NoSecret { name: name.to_owned(), field }));
    };
    let mut values = Vec::new();
    for key in keys {
        match content(&secret, key) {
            Some(value) => values.push(hex::encode(value)),
            None => return Ok(Err(Invalid::NoKey { name: name.to_owned(), key, field })),
        }
    }
    Ok(Ok(short_hash(&json!(values))))
}
