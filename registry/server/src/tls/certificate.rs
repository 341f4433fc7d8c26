//! A certificate chain and the key that belongs to it.

use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::expiry::expiry;
use super::provider;
use crate::watched::FromFiles;

/// A chain and its key, known to fit each other.
#[derive(Debug)]
pub(crate) struct Certificate(Arc<CertifiedKey>);

/// Why a certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The first file has no certificate.
    #[error("the certificate file has no PEM block of a certificate")]
    NoCertificate,
    /// The first file is broken.
    #[error("the certificate file is not PEM: {0}")]
    BadCertificate(pem::Error),
    /// The second file has no key, or is broken.
    #[error("the key file has no PEM block of an unencrypted private key: {0}")]
    BadKey(pem::Error),
    /// The key is of an unknown kind, or is not the certificate's.
    #[error("the certificate and the key do not fit each other: {0}")]
    Mismatch(rustls::Error),
}

impl Certificate {
    /// A chain, leaf first, and its key.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(CertificateError::Mismatch)?;
        Ok(Self(Arc::new(certified)))
    }

    /// The Unix time, in seconds, at which the first certificate of the chain expires; none where that cannot be read.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.0.cert.iter().filter_map(|certificate| expiry(certificate)).min()
    }

    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

impl FromFiles<2> for Certificate {
    const NAME: &'static str = "TLS certificate";
    type Error = CertificateError;

    fn from_files([chain, key]: [Vec<u8>; 2]) -> Result<Self, CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .map_err(CertificateError::BadCertificate)?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(CertificateError::BadKey)?;
        Self::new(chain, key)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::watched::Watched;

    /// A self-signed pair in PEM.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn leaf(certificate: &Certificate) -> Vec<u8> {
        certificate.key().cert[0].to_vec()
    }

    #[test]
    fn pairs_that_cannot_be_used_are_refused_with_the_reason() {
        let ((a_cert, a_key), (_, b_key)) = (pair(), pair());
        let refused = [(&*a_cert, &*b_key), (&*a_key, &*a_key), (&*a_cert, &*a_cert), ("", &*a_key)]
            .map(|(cert, key)| Certificate::from_files([cert.into(), key.into()]).unwrap_err().to_string());
        insta::assert_snapshot!(refused.join("\n"), @r#"
        the certificate and the key do not fit each other: keys may not be consistent: KeyMismatch
        the certificate file has no PEM block of a certificate
        the key file has no PEM block of an unencrypted private key: no items found
        the certificate file has no PEM block of a certificate
        "#);
    }

    #[test]
    fn what_expires_first_of_a_chain_is_told() {
        let certified = |days: u64| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_hours(24 * days)).into();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let ((leaf, key), (intermediate, _)) = (certified(30_000), certified(29_000));
        let chain = Certificate::from_files([format!("{leaf}{intermediate}").into(), key.into()]).unwrap();
        assert_eq!(chain.expires(), Some(29_000 * 86_400));
    }

    #[test]
    fn a_renewed_pair_is_used_and_half_of_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [cert_file, key_file] = ["fullchain.pem", "privkey.pem"].map(|name| folder.path().join(name));
        let ((old_cert, old_key), (new_cert, new_key)) = (pair(), pair());
        fs::write(&cert_file, old_cert).unwrap();
        fs::write(&key_file, old_key).unwrap();
        let watched = Watched::<Certificate, 2>::open([cert_file.clone(), key_file.clone()]).unwrap();
        let before = leaf(&watched.current());
        fs::write(&cert_file, new_cert).unwrap();
        watched.look();
        assert_eq!(leaf(&watched.current()), before, "the new certificate does not fit the old key");
        fs::write(&key_file, new_key).unwrap();
        watched.look();
        assert_ne!(leaf(&watched.current()), before);
    }
}
