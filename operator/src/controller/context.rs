//! What every reconciliation shares.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource as _};
use parking_lot::Mutex;
use roadstead_crds::Registry;

use crate::admin::Credentials;
use crate::ambient;
use crate::apply::{MANAGER, Writes};
use crate::cache::Cache;
use crate::metrics::Metrics;

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// How much an Event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It goes as it should.
    Normal,
    /// Somebody may have to look.
    Warning,
}

impl Weight {
    const fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The API server takes no longer note of an Event.
const MAX_NOTE_BYTES: usize = 1_024;

fn shortened(mut note: String) -> String {
    let end = (0..=MAX_NOTE_BYTES.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    note.truncate(end.unwrap_or(0));
    note
}

/// See the module.
pub(crate) struct Context {
    pub client: Client,
    /// The image of replicas whose Registry names none.
    pub image: String,
    pub metrics: Arc<Metrics>,
    pub writes: Writes,
    pub cache: Cache,
    /// What this operator is called.
    instance: String,
    /// By the Registry's uid.
    known: Mutex<HashMap<String, Known>>,
    /// Those of which no pod has changed since they were looked at last.
    undisturbed: Mutex<HashSet<ObjectRef<Registry>>>,
}

/// What is remembered of a registry: nothing that a decision depends on.
#[derive(Default)]
struct Known {
    failures: u32,
    waits: u32,
    is_settled: bool,
    told: Option<(String, String)>,
    warned: Warned,
    credentials: Option<(String, Credentials)>,
}

/// A reason that is back after less than this was not gone: a replica that fails is started again and again, and seems well
/// until it has failed once more. Kubernetes waits five minutes at most in between.
const GONE_AFTER: Duration = Duration::from_mins(10);

/// What people were warned of last.
#[derive(Default)]
struct Warned {
    reason: Option<&'static str>,
    /// Since when it is no more.
    gone: Option<SystemTime>,
}

impl Warned {
    /// Whether people are to be warned of `reason`, which is what keeps the registry now.
    fn is_new(&mut self, reason: Option<&'static str>, now: SystemTime) -> bool {
        let Some(reason) = reason else {
            self.gone.get_or_insert(now);
            return false;
        };
        let gone = self.gone.take().and_then(|gone| now.duration_since(gone).ok());
        self.reason.replace(reason) != Some(reason) || gone.is_some_and(|gone| gone >= GONE_AFTER)
    }
}

impl Context {
    pub(crate) fn new(client: Client, image: String, metrics: Arc<Metrics>, writes: Writes, instance: String) -> Self {
        let (cache, known, undisturbed) = (Cache::default(), Mutex::default(), Mutex::default());
        Self { client, image, metrics, writes, cache, instance, known, undisturbed }
    }

    /// Tells people, once: what was told last of a registry is not told again. Each Event is one of its own, since what
    /// differs between steps is in its text.
    pub(super) async fn tell(&self, registry: &Registry, weight: Weight, reason: &str, note: String) {
        let what = (reason.to_owned(), note.clone());
        if self.with(registry, |known| known.told.replace(what.clone()) != Some(what)) {
            self.publish(registry, weight, reason, note).await;
        }
    }

    /// Warns people of what keeps a registry, once for as long as the reason is the same: what is said of it may have times
    /// and ports in it that are others each time.
    pub(super) async fn warn(&self, registry: &Registry, warning: Option<(&'static str, String)>) {
        let reason = warning.as_ref().map(|(reason, _)| *reason);
        let is_new = self.with(registry, |known| known.warned.is_new(reason, ambient::now()));
        if let Some((reason, note)) = warning.filter(|_| is_new) {
            self.publish(registry, Weight::Warning, reason, note).await;
        }
    }

    async fn publish(&self, registry: &Registry, weight: Weight, reason: &str, note: String) {
        let regarding = registry.object_ref(&());
        let namespace = regarding.namespace.clone().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                generate_name: regarding.name.as_ref().map(|name| format!("{name}-")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(reason.to_owned()),
            event_time: Some(MicroTime(Timestamp::try_from(ambient::now()).unwrap_or_default())),
            note: Some(shortened(note)),
            reason: Some(reason.to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(weight.name().to_owned()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => self.writes.note(),
            // The status says the same.
            Err(error) => tracing::warn!(reason = %error, "an Event could not be written: {error}"),
        }
    }

    /// How long to wait after one more failure.
    pub(super) fn pause_after_failure(&self, registry: &Registry) -> Duration {
        let failures = self.with(registry, |known| {
            known.failures = known.failures.saturating_add(1);
            known.is_settled = false;
            known.failures
        });
        FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE)
    }

    /// How often in a row there was nothing to do but wait.
    pub(super) fn waited(&self, registry: &Registry) -> u32 {
        self.with(registry, |known| {
            known.failures = 0;
            known.waits = known.waits.saturating_add(1);
            known.waits
        })
    }

    /// Something was done.
    pub(super) fn went_on(&self, registry: &Registry) {
        self.with(registry, |known| (known.failures, known.waits) = (0, 0));
    }

    /// Begins a look. Tells whether pods and volumes may be looked at as the API server has them at hand: there was nothing to
    /// do when they were looked at last, and no pod has changed since. What is at hand may be older than the change that woke
    /// this look, where there are several API servers; and if nothing is seen of it, nobody looks again for long.
    pub(super) fn begin(&self, registry: &Registry) -> bool {
        let is_undisturbed = !self.undisturbed.lock().insert(ObjectRef::from_obj(registry));
        self.with(registry, |known| known.is_settled) && is_undisturbed
    }

    /// A pod of a registry has changed.
    pub(super) fn disturb(&self, registry: &ObjectRef<Registry>) {
        self.undisturbed.lock().remove(registry);
    }

    pub(super) fn keep_settled(&self, registry: &Registry, is_settled: bool) {
        self.with(registry, |known| known.is_settled = is_settled);
    }

    /// The credentials that were made of the same a while ago.
    pub(super) fn credentials(&self, registry: &Registry, key: &str) -> Option<Credentials> {
        self.with(registry, |known| {
            let (of, credentials) = known.credentials.as_ref()?;
            (of == key).then(|| credentials.clone())
        })
    }

    pub(super) fn keep_credentials(&self, registry: &Registry, key: String, credentials: &Credentials) {
        self.with(registry, |known| known.credentials = Some((key, credentials.clone())));
    }

    /// A registry is no more.
    pub(super) fn forget(&self, registry: &Registry) {
        self.known.lock().remove(registry.metadata.uid.as_deref().unwrap_or_default());
        self.undisturbed.lock().remove(&ObjectRef::from_obj(registry));
    }

    fn with<T>(&self, registry: &Registry, change: impl FnOnce(&mut Known) -> T) -> T {
        let uid = registry.metadata.uid.clone().unwrap_or_default();
        change(self.known.lock().entry(uid).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tower::service_fn;

    use super::*;

    fn context() -> Context {
        let nobody = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
        let (client, metrics) = (Client::new(nobody, "images"), Arc::new(Metrics::new().unwrap()));
        Context::new(client, String::new(), metrics, Writes::default(), String::new())
    }

    fn registry(uid: &str) -> Registry {
        let registry = json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "Registry",
            "metadata": { "name": "home", "namespace": "images", "uid": uid },
            "spec": { "storage": { "s3": { "bucket": "images", "region": "eu-central-1" } } },
        });
        serde_json::from_value(registry).unwrap()
    }

    #[tokio::test]
    async fn pauses_after_failures_grow_for_each_registry_by_itself() {
        let (context, failing, other) = (context(), registry("1"), registry("2"));
        let pauses: Vec<u128> = (0..12).map(|_| context.pause_after_failure(&failing).as_millis()).collect();
        assert_eq!(pauses[..4], [500, 1_000, 2_000, 4_000]);
        assert_eq!(pauses[9..], [256_000, 300_000, 300_000], "it ends at five minutes");
        assert_eq!(context.pause_after_failure(&other), FIRST_PAUSE, "the other one has not failed yet");
        context.went_on(&failing);
        assert_eq!(context.pause_after_failure(&failing), FIRST_PAUSE, "it was well in between");
    }

    #[tokio::test]
    async fn pods_are_looked_at_as_they_are_when_one_has_changed_since_the_last_look_began() {
        let (context, registry) = (context(), registry("1"));
        let named = |name: &str| ObjectRef::new(name).within("images");
        let look = |is_settled: bool| {
            let at_hand = context.begin(&registry);
            context.keep_settled(&registry, is_settled);
            at_hand
        };
        assert!(!look(false), "it was never looked at");
        assert!(!look(true), "there was something to do");
        assert!(look(true));
        context.disturb(&named("another"));
        assert!(look(true));
        context.disturb(&named("home"));
        assert!(!look(true), "a pod has changed");
        assert!(look(true), "and was looked at since");

        assert!(context.begin(&registry));
        // While it is looked at, perhaps after its pods were listed.
        context.disturb(&named("home"));
        context.keep_settled(&registry, true);
        assert!(!look(true), "nobody knows whether that was seen");
        context.forget(&registry);
        assert!(!look(true), "it is another one");
    }

    #[test]
    fn a_warning_is_told_again_when_it_was_another_or_was_gone_for_long() {
        let mut warned = Warned::default();
        let mut at = |minutes, reason| warned.is_new(reason, SystemTime::UNIX_EPOCH + Duration::from_mins(minutes));
        assert!(!at(0, None));
        assert!(at(1, Some("StorageTaken")), "it is new");
        assert!(!at(2, Some("StorageTaken")), "it is the same");
        assert!(!at(3, None));
        assert!(!at(4, Some("StorageTaken")), "it was gone for a moment");
        assert!(!at(5, None) && !at(9, None));
        assert!(at(15, Some("StorageTaken")), "it was gone for long");
        assert!(at(16, Some("ReplicaFails")), "it is another");
        assert!(at(17, Some("StorageTaken")), "so is this");
    }
}
