//! The registry's own certificate authorities, and what they issue.
//!
//! A registry has two: one whose certificates its replicas and the operator show each other, and whoever has one of those
//! belongs to it; and one that clients trust. Each is made once and never again: its key is a Secret that is only ever
//! created. A CA follows from its key but for its dates, so that its Secret's certificate is for those who trust it, and
//! nobody has to read it to issue by it.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use sha2::{Digest as _, Sha256};

const DAY: Duration = Duration::from_hours(24);

/// Ten years: renewing it means going to every client again.
const CA_LIFE: Duration = Duration::from_hours(3_650 * 24);

/// As long as public authorities allow.
const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);

/// A third of its life before it expires.
pub(crate) const RENEW_AFTER: Duration = Duration::from_hours(60 * 24);

/// Certificates begin this long ago, for those whose clocks are behind.
const BACKDATED: Duration = DAY;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// It cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A Secret does not hold what this operator put there.
    #[error("the Secret {0} has no `tls.key` that is a private key: put back what was there")]
    Key(String),
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// For replicas: they call and are called.
    Peer,
    /// For clients' connections.
    Server,
    /// For the operator, which only calls.
    Client,
}

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub certificate: String,
    pub key: String,
}

/// A CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
}

impl Authority {
    /// A new one.
    pub(crate) fn make(now: SystemTime) -> Result<Self, CertificateError> {
        Self::of(KeyPair::generate()?, now)
    }

    /// The one of a key in PEM, that the Secret `name` has.
    pub(crate) fn open(name: &str, key: &str, now: SystemTime) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pem(key).map_err(|_| CertificateError::Key(name.to_owned()))?;
        Self::of(key, now)
    }

    fn of(key: KeyPair, now: SystemTime) -> Result<Self, CertificateError> {
        let name = hex::encode(&Sha256::digest(key.public_key_raw())[..4]);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Roadstead CA {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + CA_LIFE).into();
        let certificate = params.self_signed(&key)?.pem();
        let pem = key.serialize_pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate, key: pem })
    }

    /// The CA itself, with its key.
    pub(crate) fn itself(&self) -> Issued {
        Issued { certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// A certificate for these host names and addresses.
    pub(crate) fn issue(&self, names: &[String], usage: Usage, now: SystemTime) -> Result<Issued, CertificateError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Roadstead");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match usage {
            Usage::Peer => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LEAF_LIFE).into();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn is_trusted(ca: &str, leaf: &Issued, name: &str, at: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        let leaf = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
        verifier.verify_server_cert(&leaf, &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], at).is_ok()
    }

    #[test]
    fn a_ca_that_is_opened_years_later_issues_what_is_trusted_by_its_first_certificate() {
        let first = Authority::make(start()).unwrap().itself();
        let later = start() + 1_000 * DAY;
        let opened = Authority::open("ca", &first.key, later).unwrap();
        let names = ["*.home-peers.default.svc".to_owned(), "10.96.0.7".to_owned()];
        let leaf = opened.issue(&names, Usage::Peer, later).unwrap();
        for (name, trusted) in
            [("home-2.home-peers.default.svc", true), ("10.96.0.7", true), ("home-2.other.default.svc", false)]
        {
            assert_eq!(is_trusted(&first.certificate, &leaf, name, later), trusted, "{name}");
        }
        assert!(!is_trusted(&first.certificate, &leaf, "10.96.0.7", later + LEAF_LIFE + DAY));
        let other = Authority::make(start()).unwrap().itself();
        assert!(!is_trusted(&other.certificate, &leaf, "10.96.0.7", later));
    }

    #[test]
    fn what_is_no_key_is_told_by_the_name_of_its_secret() {
        let error = Authority::open("home-peer-ca", "nonsense", start()).err().unwrap();
        assert!(error.to_string().contains("home-peer-ca"), "{error}");
    }
}
