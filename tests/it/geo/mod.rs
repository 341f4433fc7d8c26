//! A home region and its mirror, as processes with a link between them.

mod ahead;
mod aside;
mod demand;
mod filters;
mod history;
mod one_remote;
mod outages;
mod promotion;
mod pulls;
mod pulls_under_failure;
mod relays;
mod transfers;
mod writes;
mod writes_under_failure;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, interval};

use crate::harness::{
    Client, Cluster, Image, Link, MEDIA_TYPE_IMAGE, Reply, Roadstead, Setup, Wan, random_bytes, sha256, until,
};

/// What comes over a link takes moments; a machine that is busy with other tests takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Home, a mirror of it, and the link between them.
struct Regions {
    home: Roadstead,
    wan: Wan,
    mirror: Roadstead,
}

impl Regions {
    async fn start(link: Link) -> Self {
        Self::start_with(link, Setup::filesystem(), Setup::filesystem()).await
    }

    /// The same, where clients may push to the mirror.
    async fn writing(link: Link) -> Self {
        let home = Setup::filesystem().start().await;
        let wan = Wan::to(home.address(), link).await.expect("a port");
        let mirror = writing_mirror_of(&home, &wan.endpoint(), Setup::filesystem()).await.start().await;
        let regions = Self { home, wan, mirror };
        regions.until_heard().await;
        regions
    }

    async fn until_heard(&self) {
        until("the mirror has heard of home", PATIENCE, async || {
            self.lag().await["home_is_there"].as_bool()?.then_some(())
        })
        .await;
    }

    async fn start_with(link: Link, home: Setup, mirror: Setup) -> Self {
        let home = home.start().await;
        let wan = Wan::to(home.address(), link).await.expect("a port");
        let mirror = mirror_of(&home, &wan.endpoint(), mirror).await.start().await;
        let regions = Self { home, wan, mirror };
        regions.until_heard().await;
        regions
    }

    /// What the mirror says of itself.
    async fn lag(&self) -> Value {
        let printed = self.mirror.subcommand("status").arg("--json").succeeds().await;
        serde_json::from_str::<Value>(&printed).expect("a status in JSON")["mirror"].clone()
    }

    /// Waits until everything that home has is at the mirror.
    async fn until_level(&self) {
        let newest = newest(&self.home).await;
        until("the mirror has everything", PATIENCE, async || {
            // In this order: what is received after the lag was read may wait yet.
            let received = status(&self.mirror).await["mirror"]["received_sequence"].as_u64()?;
            let lag = self.lag().await;
            let (changes, blobs) = (lag["lag_changes"].as_u64()?, lag["lag_blobs"].as_u64()?);
            let is_heard = lag["home_is_there"].as_bool()?;
            (is_heard && changes == 0 && blobs == 0 && received >= newest).then_some(())
        })
        .await;
    }

    /// Cuts the link, and waits until the mirror has noticed.
    async fn cut(&self) {
        self.wan.cut();
        until("the mirror notices", PATIENCE, async || (self.lag().await["home_is_there"] == false).then_some(()))
            .await;
    }

    async fn reunite(&self) {
        self.wan.mend();
        until("the mirror hears of home", PATIENCE, async || (self.lag().await["home_is_there"] == true).then_some(()))
            .await;
    }
}

/// A setup that follows `home` at `url`.
pub(crate) async fn mirror_of(home: &Roadstead, url: &str, mirror: Setup) -> Setup {
    following(home, "mirror token test", url, mirror).await
}

/// The same, where clients may push to it.
async fn writing_mirror_of(home: &Roadstead, url: &str, mirror: Setup) -> Setup {
    following(home, "mirror token test --writes", url, mirror).await
}

async fn following(home: &Roadstead, mint: &str, url: &str, mirror: Setup) -> Setup {
    let token = home.command(mint).succeeds().await;
    let file = mirror.data().with_file_name("token");
    std::fs::write(&file, token).expect("the token's file");
    mirror.flag("--upstream", url).flag("--upstream-token-file", &file.display().to_string())
}

/// A mirror of three replicas that have heard of home, with a token that is `mint`ed there, and the link between them.
async fn mirror_of_three(home: &Roadstead, mint: &str) -> (Wan, Cluster, TempDir) {
    mirror_of_three_as(home.address(), home, mint, |setup| setup).await
}

/// The same of a home of several replicas, which are reached at `front`.
async fn mirror_of_three_behind(front: SocketAddr, home: &Roadstead, mint: &str) -> (Wan, Cluster, TempDir) {
    mirror_of_three_as(front, home, mint, |setup| setup).await
}

/// The same, set up otherwise.
async fn mirror_of_three_as(
    front: SocketAddr,
    home: &Roadstead,
    mint: &str,
    how: impl Fn(Setup) -> Setup,
) -> (Wan, Cluster, TempDir) {
    let wan = Wan::to(front, Link::SHORT).await.expect("a port");
    let token = home.command(mint).succeeds().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, token).expect("the token's file");
    let setup = || {
        let setup = Setup::filesystem().flag("--upstream", &wan.endpoint());
        how(setup.flag("--upstream-token-file", &file.display().to_string()))
    };
    let mirror = Cluster::start(3, setup).await;
    for replica in &mirror.replicas {
        until("it has heard of home", PATIENCE, async || {
            (status(replica).await["mirror"]["home_is_there"] == true).then_some(())
        })
        .await;
    }
    (wan, mirror, folder)
}

/// What says of an image in `team/app` that it is somebody's.
struct Signature {
    content: Vec<u8>,
    /// The digest of the content.
    layer: String,
    manifest: Vec<u8>,
}

impl Signature {
    /// A signature of `image`, whose blobs are pushed through `client`, and whose manifest is not yet.
    async fn of(image: &Image, client: &Client) -> Self {
        let content = random_bytes(9, 300);
        let config = client.push_blob("team/app", b"{}").await;
        let layer = client.push_blob("team/app", &content).await;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_IMAGE,
            "artifactType": "application/vnd.example.signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/octet-stream", "digest": layer, "size": content.len()}],
            "subject": {"mediaType": MEDIA_TYPE_IMAGE, "digest": image.digest(), "size": image.manifest.len()},
        });
        Self { content, layer, manifest: manifest.to_string().into_bytes() }
    }
}

async fn status(registry: &Roadstead) -> Value {
    let printed = registry.subcommand("status").arg("--json").succeeds().await;
    serde_json::from_str(&printed).expect("a status in JSON")
}

/// The newest change of a registry.
async fn newest(registry: &Roadstead) -> u64 {
    status(registry).await["changes"]["sequence"].as_u64().expect("a sequence")
}

/// Waits until a tag at the mirror points at these bytes.
pub(crate) async fn until_tag(client: &Client, repository: &str, tag: &str, manifest: &[u8]) {
    until("the tag has moved", PATIENCE, async || {
        let reply = client.manifest(repository, tag).await;
        (reply.status == 200 && reply.body == manifest).then_some(())
    })
    .await;
}

/// Asks for something as a client does that asks again after a 503, which says that this may help.
async fn patiently(client: &Client, target: &str) -> Reply {
    let (deadline, mut tick) = (Instant::now() + PATIENCE, interval(Duration::from_millis(100)));
    loop {
        tick.tick().await;
        let reply = client.get(target).send().await;
        if reply.status != 503 {
            return reply;
        }
        assert!(reply.header("retry-after").is_some(), "{target}: a 503 says when to come back");
        assert!(Instant::now() < deadline, "{target} was answered with 503 for {PATIENCE:?}");
    }
}

/// Pulls what a tag points at, whole, and says what it was; `None` if there is no such tag.
async fn pull_whole(client: &Client, repository: &str, tag: &str) -> Option<String> {
    let reply = patiently(client, &format!("/v2/{repository}/manifests/{tag}")).await;
    if reply.status == 404 {
        return None;
    }
    let manifest = reply.status(200);
    let digest = sha256(&manifest.body);
    let document = manifest.json();
    let layers = document["layers"].as_array().expect("layers").iter();
    for descriptor in std::iter::once(&document["config"]).chain(layers) {
        let named = descriptor["digest"].as_str().expect("a digest");
        let blob = patiently(client, &format!("/v2/{repository}/blobs/{named}")).await.status(200);
        assert_eq!(sha256(&blob.body), named, "{repository}:{tag}");
    }
    Some(digest)
}
