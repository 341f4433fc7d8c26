//! One look at one Registry, and at most one step for its replicas.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, try_join_all};
use kube::runtime::controller::Action;
use roadstead_crds::{Registry, RegistryStatus};
use serde_json::Value;

use super::act::{ActError, act, any_note};
use super::backup;
use super::context::{Context, Weight};
use super::dereference::{Invalid, dereference};
use super::drain;
use super::errand;
use super::expose::expose;
use super::foresight::foreseen;
use super::frontends::keep_frontends;
use super::mirrors::Homeland;
use super::node_port;
use super::observe::{Freshness, Sight, list, look, noted};
use super::regions;
use super::secure::{Secured, rotate, secure};
use super::status::{self, Said};
use super::topology;
use crate::ahead::Ahead;
use crate::ambient;
use crate::apply::{Objects, is_within, quantity};
use crate::build::{self, Kind, Object, Wish};
use crate::certificates::CertificateError;
use crate::plan::{Plan, Step, plan};

/// After a step: the world has moved.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The first looks while something is waited for, and the last ones.
const SOON: Duration = Duration::from_millis(500);
const LATER: Duration = Duration::from_secs(10);

/// When all is well, and nothing of the cluster says otherwise: replicas may have elected another leader.
const SETTLED: Duration = Duration::from_secs(15);

/// When all is well with a mirror: how far it is behind its home is to be seen soon.
const FOLLOWING: Duration = Duration::from_secs(5);

/// When people have to change something; the change itself is seen at once, unless it is in a Secret.
const INVALID: Duration = Duration::from_secs(15);

/// Why it did not come to an end. It is tried again, after a pause that grows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server did not answer as was hoped.
    #[error("the API server: {0}")]
    Kubernetes(#[from] kube::Error),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Certificates cannot be used.
    #[error("TLS does not take the certificates: {0}")]
    Tls(String),
    /// No credential.
    #[error("a credential cannot be made: {0}")]
    Credential(#[from] bcrypt::BcryptError),
    /// No random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(#[from] rand::rand_core::OsError),
    /// Something is missing that is not made while paused.
    #[error("the Secret {0} is not there, and nothing is made while `paused` is true")]
    Paused(String),
}

/// See the module.
pub(super) async fn reconcile(registry: Arc<Registry>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let timer = context.metrics.reconcile_seconds.start_timer();
    let result = Box::pin(reconcile_once(&registry, &context)).await;
    timer.observe_duration();
    context.metrics.reconciles.with_label_values(&[if result.is_ok() { "done" } else { "failed" }]).inc();
    result
}

async fn reconcile_once(registry: &Registry, context: &Context) -> Result<Action, ReconcileError> {
    if registry.metadata.deletion_timestamp.is_some() {
        // Everything that goes is owned, and goes by itself.
        context.forget(registry);
        return Ok(Action::await_change());
    }
    let namespace = registry.metadata.namespace.clone().unwrap_or_default();
    let (Context { client, writes, cache, .. }, ahead) = (context, Ahead::default());
    let objects = Objects { client, namespace: &namespace, writes, cache, ahead: &ahead };
    let name = registry.metadata.name.as_deref().unwrap_or_default();
    let freshness = if context.begin(registry) { Freshness::AtHand } else { Freshness::Now };
    let listing = list(client, &namespace, name, freshness);
    let ((), listed) = join(Ahead::read(&objects, foreseen(registry)), listing).await;
    let wish = match dereference(&objects, registry, &context.image).await? {
        Ok(wish) => wish,
        Err(invalid) => return refuse(registry, context, &objects, &invalid).await,
    };
    let is_paused = wish.spec.paused;
    let service = prepare(&objects, &wish, is_paused).await?;
    let mut addresses = status::addresses(&service);
    addresses.extend(node_port::addresses(registry));
    let secured = secure(context, &objects, registry, &wish, &addresses, is_paused).await?;
    let note = objects.get_now(Kind::ConfigMap, &wish.named("beginning")).await?;
    if let Some(note) = note.as_ref().filter(|_| !is_paused) {
        objects.adopt(&any_note(&wish), note).await?;
    }
    let set = objects.get(Kind::StatefulSet, &wish.name).await?;
    let begun = note.as_ref().and_then(noted);
    let mut sight = look(client, &wish, listed?, set.as_ref(), begun, &secured.credentials).await?;
    if freshness == Freshness::AtHand && !is_still(&wish, &secured, &sight) {
        // Nothing is done by what may be old.
        let listed = list(client, &namespace, name, Freshness::Now).await?;
        sight = look(client, &wish, listed, set.as_ref(), begun, &secured.credentials).await?;
    }
    let plan = plan(&sight.observed);
    let mut said = Said { plan, refused: None, invalid: None, errand: None, hindrance: None, tends: false };
    if !is_paused {
        said.hindrance = expose(&objects, registry, &wish, &addresses).await?;
        said.errand = errand::run(&objects, &wish, registry, &sight).await?;
        if let Some(told) = &said.errand {
            context.tell(registry, Weight::Normal, told.reason, told.message.clone()).await;
        }
    }
    if !is_paused && said.errand.is_none() {
        rotate(context, &objects, registry, &wish, &secured, &sight).await?;
        let budget = keep(&objects, &wish, set.as_ref(), &sight).await?;
        said.hindrance = drain::held_up(&context.client, &wish.name, &sight, &budget).await?.or(said.hindrance);
        if let Some((reason, note)) = keep_frontends(&objects, &wish, &sight, &secured.credentials).await? {
            context.tell(registry, Weight::Normal, reason, note).await;
            said.tends = true;
        }
        if let Plan::Do(step) = plan {
            said.refused = step_on(registry, context, &objects, &wish, &sight, &secured.credentials, step).await?;
        }
    }
    context.warn(registry, status::warning(&wish, &sight, &said)).await;
    let (wish, sight, service, objects) = (&wish, &sight, &service, &objects);
    let (credentials, accounts) = (&secured.credentials, secured.accounts.as_ref());
    let home = Homeland { context, registry, objects, wish, sight, credentials, accounts, service };
    let joined = if is_paused { None } else { Some(home.keep().await?) };
    let mut told = status::of(registry, Some(wish), Some(sight), &said, status::endpoint(wish, service));
    told.node_endpoints = node_port::endpoints(registry, wish, service, sight);
    regions::add(&mut told, registry, Some(wish), Some(sight), joined);
    backup::add(&mut told, registry, Some(sight));
    topology::keep(&mut told, context, registry, sight, credentials).await;
    let begun = sight.observed.begun.map(|begun| begun.cluster.to_string());
    publish(registry, context, objects, told, begun.as_deref()).await?;
    context.keep_settled(registry, !is_paused && is_still(wish, &secured, sight));
    Ok(Action::requeue(pause(registry, context, &said)))
}

/// Whether there is nothing to do for the pods and volumes of a registry.
fn is_still(wish: &Wish, secured: &Secured, sight: &Sight) -> bool {
    let frontends = &sight.frontends;
    let has_frontends = wish.frontends() > 0 || !frontends.pods.is_empty() || !frontends.learners.is_empty();
    plan(&sight.observed) == Plan::Done && sight.errand.is_none() && !secured.is_rotating() && !has_frontends
}

/// Makes what does not depend on the replicas, nor on each other; gives the Service as it is.
async fn prepare(objects: &Objects<'_>, wish: &Wish, is_paused: bool) -> Result<Value, kube::Error> {
    if !is_paused {
        try_join_all(build::objects(wish).iter().map(async |object| objects.apply(object).await)).await?;
    }
    Ok(objects.get(Kind::Service, &wish.name).await?.unwrap_or_default())
}

/// Keeps what follows the replicas: the StatefulSet as it is wished but for their number, the disruption budget, and volumes
/// that are to grow. Gives the disruption budget as it is.
async fn keep(objects: &Objects<'_>, wish: &Wish, set: Option<&Value>, sight: &Sight) -> Result<Value, kube::Error> {
    let voters = sight.observed.group.as_ref().map(|group| group.voters().count());
    let voters = voters.and_then(|voters| voters.try_into().ok()).unwrap_or_else(|| wish.voters());
    let budget = if let Some(budget) = build::disruption_budget(wish, voters) {
        objects.apply(&budget).await?
    } else {
        if objects.get(Kind::PodDisruptionBudget, &wish.name).await?.is_some() {
            objects.delete(Kind::PodDisruptionBudget, &wish.name).await?;
        }
        Value::Null
    };
    if let (Some(set), Some(replicas)) = (set, sight.observed.set)
        && !set["metadata"]["deletionTimestamp"].is_string()
    {
        keep_set(objects, wish, set, replicas, sight).await?;
    }
    Ok(budget)
}

async fn keep_set(
    objects: &Objects<'_>,
    wish: &Wish,
    set: &Value,
    replicas: u32,
    sight: &Sight,
) -> Result<(), kube::Error> {
    let wanted = build::stateful_set(wish, replicas);
    if is_grown(&wanted, set) {
        // A StatefulSet does not let its claims' template be changed: another one takes its pods over.
        return objects.delete(Kind::StatefulSet, &wish.name).await;
    }
    if !is_within(&wanted.value, set) {
        objects.write(&wanted).await?;
    }
    grow_volumes(objects, wish, sight).await
}

fn is_grown(wanted: &Object, set: &Value) -> bool {
    const SIZE: &str = "/spec/volumeClaimTemplates/0/spec/resources/requests/storage";
    let size = |value: &Value| value.pointer(SIZE).and_then(Value::as_str).and_then(quantity);
    size(&wanted.value) > size(set)
}

async fn grow_volumes(objects: &Objects<'_>, wish: &Wish, sight: &Sight) -> Result<(), kube::Error> {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use kube::Api;
    use kube::api::{Patch, PatchParams};

    let size = &wish.spec.metadata_volume.size;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(objects.client.clone(), objects.namespace);
    let is_smaller = |claim: &PersistentVolumeClaim| {
        let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
        asked.is_some_and(|asked| quantity(&asked.0) < quantity(size))
    };
    for claim in sight.claims.iter().filter(|claim| is_smaller(claim)) {
        let patch = serde_json::json!({ "spec": { "resources": { "requests": { "storage": size } } } });
        let name = claim.metadata.name.clone().unwrap_or_default();
        claims.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        objects.writes.note();
    }
    Ok(())
}

/// Does the step; says why, if it was refused.
async fn step_on(
    registry: &Registry,
    context: &Context,
    objects: &Objects<'_>,
    wish: &Wish,
    sight: &Sight,
    credentials: &crate::admin::Credentials,
    step: Step,
) -> Result<Option<String>, ReconcileError> {
    let result = act(objects, wish, sight, credentials, step).await;
    let outcome = if result.is_ok() { "done" } else { "refused" };
    context.metrics.steps.with_label_values(&[step.reason(), outcome]).inc();
    let refused = match result {
        Ok(()) => {
            tracing::info!(registry = wish.name, namespace = wish.namespace, "{step}");
            context.tell(registry, Weight::Normal, step.reason(), step.to_string()).await;
            return Ok(None);
        }
        Err(ActError::Kubernetes(error)) => return Err(error.into()),
        Err(ActError::Random(error)) => return Err(error.into()),
        Err(refused @ (ActError::Replica(_) | ActError::Budget(_) | ActError::Gone(_))) => refused,
    };
    tracing::info!(registry = wish.name, namespace = wish.namespace, reason = %refused, "{step}: not now: {refused}");
    if !matches!(refused, ActError::Gone(_)) {
        context.tell(registry, Weight::Warning, step.reason(), format!("{step}: not now: {refused}")).await;
    }
    Ok(Some(refused.to_string()))
}

async fn refuse(
    registry: &Registry,
    context: &Context,
    objects: &Objects<'_>,
    invalid: &Invalid,
) -> Result<Action, ReconcileError> {
    context.warn(registry, Some((invalid.reason(), invalid.to_string()))).await;
    let said =
        Said { plan: Plan::Done, refused: None, invalid: Some(invalid), errand: None, hindrance: None, tends: false };
    let mut told = status::of(registry, None, None, &said, None);
    regions::add(&mut told, registry, None, None, None);
    backup::add(&mut told, registry, None);
    publish(registry, context, objects, told, None).await?;
    Ok(Action::requeue(INVALID))
}

/// Writes the status, if it is another one, and tells people what is new in it; `begun` is the cluster that is noted. The
/// cluster's id cannot be changed in a status: where people have had a replica go on as another cluster, the former one's is
/// taken away first.
async fn publish(
    registry: &Registry,
    context: &Context,
    objects: &Objects<'_>,
    told: RegistryStatus,
    begun: Option<&str>,
) -> Result<(), kube::Error> {
    if registry.status.as_ref() == Some(&told) {
        return Ok(());
    }
    for (weight, reason, note) in [regions::news(registry, &told), backup::news(registry, &told)].into_iter().flatten()
    {
        context.tell(registry, weight, &reason, note).await;
    }
    let id = |status: &RegistryStatus| status.consensus.as_ref().map(|consensus| consensus.cluster_id.clone());
    let (former, next) = (registry.status.as_ref().and_then(id), id(&told));
    if former.is_some() && next.is_some() && former != next && next.as_deref() == begun {
        patch_status(registry, objects, &RegistryStatus { consensus: None, ..told.clone() }).await?;
    }
    patch_status(registry, objects, &told).await
}

async fn patch_status(registry: &Registry, objects: &Objects<'_>, told: &RegistryStatus) -> Result<(), kube::Error> {
    let api: kube::Api<Registry> = kube::Api::namespaced(objects.client.clone(), objects.namespace);
    let name = registry.metadata.name.clone().unwrap_or_default();
    let patch = serde_json::json!({ "apiVersion": "roadstead.dev/v1alpha1", "kind": "Registry", "status": told });
    let params = kube::api::PatchParams::apply(crate::apply::MANAGER).force();
    api.patch_status(&name, &params, &kube::api::Patch::Apply(&patch)).await?;
    objects.writes.note();
    Ok(())
}

/// When to look again, unless something is seen before.
fn pause(registry: &Registry, context: &Context, said: &Said<'_>) -> Duration {
    match &said.errand {
        Some(told) if told.needs_help => return LATER,
        None if !said.tends => {}
        Some(_) | None => return SOON,
    }
    let waits = || SOON.saturating_mul(1 << (context.waited(registry) / 8).min(8)).min(LATER);
    match said.plan {
        Plan::Do(_) if said.refused.is_none() && !registry.spec.paused => {
            context.went_on(registry);
            AT_ONCE
        }
        Plan::Do(_) | Plan::Wait(_) => waits(),
        Plan::Done => {
            context.went_on(registry);
            let random = ambient::random::<1>().map_or(u8::MAX / 2, |[random]| random);
            spread(if registry.spec.upstream.is_some() { FOLLOWING } else { SETTLED }, random)
        }
    }
}

/// A pause that is an eighth longer or shorter by chance: Registries that were once looked at together, as when an operator
/// starts, are so no more after a while, and do not wait for each other.
fn spread(pause: Duration, random: u8) -> Duration {
    let eighth = pause / 8;
    pause.saturating_sub(eighth) + eighth.mul_f64(2.0 * f64::from(random) / f64::from(u8::MAX))
}

/// After a failure.
#[expect(clippy::needless_pass_by_value, reason = "as the controller calls it")]
pub(super) fn fail(registry: Arc<Registry>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let pause = context.pause_after_failure(&registry);
    let (name, namespace) = (registry.metadata.name.as_deref(), registry.metadata.namespace.as_deref());
    tracing::warn!(registry = name, namespace, reason = %error, pause_ms = pause.as_millis(), "it is tried again: {error}");
    Action::requeue(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_by_an_eighth_at_most() {
        assert_eq!(spread(Duration::from_secs(16), 0), Duration::from_secs(14));
        assert_eq!(spread(Duration::from_secs(16), u8::MAX), Duration::from_secs(18));
    }
}
