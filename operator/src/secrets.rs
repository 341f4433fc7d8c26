//! The Secrets of a registry: what is made once, and what is renewed.
//!
//! ```text
//!  NAME-peer-ca, NAME-serving-ca   tls.crt, tls.key             created once, for ever
//!  NAME-peer-tls, NAME-serving-tls tls.crt, tls.key, ca.crt     issued by them, renewed a third of their life before its end
//!  NAME-push                       username, password, htpasswd created once; delete it, and another one is made
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use roadstead_crds::TlsProvider;
use serde_json::{Value, json};

use crate::build::{Kind, Object, Wish, home_hosts, peer_name, short_hash};
use crate::certificates::{Authority, CertificateError, Issued, RENEW_AFTER, Usage};

/// On a certificate's Secret: the second of the epoch from which on it is to be renewed.
const RENEW_AT: &str = "roadstead.dev/renew-at";

/// On a certificate's Secret: which names it is for, and who has issued it.
const ISSUED_FOR: &str = "roadstead.dev/issued-for";

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

/// The Secret of a certificate, if the present one has to be replaced.
pub(crate) fn renewed(
    wish: &Wish,
    leaf: &Leaf<'_>,
    present: Option<&Value>,
    now: SystemTime,
) -> Result<Option<Object>, CertificateError> {
    let Leaf { name, authority, trusted, names, usage } = leaf;
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let issued_for = short_hash(&json!([names, trusted]));
    let annotation = |key: &str| present.and_then(|secret| secret["metadata"]["annotations"][key].as_str());
    let renew_at = annotation(RENEW_AT).and_then(|text| text.parse::<u64>().ok());
    if annotation(ISSUED_FOR) == Some(&issued_for) && renew_at.is_some_and(|at| seconds(now) < at) {
        return Ok(None);
    }
    let Issued { certificate, key } = authority.issue(names, *usage, now)?;
    let mut content = tls(&[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", trusted)]);
    content["metadata"] = json!({
        "annotations": { RENEW_AT: seconds(now + RENEW_AFTER).to_string(), ISSUED_FOR: issued_for },
    });
    Ok(Some(Object::owned(Kind::Secret, wish, name, content)))
}

/// A certificate that is to be there.
pub(crate) struct Leaf<'a> {
    pub name: String,
    pub authority: &'a Authority,
    /// The CA's certificate that others trust.
    pub trusted: String,
    pub names: Vec<String>,
    pub usage: Usage,
}

/// For every replica, since they differ in one label: so a new one needs no new certificate.
pub(crate) fn peer_names(wish: &Wish) -> Vec<String> {
    vec![peer_name(wish, "*")]
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
    names.extend(wish.spec.tls.names.iter().cloned());
    names.extend(home_hosts(wish));
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

    #[test]
    fn a_certificate_is_renewed_in_time_and_for_other_names() {
        let ca = Authority::make(start()).unwrap();
        let wish = wish();
        let leaf = |names: &[&str]| Leaf {
            name: "home-peer-tls".to_owned(),
            authority: &ca,
            trusted: ca.itself().certificate,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usage: Usage::Peer,
        };
        let first = renewed(&wish, &leaf(&["a"]), None, start()).unwrap().unwrap().value;
        let again = |names: &[&str], days: u64| {
            renewed(&wish, &leaf(names), Some(&first), start() + Duration::from_hours(24 * days)).unwrap().is_some()
        };
        assert!(!again(&["a"], 59));
        assert!(again(&["a"], 60));
        assert!(again(&["a", "b"], 1));
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
