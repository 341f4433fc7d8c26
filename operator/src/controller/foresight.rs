//! What a look at a registry asks the API server for in any case, so that it is asked for together: see [`crate::ahead`].

use roadstead_crds::{Registry, TlsProvider};

use crate::build::{Kind, Part};

/// The objects that are asked for, whatever the others say. Of the kinds that are watched, only the note of the beginning is.
pub(super) fn foreseen(registry: &Registry) -> Vec<(Kind, String)> {
    let spec = &registry.spec;
    let name = registry.metadata.name.clone().unwrap_or_default();
    let named = |what: &str| format!("{name}-{what}");
    let given = spec.storage.s3.credentials_secret_ref.iter().chain(&spec.tls.secret_ref);
    let given = given.chain(spec.upstream.iter().map(|upstream| &upstream.credentials_secret_ref));
    let mut secrets: Vec<String> = given.map(|given| given.name.clone()).collect();
    secrets.extend([named("peer-ca"), named("peer-tls")]);
    let mut wanted = vec![(Kind::ConfigMap, named("beginning")), (Kind::StatefulSet, Part::Voter.workload(&name))];
    let authority = spec.upstream.iter().filter_map(|upstream| upstream.ca_config_map_ref.as_ref());
    wanted.extend(authority.map(|given| (Kind::ConfigMap, given.name.clone())));
    // What is only made or changed is not looked at while nothing is.
    if !spec.paused {
        if spec.tls.provider == TlsProvider::SelfSigned {
            secrets.extend([named("serving-ca"), named("serving-tls")]);
        }
        if spec.upstream.is_none() {
            secrets.push(named("push"));
        }
        secrets.extend(spec.mirrors.iter().map(|mirror| named(&format!("join-{}", mirror.name))));
        wanted.push((Kind::PodDisruptionBudget, Part::Voter.workload(&name)));
        if spec.frontends.replicas > 0 {
            let workload = Part::Frontend.workload(&name);
            wanted.extend([(Kind::StatefulSet, workload.clone()), (Kind::PodDisruptionBudget, workload)]);
        }
    }
    wanted.extend(secrets.into_iter().map(|name| (Kind::Secret, name)));
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::build::golden::wish;
    use crate::build::{disruption_budget, frontends, join_name, stateful_set};
    use crate::secrets;

    fn registry(spec: &Value) -> Registry {
        let registry = json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "Registry", "metadata": { "name": "home" }, "spec": spec,
        });
        serde_json::from_value(registry).unwrap()
    }

    #[test]
    fn what_is_made_is_foreseen_by_the_names_that_it_is_made_with() {
        let mut spec = json!({
            "region": "eu",
            "storage": { "s3": { "bucket": "images", "region": "eu-central-1", "credentialsSecretRef": { "name": "bucket" } } },
            "frontends": { "replicas": 2 },
            "mirrors": [{ "name": "asia", "remote": true }],
        });
        let registry_of = registry(&spec);
        let foreseen_of = foreseen(&registry_of);
        let mut wish = wish();
        wish.spec = registry_of.spec;
        let mut made =
            vec![stateful_set(&wish, 3), disruption_budget(&wish, 3).unwrap(), secrets::push(&wish, [7; 48]).unwrap()];
        made.extend(frontends(&wish).into_iter().filter(|object| object.kind != Kind::Service));
        let mut expected: Vec<(Kind, String)> = made.into_iter().map(|object| (object.kind, object.name)).collect();
        expected.push((Kind::ConfigMap, wish.named("beginning")));
        let secrets = ["peer-ca", "peer-tls", "serving-ca", "serving-tls"].map(|what| wish.named(what));
        let secrets = secrets.into_iter().chain(["bucket".to_owned(), join_name(&wish, &wish.spec.mirrors[0])]);
        expected.extend(secrets.map(|name| (Kind::Secret, name)));
        for wanted in &expected {
            assert!(foreseen_of.contains(wanted), "{wanted:?} in {foreseen_of:?}");
        }
        assert_eq!(foreseen_of.len(), expected.len(), "{foreseen_of:?}");

        spec["paused"] = json!(true);
        let paused = foreseen(&registry(&spec));
        assert_eq!(paused.len(), 5, "what is only made is not looked at: {paused:?}");
    }

    #[test]
    fn a_mirror_is_looked_at_with_what_lets_it_follow() {
        let foreseen = foreseen(&registry(&json!({
            "region": "us",
            "storage": { "s3": { "bucket": "images", "region": "us-east-1" } },
            "upstream": { "credentialsSecretRef": { "name": "join" }, "caConfigMapRef": { "name": "home-ca" } },
        })));
        assert!(foreseen.contains(&(Kind::Secret, "join".to_owned())), "{foreseen:?}");
        assert!(foreseen.contains(&(Kind::ConfigMap, "home-ca".to_owned())), "{foreseen:?}");
        assert!(!foreseen.contains(&(Kind::Secret, "home-push".to_owned())), "its logins are home's: {foreseen:?}");
    }
}
