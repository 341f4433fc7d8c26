//! The objects of a registry, out of what people wish: without a client, and without a way to fail.
//!
//! ```text
//!  Registry + what was found (image, credentials' hash) --> Wish --build--> objects --apply--> the API server
//! ```

mod disruption_budget;
mod errand;
mod exposure;
mod frontends;
#[cfg(test)]
pub(crate) mod golden;
mod mirror;
mod network_policy;
mod object;
mod part;
mod peers;
mod pod;
mod service;
mod stateful_set;

use std::time::Duration;

use roadstead_crds::{DeletionPolicy, RegistrySpec};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) use disruption_budget::disruption_budget;
pub(crate) use errand::{ERRAND, Errand, errand, first_volume};
pub(crate) use exposure::{EXPOSURES, certificate, exposures, host};
pub(crate) use frontends::frontends;
pub(crate) use mirror::{HOME, Join, home_endpoint, home_hosts, join, join_name, mirror};
pub(crate) use network_policy::network_policy;
pub(crate) use object::{INPUTS, Kind, Object};
pub(crate) use part::Part;
pub(crate) use peers::{PEER_PORT, peer_name, peers, pod_name};
pub(crate) use pod::CREDENTIALS;
pub(crate) use service::{PORT, endpoint, service};
pub(crate) use stateful_set::{stateful_set, volume_name};

const A_DAY: Duration = Duration::from_hours(24);

/// More than `tls.caOverlap` can say.
const MOST_MINUTES: u64 = 480 * 60;

/// What a registry is to be made of: what people wish, checked, with what was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub spec: RegistrySpec,
    /// The image that replicas run.
    pub image: String,
    /// The one that they would run if the spec named none.
    pub pinned: String,
    /// A hash of the S3 credentials, so that replicas are restarted when they change.
    pub credentials: Option<String>,
    /// Of a mirror: how it follows its home.
    pub upstream: Option<UpstreamWish>,
}

/// How a mirror follows its home: what was found in its join Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamWish {
    /// An https URL.
    pub endpoint: String,
    /// Whether the Secret says who has signed home's certificate.
    pub has_authority: bool,
    /// Whether it says which logins are good at home, and so here.
    pub has_accounts: bool,
}

impl Wish {
    /// The name of one of its objects.
    pub(crate) fn named(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    /// Voters that are wanted.
    pub(crate) fn voters(&self) -> u32 {
        u32::try_from(self.spec.replicas).unwrap_or(1).max(1)
    }

    /// Replicas without a vote that are wanted.
    pub(crate) fn frontends(&self) -> u32 {
        u32::try_from(self.spec.frontends.replicas).unwrap_or(0)
    }

    /// For how long clients are told of another CA before its certificate is shown.
    pub(crate) fn ca_overlap(&self) -> Duration {
        let (number, unit) = self.spec.tls.ca_overlap.split_at(self.spec.tls.ca_overlap.len().saturating_sub(1));
        let minutes = if unit == "h" { 60 } else { 1 };
        // Anything else was refused at admission.
        number.parse::<u64>().map_or(A_DAY, |number| Duration::from_secs(60 * minutes * number.min(MOST_MINUTES)))
    }

    /// What of the wish a replica must be restarted for. What the operator makes of it may change with its release, and
    /// restarts nothing.
    pub(crate) fn inputs(&self) -> String {
        let RegistrySpec { storage, tls, auth, resources, pod, image_pull_secrets, .. } = &self.spec;
        let mut inputs = json!([
            self.image,
            self.credentials,
            storage,
            [json!(tls.provider), json!(tls.secret_ref)],
            auth,
            resources,
            pod,
            image_pull_secrets,
        ]);
        if let (Some(found), Some(asked), Some(inputs)) = (&self.upstream, &self.spec.upstream, inputs.as_array_mut()) {
            // The token and the authority are read again when they change.
            inputs.push(json!([found.endpoint, found.has_authority, found.has_accounts, asked]));
        }
        if let (Some(backup), Some(inputs)) = (&self.spec.backup, inputs.as_array_mut()) {
            inputs.push(json!(backup));
        }
        short_hash(&inputs)
    }

    /// Whether logins are those of its home, so that it needs no credential of its own.
    pub(crate) fn has_accounts_of_home(&self) -> bool {
        self.upstream.as_ref().is_some_and(|upstream| upstream.has_accounts)
    }

    /// Owns what goes when the Registry goes.
    pub(crate) fn owner(&self) -> Value {
        json!([{
            "apiVersion": "roadstead.dev/v1alpha1",
            "kind": "Registry",
            "name": self.name,
            "uid": self.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }])
    }

    /// Owns what outlives the Registry unless it is to be deleted with it.
    pub(crate) fn owner_if_deleted(&self) -> Value {
        match self.spec.deletion_policy {
            DeletionPolicy::Retain => json!([]),
            DeletionPolicy::Delete => self.owner(),
        }
    }
}

/// A few letters that are others for other values.
pub(crate) fn short_hash(value: &Value) -> String {
    hex::encode(&Sha256::digest(value.to_string())[..8])
}

/// What is made for every registry and does not depend on what its replicas do.
pub(crate) fn objects(wish: &Wish) -> Vec<Object> {
    vec![service_account(wish), peers(wish), service(wish), network_policy(wish)]
}

/// Whom the pods are to the cluster: nobody, with no token.
fn service_account(wish: &Wish) -> Object {
    Object::owned(Kind::ServiceAccount, wish, &wish.name, json!({ "automountServiceAccountToken": false }))
}
