//! The Secrets of a registry: what is made once, and what is renewed.
//!
//! ```text
//!  NAME-peer-ca, NAME-serving-ca   tls.crt, tls.key             created once; delete one, and its successor comes in stages
//!  NAME-peer-tls, NAME-serving-tls tls.crt, tls.key, ca.crt     issued by them, renewed a third of their life before its end
//!  NAME-push                       username, password, htpasswd created once; delete it, and another one is made
//! ```
//!
//! After `NAME-serving-ca` was deleted, the ConfigMap that clients read has both CAs; the certificate is the new one's when it
//! is renewed, or at once if `NAME-serving-tls` is deleted, too.

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

/// For how long clients go on trusting a CA whose certificates are not shown any more.
const OVERLAP: Duration = Duration::from_hours(24);

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
        Stage::Unannounced => Ok(Some(rewritten(wish, leaf, secret, &rotation::with(bundle, &leaf.ca)))),
        Stage::Announced if evidence.all_trust => issue(wish, leaf, bundle, now).map(Some),
        Stage::Settled | Stage::Switched if is_due => issue(wish, leaf, bundle, now).map(Some),
        Stage::Switched if evidence.all_show => Ok(Some(rewritten(wish, leaf, secret, &leaf.ca))),
        Stage::Announced | Stage::Settled | Stage::Switched => Ok(None),
    }
}

/// How far the change to another CA is for a certificate.
pub(crate) fn stage(leaf: &Leaf<'_>, present: &Value, bundle: &str) -> Stage {
    rotation::stage(&leaf.ca, bundle, note(present, ISSUED_BY))
}

/// What is known of clients, which nobody can ask: a certificate that is due for renewal is the new CA's, of which they could
/// read for weeks; and a day later no replica shows the former one's.
pub(crate) fn clients(present: Option<&Value>, now: SystemTime) -> Evidence {
    let Some(renewal) = present.and_then(renewal) else { return Evidence::default() };
    Evidence { all_trust: now >= renewal, all_show: now >= renewal - RENEW_AFTER + OVERLAP }
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
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
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

/// The same certificate beside another bundle.
fn rewritten(wish: &Wish, leaf: &Leaf<'_>, present: &Value, bundle: &str) -> Object {
    let field = |key: &str| decoded(present, key).unwrap_or_default();
    let mut content = tls(&[("tls.crt", &field("tls.crt")), ("tls.key", &field("tls.key")), ("ca.crt", bundle)]);
    let notes = [RENEW_AT, ISSUED_FOR, ISSUED_BY].into_iter().filter_map(|key| Some((key, note(present, key)?)));
    content["metadata"] = json!({ "annotations": notes.collect::<std::collections::BTreeMap<_, _>>() });
    Object::owned(Kind::Secret, wish, &leaf.name, content)
}

/// What a Secret has under a key.
pub(crate) fn decoded(secret: &Value, key: &str) -> Option<String> {
    let Some(encoded) = secret["data"][key].as_str() else {
        return secret["stringData"][key].as_str().map(str::to_owned);
    };
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
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
        let ca = Authority::make(start()).unwrap();
        let secret = next(&wish(), &leaf(&ca, &["a"]), None, "", NOTHING, start()).unwrap().unwrap().value;
        let known = |hours| clients(Some(&secret), start() + Duration::from_hours(hours));
        assert_eq!(known(23), NOTHING);
        assert_eq!(known(24), Evidence { all_trust: false, all_show: true });
        assert_eq!(known(24 * 60), SHOW);
        assert_eq!(clients(None, start()), NOTHING);
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
