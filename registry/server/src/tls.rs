//! The certificate that the process shows, and its renewal without a restart.
//!
//! ```text
//!  certificate + key files --watched--.
//!                                      >-- slot (ArcSwap) --> resolver --> handshake
//!  own CA --makes a leaf, renews it---'
//! ```

mod authority;
mod certificate;
mod expiry;
mod self_signed;
mod trust;

use std::sync::Arc;

use arc_swap::ArcSwap;
pub(crate) use authority::{Authority, IssueError, Issued};
pub(crate) use certificate::Certificate;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
pub(crate) use self_signed::{SelfSigned, SelfSignedError};
pub(crate) use trust::instructions;

/// The cryptography that TLS uses: said explicitly, so that no other crate's choice can change it.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// TLS 1.2 and 1.3 with whatever certificate is in the slot when a client comes; HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(slot: Arc<ArcSwap<Certificate>>) -> Result<ServerConfig, rustls::Error> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Slot(slot)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
pub(crate) struct Slot(pub(crate) Arc<ArcSwap<Certificate>>);

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().key())
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A self-signed pair for `localhost`, and its certificate.
    fn pair() -> (Certificate, CertificateDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = certificate.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (Certificate::new(vec![der.clone()], key).unwrap(), der)
    }

    /// Whether a client that trusts one certificate and speaks these gets through, and in what.
    async fn shake(
        server: &TlsAcceptor,
        trusted: &CertificateDer<'static>,
        version: &'static SupportedProtocolVersion,
        application: &[u8],
    ) -> Option<(ProtocolVersion, Vec<u8>)> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![application.to_vec()];
        let (near, far) = tokio::io::duplex(16 << 10);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let (client, _) = tokio::join!(connector.connect(name, near), server.accept(far));
        let stream = client.ok()?;
        let connection = stream.get_ref().1;
        Some((connection.protocol_version()?, connection.alpn_protocol()?.to_vec()))
    }

    #[tokio::test]
    async fn both_versions_of_tls_and_http_are_spoken_and_the_newest_certificate_is_shown() {
        let ((first, first_der), (second, second_der)) = (pair(), pair());
        let slot = Arc::new(ArcSwap::from_pointee(first));
        let server = TlsAcceptor::from(Arc::new(server_config(Arc::clone(&slot)).unwrap()));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for application in [&b"h2"[..], b"http/1.1"] {
                let spoken = shake(&server, &first_der, version, application).await;
                assert_eq!(spoken, Some((version.version, application.to_vec())));
            }
        }
        slot.store(Arc::new(second));
        assert!(shake(&server, &first_der, &rustls::version::TLS13, b"h2").await.is_none());
        assert!(shake(&server, &second_der, &rustls::version::TLS13, b"h2").await.is_some());
    }
}
