//! What a home does for its mirrors: a token and a join Secret for each, and the Registry of those of this cluster.
//!
//! ```text
//!  an entry --no Secret yet: mint--> token --> join Secret --unless remote--> Registry, owned by nobody
//! ```
//!
//! A token is told once. Whoever is killed before it is in the Secret mints another one, and that one counts; whoever
//! finds the Secret mints none. What else is in it follows home: its endpoint, its CA and its logins.

use roadstead_crds::{Mirror, MirrorStatus, Registry, TlsProvider};
use serde_json::Value;

use super::context::{Context, Weight};
use super::observe::Sight;
use super::reconcile::ReconcileError;
use crate::admin::{AdminError, Credentials};
use crate::ambient;
use crate::apply::Objects;
use crate::build::{self, HOME, Join, Kind, Wish};
use crate::secrets::decoded;

/// What a mirror waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Waiting {
    /// There is no home yet.
    #[error("the mirror {0} is made once this registry is begun")]
    NotBegun(String),
    /// Nobody knows how it is to reach home.
    #[error(
        "it is not known where the mirror {0} reaches this registry: set its `homeEndpoint`, or `expose.service.type: \
         LoadBalancer`"
    )]
    NoEndpoint(String),
    /// The Secret was made when another registry had this name.
    #[error("the Secret {0} is for a mirror of another cluster that had this name: delete it, and another one is made")]
    OtherHome(String),
    /// A Registry that was not made here has the mirror's name.
    #[error("there is a Registry {0} that is no mirror of this one: delete it, or name the mirror otherwise")]
    NameTaken(String),
    /// Home does not mint.
    #[error("no token can be had for the mirror {0}: {1}")]
    NotMinted(String, String),
}

impl Waiting {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::NotBegun(_) => "NotBegun",
            Self::NoEndpoint(_) => "NoEndpoint",
            Self::OtherHome(_) => "OtherHome",
            Self::NameTaken(_) => "NameTaken",
            Self::NotMinted(..) => "NotMinted",
        }
    }
}

/// What was seen of the mirrors.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub mirrors: Vec<MirrorStatus>,
    /// What the first of those that wait waits for.
    pub waiting: Option<Waiting>,
}

/// What is the same for all mirrors of a home.
pub(super) struct Homeland<'a> {
    pub context: &'a Context,
    pub registry: &'a Registry,
    pub objects: &'a Objects<'a>,
    pub wish: &'a Wish,
    pub sight: &'a Sight,
    pub credentials: &'a Credentials,
    /// The logins that are good here, of those that the operator makes.
    pub accounts: Option<&'a String>,
    /// As it is.
    pub service: &'a Value,
}

impl Homeland<'_> {
    /// Makes what is missing for the mirrors, and says how they are.
    pub(super) async fn keep(&self) -> Result<Joined, ReconcileError> {
        let mut joined = Joined::default();
        if self.wish.spec.mirrors.is_empty() {
            return Ok(joined);
        }
        let authority = self.authority().await?;
        for mirror in &self.wish.spec.mirrors {
            let status = match self.join(mirror, authority.as_ref()).await? {
                Ok(status) => status,
                Err(waiting) => {
                    self.context.tell(self.registry, Weight::Warning, waiting.reason(), waiting.to_string()).await;
                    joined.waiting.get_or_insert(waiting);
                    MirrorStatus { name: mirror.name.clone(), phase: "Waiting".to_owned(), ..MirrorStatus::default() }
                }
            };
            joined.mirrors.push(status);
        }
        Ok(joined)
    }

    /// Who has signed the certificate of this registry.
    async fn authority(&self) -> Result<Option<String>, kube::Error> {
        let tls = &self.wish.spec.tls;
        let name = match (&tls.provider, &tls.secret_ref) {
            // While one CA follows another, both are told of.
            (TlsProvider::SelfSigned, _) => {
                let told = self.objects.get(Kind::ConfigMap, &self.wish.named("ca")).await?;
                return Ok(told.and_then(|told| told["data"]["ca.crt"].as_str().map(str::to_owned)));
            }
            (TlsProvider::CertManager, _) => self.wish.named("serving-tls"),
            (TlsProvider::Secret, Some(given)) => given.name.clone(),
            (TlsProvider::Secret | TlsProvider::Disabled, _) => return Ok(None),
        };
        let secret = self.objects.get(Kind::Secret, &name).await?;
        Ok(secret.and_then(|secret| decoded(&secret, "ca.crt")))
    }

    async fn join(
        &self,
        mirror: &Mirror,
        authority: Option<&String>,
    ) -> Result<Result<MirrorStatus, Waiting>, ReconcileError> {
        let name = || mirror.name.clone();
        let Some(endpoint) = build::home_endpoint(self.wish, mirror, self.service) else {
            return Ok(Err(Waiting::NoEndpoint(name())));
        };
        let Some(group) = &self.sight.observed.group else { return Ok(Err(Waiting::NotBegun(name()))) };
        let (cluster, secret) = (group.cluster.to_string(), build::join_name(self.wish, mirror));
        let present = self.objects.get(Kind::Secret, &secret).await?;
        let token = match &present {
            Some(present) if decoded(present, "cluster").is_some_and(|of| of != cluster) => {
                return Ok(Err(Waiting::OtherHome(secret)));
            }
            Some(present) => decoded(present, "token"),
            None => None,
        };
        let token = match token {
            Some(token) => token,
            None => match self.mint(mirror).await {
                Ok(token) => token,
                Err(error) => return Ok(Err(Waiting::NotMinted(name(), error.to_string()))),
            },
        };
        let join = Join { endpoint, cluster, token, authority: authority.cloned(), accounts: self.accounts.cloned() };
        let wanted = build::join(self.wish, mirror, &join);
        if present.is_some() {
            self.objects.apply_over(&wanted, present).await?;
        } else {
            // Not created, as what is made once is: the API server would keep keys that are not wanted any more, such as the
            // CA of before.
            self.objects.write(&wanted).await?;
            let note = format!("the Secret {secret} lets the mirror {} follow", mirror.name);
            self.context.tell(self.registry, Weight::Normal, "MirrorAdmitted", note).await;
        }
        if mirror.remote {
            let phase = "Minted".to_owned();
            let (name, join_secret) = (name(), Some(secret));
            return Ok(Ok(MirrorStatus { name, phase, join_secret, ..MirrorStatus::default() }));
        }
        self.make(mirror, secret).await
    }

    async fn mint(&self, mirror: &Mirror) -> Result<String, AdminError> {
        let leader = self.sight.observed.group.as_ref().map(|group| group.leader);
        let target = self.sight.member_target(leader);
        let target = target.ok_or_else(|| AdminError::Silent("no replica is there".to_owned()))?;
        let minted = self.credentials.mint(target, &mirror.name).await?;
        self.objects.writes.note();
        Ok(minted.token)
    }

    /// Makes the Registry of a mirror of this cluster what its entry says, and reads what it says.
    async fn make(&self, mirror: &Mirror, secret: String) -> Result<Result<MirrorStatus, Waiting>, ReconcileError> {
        let wanted = build::mirror(self.wish, mirror);
        let present = self.objects.get(Kind::Registry, &wanted.name).await?;
        if let Some(present) = &present
            && present["metadata"]["labels"][HOME] != self.wish.name.as_str()
        {
            return Ok(Err(Waiting::NameTaken(wanted.name)));
        }
        let goes = present.as_ref().is_some_and(|present| present["metadata"]["deletionTimestamp"].is_string());
        let present =
            if goes { present.unwrap_or_default() } else { self.objects.apply_over(&wanted, present).await? };
        let said = |pointer: &str| present.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        // One that was promoted follows nobody.
        let is_home = said("/status/topology/standing").filter(|standing| standing == "Home");
        let phase = is_home.or_else(|| said("/status/upstream/phase")).unwrap_or_else(|| "Joining".to_owned());
        let last_seen = (phase == "HomeAway").then(|| self.last_seen(mirror));
        Ok(Ok(MirrorStatus {
            name: mirror.name.clone(),
            phase,
            join_secret: Some(secret),
            lag: said("/status/upstream/lag"),
            endpoint: said("/status/endpoint"),
            last_seen,
        }))
    }

    /// When a mirror that is not in contact was last: what was said before, or now.
    fn last_seen(&self, mirror: &Mirror) -> String {
        let before = self.registry.status.iter().flat_map(|status| &status.mirrors);
        let before = before.filter(|before| before.name == mirror.name).find_map(|before| before.last_seen.clone());
        before.unwrap_or_else(|| super::status::time(ambient::now()).0.to_string())
    }
}
