//! The Secrets of a registry: what is made once, and what is renewed.
//!
//! ```text
//!  NAME-peer-ca, NAME-serving-ca   tls.crt, tls.key             created once; delete one, and its successor comes in stages
//!  NAME-peer-tls, NAME-serving-tls tls.crt, tls.key, ca.crt     issued by them, renewed a third of their life before its end
//!  NAME-push                       username, password, htpasswd created once; delete it, and another one is made
//! ```
//!
//! After `NAME-serving-ca` was deleted, the ConfigMap that clients read has both CAs; the certificate is the new one's after
//! `tls.caOverlap`, or at once if `NAME-serving-tls` is deleted, too; and after as long again, clients are told of one CA.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use roadstead_crds::TlsProvider;
use serde_json::{Value, json};

use crate::build::{Kind, Object, Part, Wish, home_hosts, host, peer_name, short_hash};
use crate::certificates::{Authority, CertificateError, Issued, RENEW_AFTER, Usage};
use crate::rotation::{self, Stage};

/// On a certificate's Secret: the second of the epoch from which on it is to be renewed.
const RENEW_AT: &str = "roadstead.dev/renew-at";

/// On a certificate's Secret: which names it is for.
const ISSUED_FOR: &str = "roadstead.dev/issued-for";

/// On a certificate's Secret: which CA has issued it.
const ISSUED_BY: &str = "roadstead.dev/issued-by";

/// On a certificate's Secret: of which other CA clients are told besides, and since which second of the epoch.
const ANNOUNCED: &str = "roadstead.dev/announced";

/// Within which all replicas have taken up a certificate: kubelets look for changed Secrets each minute or so.
const TAKEN_UP: Duration = Duration::from_mins(10);

/// Who pushes.
pub(crate) const PUSHER: &str = "push";

/// 2^10 rounds: some 50 ms for each login.
const BCRYPT_COST: u32 = 10;

/// The Secret of a CA.
pub(crate) fn authority(wish: &Wish, name: &str, authority: &Authority) -> Object {
    let Issued { certificate, key } = authority.itself();
    Object::retained(Kind::Secret, wish, name, tls(&[("tls.crt", &certificate), ("tls.key", &key)]))
}

/// A retained Secret, for whoever only wants its name and owners.
pub(crate) fn retained(wish: &Wish, name: &str) -> Object {
    Object::retained(Kind::Secret, wish, name, json!({}))
}

/// What is known of those who use a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Everybody trusts the present CA.
    pub all_trust: bool,
    /// Everybody shows a certificate of the present CA.
    pub all_show: bool,
}

/// The Secret of a certificate as it is to be next, if that is something else; `bundle` is what is trusted now.
pub(crate) fn next(
    wish: &Wish,
    leaf: &Leaf<'_>,
    present: Option<&Value>,
    bundle: &str,
    evidence: Evidence,
    now: SystemTime,
) -> Result<Option<Object>, CertificateError> {
    let Some(secret) = present else { return issue(wish, leaf, &rotation::with(bundle, &leaf.ca), now).map(Some) };
    let names = short_hash(&json!(leaf.names));
    let is_due = note(secret, ISSUED_FOR) != Some(&names) || renewal(secret).is_none_or(|at| now >= at);
    match stage(leaf, secret, bundle) {
        Stage::Unannounced => Ok(Some(rewritten(wish, leaf, secret, &rotation::with(bundle, &leaf.ca), None))),
        Stage::Announced if evidence.all_trust => issue(wish, leaf, bundle, now).map(Some),
        Stage::Settled | Stage::Switched if is_due => issue(wish, leaf, bundle, now).map(Some),
        Stage::Switched if evidence.all_show => Ok(Some(rewritten(wish, leaf, secret, &leaf.ca, None))),
        Stage::Announced | Stage::Settled | Stage::Switched => Ok(None),
    }
}

/// How far the change to another CA is for a certificate.
pub(crate) fn stage(leaf: &Leaf<'_>, present: &Value, bundle: &str) -> Stage {
    rotation::stage(&leaf.ca, bundle, note(present, ISSUED_BY))
}

/// What is known of clients, which nobody can ask: for `overlap` they could read of this CA; and for as long, the certificate of a
/// Secret has been there for replicas to show.
pub(crate) fn clients(present: Option<&Value>, ca: &str, overlap: Duration, now: SystemTime) -> Evidence {
    let Some(secret) = present else { return Evidence::default() };
    let is_over = |since: Option<SystemTime>, time: Duration| since.is_some_and(|since| now >= since + time);
    let issued = renewal(secret).map(|renewal| renewal - RENEW_AFTER);
    Evidence { all_trust: is_over(announced(secret, ca), overlap), all_show: is_over(issued, overlap.max(TAKEN_UP)) }
}

/// The Secret of a certificate for clients with a note that they are told of another CA from now on, if they are, and there is
/// none.
pub(crate) fn announce(wish: &Wish, leaf: &Leaf<'_>, present: &Value, bundle: &str, now: SystemTime) -> Option<Object> {
    let is_new = stage(leaf, present, bundle) == Stage::Announced && announced(present, &leaf.ca).is_none();
    is_new.then(|| rewritten(wish, leaf, present, bundle, Some(now)))
}

/// Since when clients are told of this CA besides the one whose certificate is shown.
fn announced(secret: &Value, ca: &str) -> Option<SystemTime> {
    let (of, at) = note(secret, ANNOUNCED)?.split_once('/')?;
    let at = at.parse().ok().filter(|_| of == rotation::fingerprint(ca))?;
    Some(UNIX_EPOCH + Duration::from_secs(at))
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn note<'a>(secret: &'a Value, key: &str) -> Option<&'a str> {
    secret["metadata"]["annotations"][key].as_str()
}

fn renewal(secret: &Value) -> Option<SystemTime> {
    let at = note(secret, RENEW_AT)?.parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(at))
}

fn issue(wish: &Wish, leaf: &Leaf<'_>, bundle: &str, now: SystemTime) -> Result<Object, CertificateError> {
    let Issued { certificate, key } = leaf.authority.issue(&leaf.names, leaf.usage, now)?;
    let mut content = tls(&[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", bundle)]);
    content["metadata"] = json!({
        "annotations": {
            RENEW_AT: seconds(now + RENEW_AFTER).to_string(),
            ISSUED_FOR: short_hash(&json!(leaf.names)),
            ISSUED_BY: rotation::fingerprint(&leaf.ca),
        },
    });
    Ok(Object::owned(Kind::Secret, wish, &leaf.name, content))
}

/// The same certificate beside another bundle; with a note of when the bundle was `announced`.
fn rewritten(wish: &Wish, leaf: &Leaf<'_>, present: &Value, bundle: &str, announced: Option<SystemTime>) -> Object {
    let field = |key: &str| decoded(present, key).unwrap_or_default();
    let mut content = tls(&[("tls.crt", &field("tls.crt")), ("tls.key", &field("tls.key")), ("ca.crt", bundle)]);
    let notes = [RENEW_AT, ISSUED_FOR, ISSUED_BY].into_iter();
    let notes = notes.filter_map(|key| Some((key, note(present, key)?.to_owned())));
    let announced = announced.map(|at| (ANNOUNCED, format!("{}/{}", rotation::fingerprint(&leaf.ca), seconds(at))));
    let notes: BTreeMap<&str, String> = notes.chain(announced).collect();
    content["metadata"] = json!({ "annotations": notes });
    Object::owned(Kind::Secret, wish, &leaf.name, content)
}

/// What a Secret has under a key, as text.
pub(crate) fn decoded(secret: &Value, key: &str) -> Option<String> {
    String::from_utf8(content(secret, key)?).ok()
}

/// What a Secret has under a key.
pub(crate) fn content(secret: &Value, key: &str) -> Option<Vec<u8>> {
    match secret["data"][key].as_str() {
        Some(encoded) => STANDARD.decode(encoded).ok(),
        None => secret["stringData"][key].as_str().map(|text| text.as_bytes().to_vec()),
    }
}

/// A certificate that is to be there.
pub(crate) struct Leaf<'a> {
    pub name: String,
    pub authority: &'a Authority,
    /// The present CA's certificate.
    pub ca: String,
    pub names: Vec<String>,
    pub usage: Usage,
}

/// For every replica, since they differ in one label: so a new one needs no new certificate.
pub(crate) fn peer_names(wish: &Wish) -> Vec<String> {
    vec![peer_name(wish, Part::Voter, "*"), peer_name(wish, Part::Frontend, "*")]
}

/// What clients may call the registry.
pub(crate) fn serving_names(wish: &Wish, addresses: &[String]) -> Vec<String> {
    let Wish { name, namespace, .. } = wish;
    let mut names = vec![
        name.clone(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    names.extend(addresses.iter().cloned());
    names.extend(host(wish).map(str::to_owned));
    names.extend(wish.spec.tls.names.iter().cloned());
    names.extend(home_hosts(wish));
    names.sort();
    names.dedup();
    names
}

/// What another issuer's certificate is for: what people have named, or else what the registry is called in the cluster.
pub(crate) fn issued_names(wish: &Wish, addresses: &[String]) -> Vec<String> {
    let mut names = wish.spec.tls.names.clone();
    names.extend(host(wish).map(str::to_owned));
    if names.is_empty() {
        names = serving_names(wish, addresses);
    }
    names.sort();
    names.dedup();
    names
}

/// Whether the operator makes the certificate for clients.
pub(crate) fn serves_own(wish: &Wish) -> bool {
    wish.spec.tls.provider == TlsProvider::SelfSigned
}

/// The credential that may push, of random bytes.
pub(crate) fn push(wish: &Wish, random: [u8; 48]) -> Result<Object, bcrypt::BcryptError> {
    let (password, salt) = random.split_at(32);
    let password = URL_SAFE_NO_PAD.encode(password);
    let mut salted = [0; 16];
    salted.copy_from_slice(&salt[..16]);
    let hash = bcrypt::hash_with_salt(&password, BCRYPT_COST, salted)?.format_for_version(bcrypt::Version::TwoY);
    let content = json!({
        "type": "Opaque",
        "stringData": { "username": PUSHER, "password": password, "htpasswd": format!("{PUSHER}:{hash}\n") },
    });
    Ok(Object::retained(Kind::Secret, wish, &wish.named("push"), content))
}

/// What clients trust.
pub(crate) fn trust(wish: &Wish, ca: &str) -> Object {
    Object::owned(Kind::ConfigMap, wish, &wish.named("ca"), json!({ "data": { "ca.crt": ca } }))
}

fn tls(data: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
    json!({ "type": "kubernetes.io/tls", "stringData": data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::golden::wish;

    fn start() -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn leaf<'a>(ca: &'a Authority, names: &[&str]) -> Leaf<'a> {
        Leaf {
            name: "home-peer-tls".to_owned(),
            authority: ca,
            ca: ca.itself().certificate,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usage: Usage::Peer,
        }
    }

    fn after(leaf: &Leaf<'_>, present: &Value, evidence: Evidence, days: u64) -> Option<Value> {
        let bundle = decoded(present, "ca.crt").unwrap_or_default();
        let now = start() + Duration::from_hours(24 * days);
        next(&wish(), leaf, Some(present), &bundle, evidence, now).unwrap().map(|object| object.value)
    }

    const NOTHING: Evidence = Evidence { all_trust: false, all_show: false };
    const TRUST: Evidence = Evidence { all_trust: true, all_show: false };
    const SHOW: Evidence = Evidence { all_trust: true, all_show: true };

    #[test]
    fn a_certificate_is_renewed_in_time_and_for_other_names() {
        let ca = Authority::make(start()).unwrap();
        let first = next(&wish(), &leaf(&ca, &["a"]), None, "", NOTHING, start()).unwrap().unwrap().value;
        assert_eq!(after(&leaf(&ca, &["a"]), &first, NOTHING, 59), None);
        assert!(after(&leaf(&ca, &["a"]), &first, NOTHING, 60).is_some());
        assert!(after(&leaf(&ca, &["a", "b"]), &first, NOTHING, 1).is_some());
    }

    #[test]
    fn another_ca_is_trusted_by_all_before_its_certificate_is_shown_and_alone_when_all_show_it() {
        let (old, new) = (Authority::make(start()).unwrap(), Authority::make(start()).unwrap());
        let first = next(&wish(), &leaf(&old, &["a"]), None, "", NOTHING, start()).unwrap().unwrap().value;
        let wanted = leaf(&new, &["a"]);
        let field = |secret: &Value, key: &str| decoded(secret, key).unwrap();
        // Whatever else is due: a certificate that not everybody trusts is shown by nobody.
        let announced = after(&wanted, &first, SHOW, 70).unwrap();
        assert_eq!(field(&announced, "tls.crt"), field(&first, "tls.crt"));
        assert_eq!(rotation::certificates(&field(&announced, "ca.crt")).len(), 2);
        assert_eq!(after(&wanted, &announced, NOTHING, 70), None);
        let switched = after(&wanted, &announced, TRUST, 1).unwrap();
        assert_ne!(field(&switched, "tls.crt"), field(&first, "tls.crt"));
        assert_eq!(field(&switched, "ca.crt"), field(&announced, "ca.crt"));
        assert_eq!(after(&wanted, &switched, TRUST, 1), None);
        let settled = after(&wanted, &switched, SHOW, 1).unwrap();
        assert_eq!(field(&settled, "tls.crt"), field(&switched, "tls.crt"));
        assert_eq!(field(&settled, "ca.crt"), new.itself().certificate);
        assert_eq!(after(&wanted, &settled, SHOW, 1), None);
    }

    #[test]
    fn clients_get_time_to_read_of_another_ca() {
        const HOUR: Duration = Duration::from_hours(1);
        let (old, new) = (Authority::make(start()).unwrap(), Authority::make(start()).unwrap());
        let first = next(&wish(), &leaf(&old, &["a"]), None, "", NOTHING, start()).unwrap().unwrap().value;
        let wanted = leaf(&new, &["a"]);
        let both = rotation::with(&old.itself().certificate, &wanted.ca);
        let known = |secret: &Value, overlap: u32, hours: u32| {
            clients(Some(secret), &wanted.ca, overlap * HOUR, start() + hours * HOUR)
        };
        // Its certificate is due for renewal, and nobody was told of the new CA yet.
        assert!(!known(&first, 24, 24 * 61).all_trust);
        let begun = start() + 24 * 61 * HOUR;
        let noted = announce(&wish(), &wanted, &first, &both, begun).unwrap().value;
        assert_eq!(decoded(&noted, "tls.crt"), decoded(&first, "tls.crt"));
        assert_eq!(announce(&wish(), &wanted, &noted, &both, begun + HOUR), None, "it is noted once");
        assert!(!known(&noted, 24, 24 * 61 + 23).all_trust);
        assert!(known(&noted, 24, 24 * 62).all_trust && known(&noted, 1, 24 * 61 + 1).all_trust);
        let third = Authority::make(start()).unwrap();
        assert!(!clients(Some(&noted), &third.itself().certificate, HOUR, begun + 48 * HOUR).all_trust);

        let switched = next(&wish(), &wanted, Some(&noted), &both, TRUST, begun + 24 * HOUR).unwrap().unwrap().value;
        assert_eq!(stage(&wanted, &switched, &both), Stage::Switched);
        assert_eq!(announce(&wish(), &wanted, &switched, &both, begun + 25 * HOUR), None);
        assert!(!known(&switched, 24, 24 * 63 - 1).all_show && known(&switched, 24, 24 * 63).all_show);
        assert!(!known(&switched, 0, 24 * 62).all_show, "kubelets take a while");
        assert_eq!(clients(None, &wanted.ca, HOUR, start()), NOTHING);
    }

    #[test]
    fn the_credential_is_one_that_replicas_take() {
        let push = push(&wish(), [7; 48]).unwrap().value;
        let field = |key: &str| push["stringData"][key].as_str().unwrap().to_owned();
        let htpasswd = field("htpasswd");
        let (user, hash) = htpasswd.trim_end().split_once(':').unwrap();
        assert_eq!(user, field("username"));
        assert!(bcrypt::verify(field("password"), hash).unwrap());
    }
}
