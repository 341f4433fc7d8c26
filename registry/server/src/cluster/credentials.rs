//! Who belongs to the cluster: whoever has a certificate of its CA.
//!
//! The CA is either given, with a certificate of this replica (cert-manager, a company's own), or follows from a secret
//! that every replica is given: the same secret is the same CA key, so each replica issues a certificate to itself and
//! nothing has to be exchanged.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ED25519};
use roadstead_domain::Clock;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use super::REPLICA_NAME;
use crate::tls::{Authority, Certificate, IssueError, Issued, Slot, provider};
use crate::watched::FromFiles;

/// The shortest secret: 32 characters hold at least the 128 bits that nobody guesses, if they are random.
const MIN_SECRET_BYTES: usize = 32;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// The secret's file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The secret is short.
    #[error("{} has less than {MIN_SECRET_BYTES} bytes: `openssl rand -hex 32` makes a good secret", .0.display())]
    ShortSecret(PathBuf),
    /// A certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// TLS does not take them.
    #[error("TLS cannot use them: {0}")]
    Tls(String),
}

/// The CAs of a file.
#[derive(Debug)]
pub(crate) struct TrustFile(Arc<RootCertStore>);

/// Why a file of CAs cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("it has no PEM block of a CA certificate that can be read")]
pub(crate) struct NoCa;

impl FromFiles<1> for TrustFile {
    const NAME: &'static str = "cluster CA";
    type Error = NoCa;

    fn from_files([pem]: [Vec<u8>; 1]) -> Result<Self, NoCa> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|_| NoCa)?).map_err(|_| NoCa)?;
        }
        if roots.is_empty() { Err(NoCa) } else { Ok(Self(Arc::new(roots))) }
    }
}

/// The certificate that this replica shows, and the CAs whose certificates it takes for others'.
#[derive(Clone)]
pub(crate) struct Credentials {
    certificate: Arc<ArcSwap<Certificate>>,
    trust: Arc<ArcSwap<TrustFile>>,
    /// Whether certificates are for [`REPLICA_NAME`], or each for its replica's host.
    is_own: bool,
}

impl Credentials {
    /// Of files that are given, and read again when they change.
    pub(crate) fn given(certificate: Arc<ArcSwap<Certificate>>, trust: Arc<ArcSwap<TrustFile>>) -> Self {
        Self { certificate, trust, is_own: false }
    }

    /// Of the secret in a file; with the certificate to renew.
    pub(crate) fn of_secret(path: PathBuf, clock: Arc<dyn Clock>) -> Result<(Self, Arc<Issued>), CredentialsError> {
        let secret = match std::fs::read(&path) {
            Ok(secret) => secret,
            Err(source) => return Err(CredentialsError::Unreadable { path, source }),
        };
        let secret = secret.trim_ascii();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(CredentialsError::ShortSecret(path));
        }
        let authority = Authority::of(ca_key(secret)?, clock.now())?;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let issued = Arc::new(Issued::new(authority, vec![REPLICA_NAME.to_owned()], usages, clock)?);
        let mut roots = RootCertStore::empty();
        roots.add(issued.authority().der().clone()).map_err(tls_error)?;
        let trust = Arc::new(ArcSwap::from_pointee(TrustFile(Arc::new(roots))));
        Ok((Self { certificate: issued.slot(), trust, is_own: true }, issued))
    }

    /// The certificate that is shown.
    pub(super) fn certificate(&self) -> Arc<ArcSwap<Certificate>> {
        Arc::clone(&self.certificate)
    }

    /// How to accept whoever is of the cluster, with what is in force now.
    pub(super) fn server(&self) -> Result<Arc<ServerConfig>, CredentialsError> {
        let provider = Arc::new(provider());
        let roots = Arc::clone(&self.trust.load().0);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().map_err(tls_error)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Slot(Arc::clone(&self.certificate))));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// How to connect to a replica, with what is in force now.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let provider = Arc::new(provider());
        let roots = Arc::clone(&self.trust.load().0);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().map_err(tls_error)?;
        let key = SingleCertAndKey::from(self.certificate.load().key());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(Arc::new(key));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// The name that the certificate of a replica at `host` must be for.
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        ServerName::try_from(if self.is_own { REPLICA_NAME.to_owned() } else { host.to_owned() })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn tls_error(error: impl ToString) -> CredentialsError {
    CredentialsError::Tls(error.to_string())
}

/// The CA's key: Ed25519, whose private key is any 32 bytes (RFC 8032, 5.1.5), wrapped as RFC 8410, section 7 says.
fn ca_key(secret: &[u8]) -> Result<KeyPair, IssueError> {
    const PKCS8_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let seed = Sha256::new_with_prefix(b"roadstead cluster CA, version 1\0").chain_update(secret).finalize();
    let der = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], &seed[..]].concat());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)?)
}
