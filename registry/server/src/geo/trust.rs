//! What a mirror shows its home, and whom it takes for it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::provider;
use crate::watched::FromFiles;

/// The token that home has minted for this mirror, without the newline at the end of its file.
pub(crate) struct BearerToken(pub(super) String);

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
#[error("it is not one line of printable text, as `roadstead mirror token` prints it")]
pub(crate) struct NoToken;

impl FromFiles<1> for BearerToken {
    const NAME: &'static str = "token for the upstream";
    type Error = NoToken;

    fn from_files([content]: [Vec<u8>; 1]) -> Result<Self, NoToken> {
        let text = str::from_utf8(content.trim_ascii()).map_err(|_| NoToken)?;
        let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token { Ok(Self(text.to_owned())) } else { Err(NoToken) }
    }
}

/// Who may be home.
pub(crate) struct HomeTrust(pub(super) Arc<ClientConfig>);

/// Why CAs cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// No PEM block of a CA certificate that can be read.
    #[error("it has no PEM block of a CA certificate that can be read")]
    NoCa,
    /// TLS does not take them.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl FromFiles<1> for HomeTrust {
    const NAME: &'static str = "CA of the upstream";
    type Error = TrustError;

    fn from_files([pem]: [Vec<u8>; 1]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|_| TrustError::NoCa)?).map_err(|_| TrustError::NoCa)?;
        }
        Self::of(roots)
    }
}

impl HomeTrust {
    /// Those that the system trusts.
    pub(super) fn of_system() -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        // What cannot be read of them is not trusted; where nothing can, it says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Result<Self, TrustError> {
        if roots.is_empty() {
            return Err(TrustError::NoCa);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A connection for each stream: one congestion window would hold all of them back.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}
