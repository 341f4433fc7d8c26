//! A certificate authority of our own, and the certificates that it issues.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use roadstead_domain::Clock;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use super::Certificate;
use super::certificate::CertificateError;
use crate::tasks::TaskResult;

pub(super) const DAY: Duration = Duration::from_hours(24);

/// Ten years: renewing it means going to every client again.
const CA_LIFE: Duration = Duration::from_hours(3_650 * 24);

/// As long as public authorities allow, for the same reason: clients may refuse longer ones some day.
pub(super) const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);

/// A third of its life before it expires, as certbot does.
const RENEW_AFTER: Duration = Duration::from_hours(60 * 24);

/// How often the leaf's age is looked at: an hour is nothing beside a month.
pub(super) const LOOK: Duration = Duration::from_hours(1);

/// Certificates begin this long ago, for clients whose clocks are behind.
const BACKDATED: Duration = DAY;

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// It cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// It was made and cannot be used.
    #[error(transparent)]
    Use(#[from] CertificateError),
}

/// A CA that follows from its key, but for its dates: so the issuer's name of a leaf can be told from the key alone, and
/// two CAs never have the same name.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    /// The CA of a key.
    pub(crate) fn of(key: KeyPair, now: SystemTime) -> Result<Self, IssueError> {
        let name = hex::encode(&Sha256::digest(key.public_key_raw())[..4]);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Roadstead CA {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + CA_LIFE).into();
        let certificate = params.self_signed(&key)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// What those who trust it are given, as text.
    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What those who trust it are given.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// A fresh certificate for `names`, good for `usages`.
    pub(super) fn issue(
        &self,
        names: &[String],
        usages: &[ExtendedKeyUsagePurpose],
        now: SystemTime,
    ) -> Result<Certificate, IssueError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Roadstead");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LEAF_LIFE).into();
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Certificate::new(vec![leaf.der().clone()], key)?)
    }
}

/// A certificate that stays valid: it lives in memory only, and is made anew before it expires.
pub(crate) struct Issued {
    authority: Authority,
    names: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    clock: Arc<dyn Clock>,
    slot: Arc<ArcSwap<Certificate>>,
}

impl Issued {
    /// Makes the first certificate.
    pub(crate) fn new(
        authority: Authority,
        names: Vec<String>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IssueError> {
        let first = authority.issue(&names, &usages, clock.now())?;
        Ok(Self { authority, names, usages, clock, slot: Arc::new(ArcSwap::from_pointee(first)) })
    }

    /// Where the present certificate stands.
    pub(crate) fn slot(&self) -> Arc<ArcSwap<Certificate>> {
        Arc::clone(&self.slot)
    }

    /// Who issues it.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Renews the certificate whenever it is time, for ever. A run begins with a fresh one.
    pub(crate) async fn renew(self: Arc<Self>) -> TaskResult {
        let mut made = self.make()?;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if self.clock.now() >= made + RENEW_AFTER {
                made = self.make()?;
                info!(names = ?self.names, days = LEAF_LIFE.as_secs() / DAY.as_secs(), "a new certificate of our own is in use");
            }
        }
    }

    /// Makes a certificate and says when it was made.
    fn make(&self) -> Result<SystemTime, IssueError> {
        let now = self.clock.now();
        self.slot.store(Arc::new(self.authority.issue(&self.names, &self.usages, now)?));
        Ok(now)
    }
}
