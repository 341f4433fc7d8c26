//! Registries of other regions: whose mirror one is, and which mirrors it has.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Backup, Expose, SecretRef, Storage, Toleration};

/// The registry that this one is a mirror of.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// Where this cluster reaches that registry: an https URL without a path. Without it, the `endpoint` of the join Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 320), regex(pattern = r"^https://[a-zA-Z0-9.:\[\]-]+/?$"))]
    #[x_kube(validation = (r"isURL(self) && self.matches('^https://([a-zA-Z0-9._-]+|[[][0-9a-fA-F:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6([0-4][0-9]{3}|5([0-4][0-9]{2}|5([0-2][0-9]|3[0-5])))))?/?$')", "`endpoint` must be a URL such as https://registry.example.com:5000"))]
    pub endpoint: Option<String>,

    /// The join Secret that home has minted for this mirror, brought here: `token`, and beside it `endpoint`, `ca.crt`,
    /// `cluster` and `htpasswd`, with which the logins of home are good here. A renewed token or CA is used without a restart.
    pub credentials_secret_ref: SecretRef,

    /// A ConfigMap whose `ca.crt` is trusted for that registry, in the place of the join Secret's. Without either, the
    /// authorities that the image's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<ConfigMapRef>,

    /// The most bytes of blobs a second that are taken from there, such as `50Mi`. Pulls that wait for something go before
    /// what is copied ahead. Without it, as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[1-9][0-9]{0,8}(Ki|Mi|Gi)$"))]
    #[x_kube(validation = ("quantity(self).compareTo(quantity('1Ti')) <= 0", "`rate` must be at most 1024Gi"))]
    pub rate: Option<String>,

    /// Copies only what one of these names, with its signatures: REPOSITORY or REPOSITORY:TAG, where `*` stands for any text
    /// without a slash and `**` for any text. All else is pulled from there each time. Without any, everything is copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 513), regex(pattern = r"^[A-Za-z0-9._*/-]+(:[A-Za-z0-9._*-]+)?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (r"self.all(filter, filter.matches('^[^:]{1,256}(:[^:]{1,256})?$'))", "`filters` must have at most 256 letters for the repository, and as many for the tag"))]
    pub filters: Vec<String>,

    /// Of an index, copies only the images for these, such as `linux/amd64`. Without any, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 3, max = 98), regex(pattern = r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (r"self.all(platform, platform.matches('^[^/]{1,32}(/[^/]{1,32}){1,2}$'))", "`platforms` must have at most 32 letters for each of OS, architecture and variant"))]
    pub platforms: Vec<String>,

    /// When blobs above 8 MiB are copied ahead, in UTC, such as `mon-fri 20:00-06:30` or `22:00-06:00`. Without any, at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 11, max = 19),
            regex(
                pattern = r"^((mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))? )?[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (r"self.all(window, window.matches('(^| )([01][0-9]|2[0-3]):[0-5][0-9]-(00:(0[1-9]|[1-5][0-9])|(0[1-9]|1[0-9]|2[0-3]):[0-5][0-9]|24:00)$'))", "`windows` must begin at 00:00 to 23:59, and end at 00:01 to 24:00"))]
    #[x_kube(validation = ("self.all(window, window.substring(size(window) - 11, size(window) - 6) != window.substring(size(window) - 5))", "`windows` must not begin and end at the same minute"))]
    pub windows: Vec<String>,
}

/// A ConfigMap of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A mirror of this registry: one that is kept in this cluster, or one of another cluster that is let in.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.remote || has(self.storage)", "`storage` must be set: a mirror has a bucket, or a prefix, of its own"))]
#[x_kube(validation = ("!self.remote || !(has(self.storage) || has(self.placement) || has(self.expose) || has(self.replicas) || has(self.backup))", "`storage`, `placement`, `expose`, `replicas` and `backup` must not be set with `remote: true`: the other cluster's Registry says them"))]
pub struct Mirror {
    /// What it is called. With this registry's name before it, the name of its own Registry.
    #[schemars(length(min = 1, max = 38), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("!(self in ['beginning', 'ca', 'frontend', 'frontends', 'join', 'peer', 'peers', 'push', 'serving']) && !self.startsWith('join-')", "`name` must not be one that objects of the registry itself have: beginning, ca, frontend, frontends, join, peer, peers, push, serving"))]
    pub name: String,

    /// Its region. Without it, its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub region: Option<String>,

    /// Whether it is in another cluster. Then only the join Secret NAME-join-MIRROR is made here, for somebody to carry it
    /// there.
    #[serde(default)]
    pub remote: bool,

    /// Where the mirror reaches this registry: an https URL without a path, whose host gets into the certificate. Without it:
    /// the Service for a mirror of this cluster, the load balancer for one of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 320), regex(pattern = r"^https://[a-zA-Z0-9.:\[\]-]+/?$"))]
    #[x_kube(validation = (r"isURL(self) && self.matches('^https://([a-zA-Z0-9._-]+|[[][0-9a-fA-F:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6([0-4][0-9]{3}|5([0-4][0-9]{2}|5([0-2][0-9]|3[0-5])))))?/?$')", "`homeEndpoint` must be a URL such as https://registry.example.com:5000"))]
    pub home_endpoint: Option<String>,

    /// How many of its replicas have a vote: 1, 3, 5 or 7. Without it, as many as here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = ("self in [1, 3, 5, 7]", "`replicas` must be 1, 3, 5 or 7: an even number survives no more losses than one less"))]
    pub replicas: Option<i32>,

    /// Where it has its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// Where its pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,

    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,

    /// How often all of it is written to its own bucket, and how far back a restore of it can go. That of this registry is not
    /// taken over, since what a mirror has comes from here: without it, each day, and a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

/// Which nodes pods may run on.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Labels of the nodes that they may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that they may run on nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
}

/// What is seen of the registry that this one is a mirror of.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// Where it is.
    #[schemars(length(max = 320))]
    pub endpoint: String,

    /// How old what is shown is at most: `<5s`, `<30s`, `<2m`, `<10m`, `<1h`, `1h+`, or `unknown` before home was heard of. It
    /// is said anew only when it is clearly another one; the metric of the replicas is exact.
    #[schemars(length(max = 16))]
    pub lag: String,

    /// `InSync`, `CatchingUp`, `Comparing` with home anew, `HomeAway`, or `Blocked` until somebody sees to it.
    #[schemars(length(max = 16))]
    pub phase: String,
}

/// What is seen of a mirror.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorStatus {
    /// Of the entry in the spec.
    #[schemars(length(max = 38))]
    pub name: String,

    /// `Waiting` for what the message of `MirrorsJoined` says, `Minted` once the join Secret of a mirror of another cluster is
    /// there, and then what the mirror's own Registry says.
    #[schemars(length(max = 16))]
    pub phase: String,

    /// The join Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub join_secret: Option<String>,

    /// How far it is behind, as its own Registry says. That of another cluster is told there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub lag: Option<String>,

    /// Where its own cluster's nodes reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub endpoint: Option<String>,

    /// When it was last in contact, if it is not now: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub last_seen: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use regex::Regex;
    use roadstead_geo::{FilterRule, MAX_FILTER_RULES, Platform, Window};
    use serde_json::Value;

    use crate::definition;

    /// What is admitted into a list of `spec.upstream`, by its schema and its rules.
    struct Admission {
        items: u64,
        length: RangeInclusive<usize>,
        patterns: Vec<Regex>,
        /// Rules that are no pattern.
        others: Vec<String>,
    }

    impl Admission {
        fn of(field: &str) -> Self {
            let crd = serde_json::to_value(definition()).unwrap();
            let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            let list = &spec["properties"]["upstream"]["properties"][field];
            let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
            let mut patterns = vec![list["items"]["pattern"].as_str().unwrap().to_owned()];
            let mut others = Vec::new();
            for rule in list["x-kubernetes-validations"].as_array().unwrap() {
                let rule = rule["rule"].as_str().unwrap();
                match rule.split_once(".matches('").and_then(|(_, rest)| rest.strip_suffix("'))")) {
                    Some(pattern) => patterns.push(pattern.to_owned()),
                    None => others.push(rule.to_owned()),
                }
            }
            Self {
                items: list["maxItems"].as_u64().unwrap(),
                length: number(&list["items"]["minLength"])..=number(&list["items"]["maxLength"]),
                patterns: patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect(),
                others,
            }
        }

        fn admits(&self, text: &str) -> bool {
            self.length.contains(&text.chars().count()) && self.patterns.iter().all(|rule| rule.is_match(text))
        }
    }

    static FILTERS: LazyLock<Admission> = LazyLock::new(|| Admission::of("filters"));
    static PLATFORMS: LazyLock<Admission> = LazyLock::new(|| Admission::of("platforms"));

    /// A letter so often as is just allowed, or just not, and another one.
    fn part(letters: &[char], longest: usize) -> impl Strategy<Value = String> + use<> {
        let length = prop_oneof![0_usize..3, longest - 2..longest + 2];
        (select(letters.to_vec()), length, select(letters.to_vec()))
            .prop_map(|(letter, length, last)| format!("{}{last}", letter.to_string().repeat(length)))
    }

    proptest! {
        #[test]
        fn filters_are_admitted_as_the_registry_takes_them(
            parts in vec(part(&['a', 'Z', '7', '/', '*', '.', '_', '-', ':', ' ', 'é'], 256), 1..4),
        ) {
            let text = parts.join(":");
            prop_assert_eq!(FILTERS.admits(&text), text.parse::<FilterRule>().is_ok(), "{}", text);
        }

        #[test]
        fn platforms_are_admitted_as_the_registry_takes_them(
            parts in vec(part(&['a', 'Z', '7', '.', '_', '-', '/', ':', ' ', 'é'], 32), 1..5),
        ) {
            let text = parts.join("/");
            prop_assert_eq!(PLATFORMS.admits(&text), text.parse::<Platform>().is_ok(), "{}", text);
        }
    }

    #[test]
    fn windows_are_admitted_as_the_registry_takes_them() {
        let windows = Admission::of("windows");
        let differ = "self.all(window, window.substring(size(window) - 11, size(window) - 6) != window.substring(size(window) - 5))";
        assert_eq!(windows.others, [differ]);
        let minutes = || {
            let minutes = (0..30).flat_map(|hour| ["00", "01", "59", "60"].map(|minute| format!("{hour:02}:{minute}")));
            minutes.chain(["7:00".to_owned(), "07:0".to_owned(), String::new(), "07-00".to_owned()])
        };
        let mut taken = 0;
        for days in ["", "mon ", "sat-mon ", "Mon ", "mon-", " "] {
            for (from, to) in minutes().flat_map(|from| minutes().map(move |to| (from.clone(), to))) {
                let text = format!("{days}{from}-{to}");
                let is_admitted = windows.admits(&text) && from != to;
                let is_taken = text.parse::<Window>().is_ok();
                assert_eq!(is_admitted, is_taken, "{text:?}");
                taken += u32::from(is_taken);
            }
        }
        // From 24 times 3 minutes to as many but the first one and the last one, and never the same.
        assert_eq!(taken, 3 * (72 * 72 - 71), "with no day, one, and some");
    }

    #[test]
    fn as_many_filters_and_platforms_are_admitted_as_the_registry_takes() {
        for admission in [&*FILTERS, &*PLATFORMS] {
            assert_eq!(admission.items, MAX_FILTER_RULES as u64);
            assert!(admission.others.is_empty(), "{:?}", admission.others);
        }
    }
}
