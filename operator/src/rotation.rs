//! How certificates come to be another CA's: in stages, so that at every moment whoever calls trusts whoever is called.
//!
//! ```text
//!            the CA's Secret was deleted, and another one made
//!  settled ----------------------------------------------------> announced: both are trusted, the leaf is the former one's
//!     ^                                                             | everybody trusts both
//!     |        everybody shows the new leaf                         v
//!     '------------------------------------------------------- switched: both are trusted, the leaf is the new one's
//! ```
//!
//! For replicas, "everybody" is found out by asking each of them: with a certificate of the new CA, then trusting nothing
//! else. Clients cannot be asked: see [`crate::secrets`].

use crate::build::short_hash;

const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a bundle, each as PEM.
pub(crate) fn certificates(bundle: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in bundle.split_inclusive(END) {
        if let Some(start) = part.find("-----BEGIN CERTIFICATE-----").filter(|_| part.ends_with(END)) {
            let certificate = format!("{}\n", &part[start..]);
            if !found.contains(&certificate) {
                found.push(certificate);
            }
        }
    }
    found
}

/// What a CA is called where it is noted who has issued something.
pub(crate) fn fingerprint(certificate: &str) -> String {
    short_hash(&serde_json::json!(certificate.trim()))
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// One CA is trusted, and has issued the leaf.
    Settled,
    /// The new CA is not trusted yet.
    Unannounced,
    /// Both are trusted; the former one has issued the leaf.
    Announced,
    /// Both are trusted; the new one has issued the leaf.
    Switched,
}

/// Where it is for a leaf that the CA with the fingerprint `issued_by` has issued, beside this bundle.
pub(crate) fn stage(authority: &str, bundle: &str, issued_by: Option<&str>) -> Stage {
    let trusted = certificates(bundle);
    let is_trusted = trusted.iter().any(|certificate| certificate.trim() == authority.trim());
    let is_own = issued_by == Some(&*fingerprint(authority));
    match (is_trusted, is_own) {
        (false, _) => Stage::Unannounced,
        (true, false) => Stage::Announced,
        (true, true) if trusted.len() > 1 => Stage::Switched,
        (true, true) => Stage::Settled,
    }
}

/// The bundle with another CA in it.
pub(crate) fn with(bundle: &str, authority: &str) -> String {
    certificates(&format!("{bundle}\n{authority}")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{name}\n{END}\n")
    }

    #[test]
    fn a_rotation_goes_through_its_stages() {
        let (old, new) = (certificate("old"), certificate("new"));
        let (of_old, of_new) = (fingerprint(&old), fingerprint(&new));
        assert_eq!(stage(&old, &old, Some(&of_old)), Stage::Settled);
        assert_eq!(stage(&new, &old, Some(&of_old)), Stage::Unannounced);
        let both = with(&old, &new);
        assert_eq!(certificates(&both), [old.clone(), new.clone()]);
        assert_eq!(with(&both, &new), both);
        assert_eq!(stage(&new, &both, Some(&of_old)), Stage::Announced);
        assert_eq!(stage(&new, &both, Some(&of_new)), Stage::Switched);
        assert_eq!(stage(&new, &new, Some(&of_new)), Stage::Settled);
        assert_eq!(stage(&new, &new, None), Stage::Announced);
    }

    #[test]
    fn what_is_no_certificate_is_no_part_of_a_bundle() {
        assert!(certificates("").is_empty());
        assert_eq!(certificates(&format!("# a note\n{}trailing", certificate("a"))), [certificate("a")]);
    }
}
