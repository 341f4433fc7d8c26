//! What the status says of the backup, which the replica that leads writes by itself.

use roadstead_crds::{BackupStatus, Registry, RegistryStatus};

use super::context::Weight;
use super::observe::Sight;
use super::status::{Finding, condition};
use crate::admin::Backup;

/// Said of every registry.
const BACKED_UP: &str = "BackedUp";

/// Changes that have waited for longer are told of. They take a second as a rule, and one that leads anew a moment more.
const MOST_LAG_SECONDS: f64 = 30.0;

/// Adds to a status how far the backup is. What is not known now stays as it was said before.
pub(super) fn add(status: &mut RegistryStatus, registry: &Registry, sight: Option<&Sight>) {
    let before = registry.status.clone().unwrap_or_default();
    let former = before.conditions.iter().find(|former| former.type_ == BACKED_UP);
    match (sight.and_then(|sight| sight.backup.as_ref()), former) {
        (Some(backup), _) => {
            status.conditions.push(condition(
                &before,
                BACKED_UP,
                finding(backup, status.upstream.is_some()),
                registry.metadata.generation,
            ));
            let snapshot = backup.snapshot.as_ref();
            status.backup = snapshot.map(|taken| BackupStatus {
                sequence: i64::try_from(taken.sequence).unwrap_or(i64::MAX),
                time: taken.time.clone(),
                key: taken.key.clone(),
            });
            // Who has come to lead a moment ago does not know yet when it was taken.
            status.backup = status.backup.take().or(before.backup);
        }
        (None, Some(former)) => status.conditions.push(former.clone()),
        (None, None) => {
            let message = "no replica has said yet how far it is".to_owned();
            let finding = Finding { status: "Unknown", reason: "NotSeen", message };
            status.conditions.push(condition(&before, BACKED_UP, finding, registry.metadata.generation));
        }
    }
}

/// What is said of it: a mirror has a backup of its own, of what it has received.
fn finding(backup: &Backup, is_mirror: bool) -> Finding {
    if backup.lag_seconds > MOST_LAG_SECONDS {
        let message = format!(
            "changes have been waiting for more than {MOST_LAG_SECONDS} s to be written to the bucket: a restore would lack them; \
             see to the S3 server, and to the log of the replica that leads"
        );
        return Finding { status: "False", reason: "BackupBehind", message };
    }
    if backup.snapshot_failed {
        let message =
            "no snapshot can be written to the bucket, and it is tried again: a restore reads an older one, and \
                       every change since; see the log of the replica that leads"
                .to_owned();
        return Finding { status: "False", reason: "SnapshotFailed", message };
    }
    let message = if is_mirror {
        "what this mirror has received is in its own bucket within a second"
    } else {
        "every change is in the bucket within a second"
    };
    let message = message.to_owned();
    Finding { status: "True", reason: "Shipping", message }
}

/// What people are told when the backup comes to be behind, or to go on.
pub(super) fn news(registry: &Registry, status: &RegistryStatus) -> Option<(Weight, String, String)> {
    let of = |status: &RegistryStatus| {
        let found = status.conditions.iter().find(|condition| condition.type_ == BACKED_UP)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    };
    let (now, reason, message) = of(status)?;
    let (before, former, _) = registry.status.as_ref().and_then(of)?;
    match (&*before, &*now) {
        (_, "False") if former != reason => Some((Weight::Warning, reason, message)),
        ("False", "True") => Some((Weight::Normal, "BackupGoesOn".to_owned(), message)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registry(status: &RegistryStatus) -> Registry {
        let mut registry: Registry = serde_json::from_value(json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "Registry", "metadata": { "name": "home", "generation": 3 },
            "spec": { "storage": { "s3": { "bucket": "images", "region": "eu-central-1" } } },
        }))
        .unwrap();
        registry.status = Some(status.clone());
        registry
    }

    fn seen(lag_seconds: f64, snapshot: Option<u64>, snapshot_failed: bool) -> Sight {
        let snapshot = snapshot.map(|sequence| {
            serde_json::from_value(json!({ "sequence": sequence, "time": "2026-07-01T12:00:00.000Z", "key": "meta/k" }))
                .unwrap()
        });
        Sight { backup: Some(Backup { lag_seconds, snapshot, snapshot_failed }), ..Sight::default() }
    }

    /// The status after another look, and what is told of it.
    fn next(status: &RegistryStatus, sight: Option<&Sight>) -> (RegistryStatus, Option<(Weight, String)>) {
        let registry = registry(status);
        let mut next = RegistryStatus { conditions: Vec::new(), ..status.clone() };
        add(&mut next, &registry, sight);
        let told = news(&registry, &next).map(|(weight, reason, _)| (weight, reason));
        (next, told)
    }

    fn said(status: &RegistryStatus) -> (&str, &str) {
        let condition = status.conditions.iter().find(|condition| condition.type_ == BACKED_UP).unwrap();
        (&condition.status, &condition.reason)
    }

    #[test]
    fn what_was_backed_up_is_said_and_what_keeps_it_is_told_once() {
        let (status, told) = next(&RegistryStatus::default(), None);
        assert_eq!((said(&status), told), (("Unknown", "NotSeen"), None));
        let (status, told) = next(&status, Some(&seen(0.4, None, false)));
        assert_eq!((said(&status), told, &status.backup), (("True", "Shipping"), None, &None));
        let (status, told) = next(&status, Some(&seen(0.0, Some(57), false)));
        assert_eq!((told, status.backup.as_ref().unwrap().sequence), (None, 57));

        let (behind, told) = next(&status, Some(&seen(31.0, Some(57), true)));
        assert_eq!(
            (said(&behind), told),
            (("False", "BackupBehind"), Some((Weight::Warning, "BackupBehind".to_owned())))
        );
        let (behind, told) = next(&behind, Some(&seen(300.0, Some(57), true)));
        assert_eq!(told, None);
        let (failed, told) = next(&behind, Some(&seen(0.0, Some(57), true)));
        assert_eq!(
            (said(&failed), told),
            (("False", "SnapshotFailed"), Some((Weight::Warning, "SnapshotFailed".to_owned())))
        );
        let (mended, told) = next(&failed, Some(&seen(0.0, Some(60), false)));
        assert_eq!((said(&mended), told), (("True", "Shipping"), Some((Weight::Normal, "BackupGoesOn".to_owned()))));
    }

    #[test]
    fn what_is_not_known_stays_as_it_was_said() {
        let (status, _) = next(&RegistryStatus::default(), Some(&seen(0.0, Some(57), false)));
        let (silent, told) = next(&status, None);
        assert_eq!((&silent, told), (&status, None));
        // Another replica leads since a moment ago.
        let (anew, told) = next(&status, Some(&seen(0.0, None, false)));
        assert_eq!((anew.backup, told), (status.backup, None));
    }
}
