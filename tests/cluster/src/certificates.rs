use std::fs;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::site::Site;

/// Writes the cluster's CA, the API server's certificate, and the key that signs tokens of service accounts.
pub(crate) fn write(site: &Site) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "test cluster");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    fs::write(site.file(AUTHORITY), authority.pem())?;

    let service =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    let addresses = [site.hub_address().to_string(), site.api_service().to_string(), "127.0.0.1".to_owned()];
    let names: Vec<String> = service.map(str::to_owned).into_iter().chain(addresses).collect();
    let key = KeyPair::generate()?;
    fs::write(site.file(SERVER_KEY), key.serialize_pem())?;
    fs::write(site.file(SERVER), CertificateParams::new(names)?.signed_by(&key, &authority)?.pem())?;

    let key = KeyPair::generate()?;
    fs::write(site.file(TOKEN_KEY), key.serialize_pem())?;
    fs::write(site.file(TOKEN_PUBLIC_KEY), key.public_key_pem())?;
    Ok(())
}

pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const SERVER: &str = "server.pem";
pub(crate) const SERVER_KEY: &str = "server-key.pem";
pub(crate) const TOKEN_KEY: &str = "token-key.pem";
pub(crate) const TOKEN_PUBLIC_KEY: &str = "token-public-key.pem";
