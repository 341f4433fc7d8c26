//! Keeps what leads clients from outside to the registry, and takes away what is not wanted any more.

use roadstead_crds::Registry;

use super::trouble::Trouble;
use crate::apply::Objects;
use crate::build::{EXPOSURES, Kind, Wish, certificate, exposures};
use crate::secrets::issued_names;

/// Applies it. Tells which kind the cluster does not have.
pub(super) async fn expose(
    objects: &Objects<'_>,
    registry: &Registry,
    wish: &Wish,
    addresses: &[String],
) -> Result<Option<Trouble>, kube::Error> {
    let mut wanted = exposures(wish);
    wanted.extend(certificate(wish, &issued_names(wish, addresses)));
    let mut missing = None;
    for object in &wanted {
        match objects.apply(object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => missing = Some(object.kind),
            Err(error) => return Err(error),
        }
    }
    // What was wanted before can only be otherwise after a change of the spec.
    if registry.status.as_ref().and_then(|status| status.observed_generation) != registry.metadata.generation {
        for kind in EXPOSURES.into_iter().filter(|kind| wanted.iter().all(|object| object.kind != *kind)) {
            let name = if kind == Kind::Certificate { wish.named("serving") } else { wish.name.clone() };
            let present = objects.get(kind, &name).await?;
            let is_own = |owner: &serde_json::Value| owner["uid"] == wish.uid.as_str();
            let owners = present.as_ref().and_then(|present| present["metadata"]["ownerReferences"].as_array());
            if owners.into_iter().flatten().any(is_own) {
                objects.delete(kind, &name).await?;
            }
        }
    }
    Ok(missing.map(|kind| {
        let resource = kind.resource();
        let message = format!(
            "the cluster has no {} of {}: install what brings it, or take away what of the spec needs it",
            resource.kind, resource.api_version
        );
        Trouble { reason: "ApiMissing", message }
    }))
}
