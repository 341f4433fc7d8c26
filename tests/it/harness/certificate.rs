use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::{Setup, Workbench};

/// A certificate authority for one test, and a server certificate of it for 127.0.0.1 and localhost.
pub(crate) struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

impl Certificates {
    /// A new authority and a new certificate, both of their own keys.
    pub(crate) fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "Roadstead tests");
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate =
            CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("a certificate");
        Self { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The authority's certificate in PEM, for those who are to trust it.
    pub(crate) fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }

    /// Writes certificate and key over those that the registry of this bench uses.
    pub(crate) fn write(&self, bench: &Workbench) {
        self.write_as(&bench.path().join("certificate.pem"), &bench.path().join("key.pem"));
    }

    /// Writes certificate and key to these files, the key first.
    pub(crate) fn write_as(&self, certificate: &Path, key: &Path) {
        std::fs::write(key, &self.key).expect("a file is written");
        std::fs::write(certificate, &self.certificate).expect("a file is written");
    }

    /// A registry that serves with this certificate, and whose clients trust its authority.
    pub(crate) fn installed_in(&self, bench: &Workbench, setup: Setup) -> Setup {
        self.write(bench);
        setup
            .flag("--tls-certificate", &bench.file("certificate.pem"))
            .flag("--tls-key", &bench.file("key.pem"))
            .trusting(self.authority())
    }
}
