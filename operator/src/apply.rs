//! Makes objects what they are to be: reads first, and writes only what differs. So in steady state nothing is written.

use std::sync::atomic::{AtomicU64, Ordering};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, Client};
use serde_json::Value;

use crate::ahead::{Ahead, Answer};
use crate::build::{Kind, Object};
use crate::cache::Cache;

/// Who writes, as the API server notes it beside each field.
pub(crate) const MANAGER: &str = "roadstead-operator";

/// The objects of one namespace.
#[derive(Clone)]
pub(crate) struct Objects<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
    pub writes: &'a Writes,
    pub cache: &'a Cache,
    pub ahead: &'a Ahead,
}

/// Counts what is written, so that a test can end the process between any two writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    count: AtomicU64,
    last: Option<u64>,
}

impl Writes {
    /// Ends the process right after the write with this number, if there is one.
    pub(crate) fn ending_after(last: Option<u64>) -> Self {
        Self { count: AtomicU64::new(0), last }
    }

    /// To be called after each write.
    pub(crate) fn note(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.last == Some(count) {
            std::process::abort();
        }
    }
}

impl Objects<'_> {
    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.namespace, &kind.resource())
    }

    /// An object as it is, or, of the kinds that are watched, was a moment ago.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Result<Option<Value>, kube::Error> {
        match self.cache.find(kind, self.namespace, name) {
            Some(found) => Ok(Some(found)),
            None => self.get_now(kind, name).await,
        }
    }

    /// An object as it is, or was when this look began.
    pub(crate) async fn get_now(&self, kind: Kind, name: &str) -> Result<Option<Value>, kube::Error> {
        match self.ahead.take(kind, name) {
            Some(Answer(found)) => Ok(found),
            None => self.ask(kind, name).await,
        }
    }

    /// Asks the API server for an object.
    pub(crate) async fn ask(&self, kind: Kind, name: &str) -> Result<Option<Value>, kube::Error> {
        let found = match self.api(kind).get_opt(name).await {
            // Of a kind that the cluster does not have, there is none.
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            found => found?,
        };
        Ok(found.and_then(|object| serde_json::to_value(object).ok()))
    }

    /// Makes an object what it is to be, and gives it as it is then.
    pub(crate) async fn apply(&self, object: &Object) -> Result<Value, kube::Error> {
        let present = self.get(object.kind, &object.name).await?;
        self.apply_over(object, present).await
    }

    /// The same where it was looked at already.
    pub(crate) async fn apply_over(&self, object: &Object, present: Option<Value>) -> Result<Value, kube::Error> {
        match present {
            Some(present) if is_within(&object.value, &present) => Ok(present),
            _ => self.write(object).await,
        }
    }

    /// What was read of an object is so no more.
    fn changes(&self, kind: Kind, name: &str) {
        drop(self.ahead.take(kind, name));
    }

    /// Writes an object without looking.
    pub(crate) async fn write(&self, object: &Object) -> Result<Value, kube::Error> {
        self.changes(object.kind, &object.name);
        let params = PatchParams::apply(MANAGER).force().validation_strict();
        let written = self.api(object.kind).patch(&object.name, &params, &Patch::Apply(&object.value)).await?;
        self.writes.note();
        tracing::info!(kind = ?object.kind, name = object.name, "wrote {:?} {}", object.kind, object.name);
        Ok(serde_json::to_value(written).unwrap_or_default())
    }

    /// Creates an object, unless there is one; and gives the one that there is.
    pub(crate) async fn create(&self, object: &Object) -> Result<Value, kube::Error> {
        self.changes(object.kind, &object.name);
        let made: Option<DynamicObject> = serde_json::from_value(object.value.clone()).ok();
        let api = self.api(object.kind);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        if let Some(made) = made {
            match api.create(&params, &made).await {
                Ok(created) => {
                    self.writes.note();
                    return Ok(serde_json::to_value(created).unwrap_or_default());
                }
                // Somebody was here before, perhaps this operator before it was killed.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(serde_json::to_value(api.get(&object.name).await?).unwrap_or_default())
    }

    /// Lets a retained object have the owners that it is to have: another Registry of the same name takes it up.
    pub(crate) async fn adopt(&self, object: &Object, present: &Value) -> Result<(), kube::Error> {
        let owners = |value: &Value| value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let (wanted, present) = (owners(&object.value), owners(present));
        if wanted.len() == present.len()
            && wanted.iter().zip(&present).all(|(wanted, present)| is_within(wanted, present))
        {
            return Ok(());
        }
        self.changes(object.kind, &object.name);
        let patch = serde_json::json!({ "metadata": { "ownerReferences": wanted } });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.api(object.kind).patch(&object.name, &params, &Patch::Merge(&patch)).await?;
        self.writes.note();
        Ok(())
    }

    /// Deletes an object, if there is one. What it owns stays.
    pub(crate) async fn delete(&self, kind: Kind, name: &str) -> Result<(), kube::Error> {
        self.changes(kind, name);
        let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        match self.api(kind).delete(name, &params).await {
            Ok(_) => {
                self.writes.note();
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether everything that is wanted is so. What the API server adds is nobody's concern; lists have the same length.
pub(crate) fn is_within(wanted: &Value, present: &Value) -> bool {
    match (wanted, present) {
        (Value::Object(wanted), Value::Object(present)) => wanted.iter().all(|(key, wanted)| match present.get(key) {
            Some(present) => is_within(wanted, present),
            // What is empty is not kept.
            None => is_empty(wanted),
        }),
        (Value::Array(wanted), Value::Array(present)) => {
            wanted.len() == present.len()
                && wanted.iter().zip(present).all(|(wanted, present)| is_within(wanted, present))
        }
        (Value::String(wanted), Value::String(present)) => {
            wanted == present || quantity(wanted).is_some_and(|wanted| quantity(present) == Some(wanted))
        }
        (wanted, present) => wanted == present,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A quantity of Kubernetes in thousandths, of which the API server changes how it is written.
pub(crate) fn quantity(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u128 = match unit {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().ok()?;
    let part = format!("{part:0<3}");
    let part: u128 = part.get(..3)?.parse().ok()?;
    whole.checked_mul(factor)?.checked_add(part.checked_mul(factor)? / 1_000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_adds_or_writes_otherwise_is_no_difference() {
        let wanted = json!({ "a": [{ "b": "1024Mi", "e": {} }], "cpu": "0.5", "empty": [] });
        assert!(is_within(&wanted, &json!({ "a": [{ "b": "1Gi", "c": 1 }], "cpu": "500m", "more": true })));
        assert!(!is_within(&wanted, &json!({ "a": [{ "b": "2Gi" }], "cpu": "500m" })));
        assert!(!is_within(&wanted, &json!({ "a": [{ "b": "1Gi" }, {}], "cpu": "500m" })));
        assert!(!is_within(&wanted, &json!({ "a": [{ "b": "1Gi" }] })));
        assert!(!is_within(&json!({ "a": "x" }), &json!({ "a": "y" })));
    }
}
