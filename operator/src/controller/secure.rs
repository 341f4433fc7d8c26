//! The Secrets of a registry, and the credentials with which the operator speaks to its replicas.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roadstead_crds::Registry;
use serde_json::Value;

use super::context::Context;
use super::reconcile::ReconcileError;
use crate::admin::Credentials;
use crate::ambient;
use crate::apply::Objects;
use crate::build::{Kind, Wish};
use crate::certificates::{Authority, Usage};
use crate::secrets::{self, Leaf};

/// What the operator calls itself to replicas.
const OPERATOR: &str = "operator.roadstead.internal";

/// Makes what is missing of them, renews what is old; `addresses` are what clients may call the registry besides its names.
/// With `is_paused`, nothing is written.
pub(super) async fn secure(
    context: &Context,
    objects: &Objects<'_>,
    registry: &Registry,
    wish: &Wish,
    addresses: &[String],
    is_paused: bool,
) -> Result<Credentials, ReconcileError> {
    let now = ambient::now();
    let (peers, peer_ca) = open_authority(objects, wish, "peer-ca", is_paused).await?;
    let mut leaves = vec![Leaf {
        name: wish.named("peer-tls"),
        authority: &peers,
        trusted: peer_ca.clone(),
        names: secrets::peer_names(wish),
        usage: Usage::Peer,
    }];
    let serving = if secrets::serves_own(wish) {
        Some(open_authority(objects, wish, "serving-ca", is_paused).await?)
    } else {
        None
    };
    if let Some((authority, ca)) = &serving {
        leaves.push(Leaf {
            name: wish.named("serving-tls"),
            authority,
            trusted: ca.clone(),
            names: secrets::serving_names(wish, addresses),
            usage: Usage::Server,
        });
    }
    if !is_paused {
        for leaf in &leaves {
            let present = objects.get(Kind::Secret, &leaf.name).await?;
            if let Some(renewed) = secrets::renewed(wish, leaf, present.as_ref(), now)? {
                objects.write(&renewed).await?;
            }
        }
        if let Some((_, ca)) = &serving {
            objects.apply(&secrets::trust(wish, ca)).await?;
        }
        if !wish.has_accounts_of_home() {
            let name = wish.named("push");
            match objects.get(Kind::Secret, &name).await? {
                Some(present) => objects.adopt(&secrets::retained(wish, &name), &present).await?,
                None => drop(objects.create(&secrets::push(wish, ambient::random()?)?).await?),
            }
        }
    }
    if let Some(credentials) = context.credentials(registry, &peer_ca, now) {
        return Ok(credentials);
    }
    let own = peers.issue(&[OPERATOR.to_owned()], Usage::Client, now)?;
    let credentials = Credentials::new(&own, &peer_ca).map_err(ReconcileError::Tls)?;
    context.keep_credentials(registry, &peer_ca, now, &credentials);
    Ok(credentials)
}

/// A CA, made if there is none; with its certificate as others trust it.
async fn open_authority(
    objects: &Objects<'_>,
    wish: &Wish,
    what: &str,
    is_paused: bool,
) -> Result<(Authority, String), ReconcileError> {
    let (name, now) = (wish.named(what), ambient::now());
    let present = match objects.get(Kind::Secret, &name).await? {
        Some(present) => present,
        None if is_paused => return Err(ReconcileError::Paused(name)),
        None => objects.create(&secrets::authority(wish, &name, &Authority::make(now)?)).await?,
    };
    if !is_paused {
        objects.adopt(&secrets::retained(wish, &name), &present).await?;
    }
    let field = |key: &str| decoded(&present, key).unwrap_or_default();
    Ok((Authority::open(&name, &field("tls.key"), now)?, field("tls.crt")))
}

/// A text in a Secret.
pub(super) fn decoded(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}
