//! The Secrets of a registry, and the credentials with which the operator speaks to its replicas.

use futures_util::future::join_all;
use roadstead_crds::Registry;
use serde_json::Value;

use super::context::{Context, Weight};
use super::observe::Sight;
use super::reconcile::ReconcileError;
use crate::admin::Credentials;
use crate::ambient;
use crate::apply::Objects;
use crate::build::{Kind, Wish};
use crate::certificates::{Authority, Issued, Usage};
use crate::rotation::{self, Stage};
use crate::secrets::{self, Evidence, Leaf};

/// What the operator calls itself to replicas.
const OPERATOR: &str = "operator.roadstead.internal";

/// What people are told by, of each stage of the change to another CA.
const ROTATING: &str = "RotatingCA";

/// What the operator speaks to replicas with.
pub(super) struct Secured {
    pub credentials: Credentials,
    /// The logins that the operator has made, as an htpasswd file.
    pub accounts: Option<String>,
    /// What is left to be done for replicas to have certificates of another CA.
    rotation: Option<Rotation>,
}

impl Secured {
    /// Whether replicas are to have certificates of another CA.
    pub(super) const fn is_rotating(&self) -> bool {
        self.rotation.is_some()
    }
}

/// Replicas have certificates of one CA, and are to have those of another one.
struct Rotation {
    authority: Authority,
    ca: String,
    /// The Secret of their certificate.
    present: Value,
    bundle: String,
    stage: Stage,
}

/// Makes what is missing of them, renews what is old; `addresses` are what clients may call the registry besides its names.
/// With `is_paused`, nothing is written.
pub(super) async fn secure(
    context: &Context,
    objects: &Objects<'_>,
    registry: &Registry,
    wish: &Wish,
    addresses: &[String],
    is_paused: bool,
) -> Result<Secured, ReconcileError> {
    let now = ambient::now();
    let (authority, ca) = open_authority(objects, wish, "peer-ca", is_paused).await?;
    let leaf = peer_leaf(wish, &authority, &ca);
    let present = objects.get(Kind::Secret, &leaf.name).await?;
    let bundle = present.as_ref().and_then(|secret| secrets::decoded(secret, "ca.crt")).unwrap_or_default();
    let is_another =
        present.as_ref().is_some_and(|secret| secrets::stage(&leaf, secret, &bundle) == Stage::Unannounced);
    let next = secrets::next(wish, &leaf, present.as_ref(), &bundle, Evidence::default(), now)?;
    let present = match (next, present) {
        (Some(next), _) if !is_paused => {
            let written = objects.write(&next).await?;
            if is_another {
                let news = "replicas are told of another CA besides the former one".to_owned();
                context.tell(registry, Weight::Normal, ROTATING, news).await;
            }
            written
        }
        (_, Some(present)) => present,
        (_, None) => return Err(ReconcileError::Paused(leaf.name)),
    };
    let mut accounts = None;
    if !is_paused {
        if let Some(news) = serve(objects, wish, addresses).await? {
            context.tell(registry, Weight::Normal, ROTATING, news).await;
        }
        if !wish.has_accounts_of_home() {
            accounts = secrets::decoded(&push(objects, wish).await?, "htpasswd");
        }
    }
    let bundle = secrets::decoded(&present, "ca.crt").unwrap_or_default();
    let stage = secrets::stage(&leaf, &present, &bundle);
    let credentials = own(context, registry, &present, &rotation::with(&bundle, &ca))?;
    let is_under_way = matches!(stage, Stage::Announced | Stage::Switched);
    let rotation = is_under_way.then_some(Rotation { authority, ca, present, bundle, stage });
    Ok(Secured { credentials, accounts, rotation })
}

/// The credential that may push, made if there is none.
async fn push(objects: &Objects<'_>, wish: &Wish) -> Result<Value, ReconcileError> {
    let name = wish.named("push");
    let Some(present) = objects.get(Kind::Secret, &name).await? else {
        return Ok(objects.create(&secrets::push(wish, ambient::random()?)?).await?);
    };
    objects.adopt(&secrets::retained(wish, &name), &present).await?;
    Ok(present)
}

fn peer_leaf<'a>(wish: &Wish, authority: &'a Authority, ca: &str) -> Leaf<'a> {
    Leaf {
        name: wish.named("peer-tls"),
        authority,
        ca: ca.to_owned(),
        names: secrets::peer_names(wish),
        usage: Usage::Peer,
    }
}

/// The operator shows the certificate that replicas show each other: it is trusted whenever theirs is.
fn own(context: &Context, registry: &Registry, secret: &Value, bundle: &str) -> Result<Credentials, ReconcileError> {
    let own = issued(secret);
    let key = rotation::fingerprint(&format!("{}{bundle}", own.certificate));
    if let Some(credentials) = context.credentials(registry, &key) {
        return Ok(credentials);
    }
    let credentials = Credentials::new(&own, bundle).map_err(ReconcileError::Tls)?;
    context.keep_credentials(registry, key, &credentials);
    Ok(credentials)
}

fn issued(secret: &Value) -> Issued {
    let field = |key: &str| secrets::decoded(secret, key).unwrap_or_default();
    Issued { certificate: field("tls.crt"), key: field("tls.key") }
}

/// The certificate for clients, and what they are told to trust, which comes first. Says which stage of the change to another
/// CA was taken, if one was.
async fn serve(objects: &Objects<'_>, wish: &Wish, addresses: &[String]) -> Result<Option<String>, ReconcileError> {
    if !secrets::serves_own(wish) {
        return Ok(None);
    }
    let now = ambient::now();
    let (authority, ca) = open_authority(objects, wish, "serving-ca", false).await?;
    let leaf = Leaf {
        name: wish.named("serving-tls"),
        authority: &authority,
        ca: ca.clone(),
        names: secrets::serving_names(wish, addresses),
        usage: Usage::Server,
    };
    let present = objects.get(Kind::Secret, &leaf.name).await?;
    let evidence = secrets::clients(present.as_ref(), &ca, wish.ca_overlap(), now);
    let told = objects.get(Kind::ConfigMap, &wish.named("ca")).await?;
    let told = told.as_ref().and_then(|map| map["data"]["ca.crt"].as_str()).unwrap_or_default();
    let mut bundle = rotation::with(told, &ca);
    let are_both_told = rotation::certificates(&bundle).len() > 1;
    let stage = present.as_ref().map(|secret| secrets::stage(&leaf, secret, &bundle));
    let is_over = stage == Some(Stage::Switched) && evidence.all_show;
    if is_over {
        bundle = ca;
    }
    objects.apply(&secrets::trust(wish, &bundle)).await?;
    let next = secrets::next(wish, &leaf, present.as_ref(), &bundle, evidence, now)?;
    let announced = present.as_ref().and_then(|secret| secrets::announce(wish, &leaf, secret, &bundle, now));
    let news = match stage {
        _ if is_over => Some("clients are told of the new CA alone: the former one is trusted no more".to_owned()),
        Some(Stage::Announced) | None if next.is_some() && are_both_told => {
            Some("the certificate for clients is one of the new CA now, and they are told of both".to_owned())
        }
        Some(Stage::Announced) if announced.is_some() => Some(format!(
            "clients are told of another CA besides the former one: a certificate of it is shown in {}, as `tls.caOverlap` says",
            wish.spec.tls.ca_overlap
        )),
        _ => None,
    };
    if let Some(next) = next.or(announced) {
        objects.write(&next).await?;
    }
    Ok(news)
}

/// Takes the next stage of replicas' certificates to another CA, once all of them are ready for it.
pub(super) async fn rotate(
    context: &Context,
    objects: &Objects<'_>,
    registry: &Registry,
    wish: &Wish,
    secured: &Secured,
    sight: &Sight,
) -> Result<(), ReconcileError> {
    let Some(Rotation { authority, ca, present, bundle, stage }) = &secured.rotation else { return Ok(()) };
    let now = ambient::now();
    let (evidence, told) = if *stage == Stage::Announced {
        let shown = authority.issue(&[OPERATOR.to_owned()], Usage::Client, now)?;
        let all_trust = all_answer(sight, &shown, bundle).await?;
        let told = "all replicas trust the new CA: their certificate is one of it now";
        (Evidence { all_trust, all_show: false }, told)
    } else {
        let all_show = all_answer(sight, &issued(present), ca).await?;
        let told = "all replicas show certificates of the new CA: the former one is trusted no more";
        (Evidence { all_trust: true, all_show }, told)
    };
    let leaf = peer_leaf(wish, authority, ca);
    if let Some(next) = secrets::next(wish, &leaf, Some(present), bundle, evidence, now)? {
        objects.write(&next).await?;
        context.tell(registry, Weight::Normal, ROTATING, told.to_owned()).await;
    }
    Ok(())
}

/// Whether every replica takes this certificate, and shows one that is trusted by this bundle.
async fn all_answer(sight: &Sight, shown: &Issued, bundle: &str) -> Result<bool, ReconcileError> {
    let credentials = Credentials::new(shown, bundle).map_err(ReconcileError::Tls)?;
    let asked = sight.pods.values().chain(sight.frontend_pods.values()).map(async |pod| match &pod.target {
        Some(target) => credentials.greet(target).await.is_ok(),
        None => false,
    });
    let answers = join_all(asked).await;
    let wanted = sight.observed.set.unwrap_or_default() as usize;
    Ok(sight.pods.len() == wanted && answers.into_iter().all(|answers| answers))
}

/// A CA, made if there is none; with its certificate as others trust it.
async fn open_authority(
    objects: &Objects<'_>,
    wish: &Wish,
    what: &str,
    is_paused: bool,
) -> Result<(Authority, String), ReconcileError> {
    let (name, now) = (wish.named(what), ambient::now());
    let present = match objects.get(Kind::Secret, &name).await? {
        Some(present) => present,
        None if is_paused => return Err(ReconcileError::Paused(name)),
        None => objects.create(&secrets::authority(wish, &name, &Authority::make(now)?)).await?,
    };
    if !is_paused {
        objects.adopt(&secrets::retained(wish, &name), &present).await?;
    }
    let field = |key: &str| secrets::decoded(&present, key).unwrap_or_default();
    Ok((Authority::open(&name, &field("tls.key"), now)?, field("tls.crt")))
}
