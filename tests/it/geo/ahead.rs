//! Parts of an upload are at the mirror before the upload has ended (claim 5).

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{PATIENCE, Regions, mirror_of, until_tag};
use crate::harness::{
    Client, Cluster, Image, Link, MEDIA_TYPE_IMAGE, Reply, Request, Roadstead, S3, S3Kind, Setup, Upload, Wan, sha256,
    until,
};

const MIB: usize = 1 << 20;
const PART: usize = 8 * MIB;

/// A layer of which half is sent, ...
const SIZE: usize = 9 * PART + 3 * MIB;
const SENT: usize = 5 * PART + 2 * MIB;
/// ... so many whole parts.
const WHOLE: u64 = 5 * PART as u64;

/// What is said about bytes, and what is asked for twice on a busy machine.
const BESIDE: u64 = 4 << 20;

/// A request that sends what it is given, as docker does, and stays open.
struct Sending {
    /// Of its session.
    location: String,
    pieces: mpsc::Sender<Result<Bytes, std::io::Error>>,
    ending: JoinSet<Result<Reply, reqwest::Error>>,
    client: Client,
}

impl Sending {
    async fn begin(client: &Client, repository: &str) -> Self {
        let upload = client.begin(repository).await;
        Self::by(client.patch(&upload.location), upload)
    }

    /// As containerd does: all of `content` by the request that closes the session.
    async fn begin_closing(client: &Client, repository: &str, content: &Bytes) -> Self {
        let upload = client.begin(repository).await;
        let request = client.put(&upload.closing(&sha256(content)));
        Self::by(request.header("content-length", &content.len().to_string()), upload)
    }

    fn by(request: Request, upload: Upload) -> Self {
        let Upload { client, location } = upload;
        let (pieces, receiver) = mpsc::channel(1);
        let body =
            Body::wrap_stream(stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))));
        let mut ending = JoinSet::new();
        ending.spawn(request.body(body).try_send());
        Self { location, pieces, ending, client }
    }

    async fn send(&self, content: &Bytes) {
        for piece in content.chunks(256 << 10) {
            self.pieces.send(Ok(content.slice_ref(piece))).await.expect("it is being sent");
        }
    }

    /// Ends the request, and gives its session.
    async fn end(self) -> Upload {
        let client = self.client.clone();
        let location = self.answer().await.status(202).location();
        Upload { client, location }
    }

    /// Ends the request, and gives its answer.
    async fn answer(mut self) -> Reply {
        drop(self.pieces);
        let ended = self.ending.join_next().await.expect("it was begun").expect("no panic");
        ended.expect("an answer")
    }

    /// Breaks the connection, and gives the session.
    async fn breaks(mut self) -> Upload {
        self.ending.shutdown().await;
        Upload { client: self.client, location: self.location }
    }
}

/// Bytes that a registry keeps in files.
fn kept(registry: &Roadstead) -> u64 {
    registry.stored_files().iter().map(|(_, length)| length).sum()
}

async fn until_kept(registry: &Roadstead, bytes: u64) {
    until("the parts are there", PATIENCE, async || (kept(registry) >= bytes).then_some(())).await;
}

/// Puts what is left of an image whose layer is there.
async fn finish(client: &Client, repository: &str, image: &Image) {
    client.push_blob(repository, &image.config).await;
    client.put_manifest(repository, "v1", MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
}

#[tokio::test]
async fn claim_5_parts_are_at_the_mirror_while_the_client_uploads_and_only_the_rest_comes_afterwards() {
    let mut regions = Regions::start(Link::SHORT).await;
    let image = Image::random(1, &[SIZE]);
    let layer = image.layers[0].clone();
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let before = regions.wan.carried_back();
    let sending = Sending::begin(&home, "team/app").await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&regions.mirror, WHOLE).await;
    // Nobody can have any of it.
    mirror.blob("team/app", &sha256(&layer)).await.status(404);
    assert!(mirror.tags("team/app").await.is_empty());
    let half = regions.wan.carried_back();
    sending.send(&layer.slice(SENT..)).await;
    let upload = sending.end().await;
    upload.put(&sha256(&layer), Vec::new()).await.status(201);
    finish(&home, "team/app", &image).await;
    regions.until_level().await;
    let (rest, all) = (regions.wan.carried_back() - half, regions.wan.carried_back() - before);
    assert!(rest < SIZE as u64 - WHOLE + BESIDE, "{rest} bytes came after {WHOLE} of {SIZE} were there");
    assert!(all < SIZE as u64 + BESIDE, "{all} bytes came for {SIZE}");
    regions.cut().await;
    mirror.pull_image("team/app", "v1", &image).await;
    regions.mirror.assert_unharmed();
    regions.home.assert_unharmed();
}

#[tokio::test]
async fn claim_5_parts_of_a_request_that_brings_all_of_a_layer_are_at_the_mirror_before_it_ends() {
    let regions = Regions::start(Link::SHORT).await;
    let image = Image::random(8, &[SIZE]);
    let layer = image.layers[0].clone();
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let before = regions.wan.carried_back();
    let sending = Sending::begin_closing(&home, "team/app", &layer).await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&regions.mirror, WHOLE).await;
    // Nobody can have any of it.
    mirror.blob("team/app", &sha256(&layer)).await.status(404);
    let half = regions.wan.carried_back();
    sending.send(&layer.slice(SENT..)).await;
    sending.answer().await.status(201);
    finish(&home, "team/app", &image).await;
    regions.until_level().await;
    let (rest, all) = (regions.wan.carried_back() - half, regions.wan.carried_back() - before);
    assert!(rest < SIZE as u64 - WHOLE + BESIDE, "{rest} bytes came after {WHOLE} of {SIZE} were there");
    assert!(all < SIZE as u64 + BESIDE, "{all} bytes came for {SIZE}");
    regions.cut().await;
    mirror.pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn claim_5_a_request_that_brings_all_of_a_layer_breaks_and_its_client_begins_anew() {
    let mut regions = Regions::start(Link::SHORT).await;
    let image = Image::random(9, &[SIZE]);
    let layer = image.layers[0].clone();
    let home = regions.home.client();
    let sending = Sending::begin_closing(&home, "team/app", &layer).await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&regions.mirror, WHOLE).await;
    sending.breaks().await;
    home.push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
    regions.mirror.assert_unharmed();
    regions.home.assert_unharmed();
}

/// As a client does that had no answer: what it sends again, the mirror does not ask for again.
#[tokio::test]
async fn claim_5_a_request_that_brings_all_of_a_layer_breaks_and_is_repeated() {
    let regions = Regions::start(Link::SHORT).await;
    let image = Image::random(10, &[SIZE]);
    let layer = image.layers[0].clone();
    let home = regions.home.client();
    let before = regions.wan.carried_back();
    let sending = Sending::begin_closing(&home, "team/app", &layer).await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&regions.mirror, WHOLE).await;
    let upload = sending.breaks().await;
    assert_eq!(upload.progress().await.status(204).range_end(), 0, "all of it is sent again");
    upload.put(&sha256(&layer), layer.to_vec()).await.status(201);
    finish(&home, "team/app", &image).await;
    regions.until_level().await;
    let all = regions.wan.carried_back() - before;
    assert!(all < SIZE as u64 + BESIDE, "{all} bytes came for {SIZE}");
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn claim_5_what_came_of_an_upload_that_is_cancelled_is_dropped() {
    let regions = Regions::start(Link::SHORT).await;
    let image = Image::random(2, &[SIZE]);
    let layer = image.layers[0].clone();
    let home = regions.home.client();
    let sending = Sending::begin(&home, "team/app").await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&regions.mirror, WHOLE).await;
    sending.end().await.cancel().await.status(204);
    until("nothing of it is kept", PATIENCE, async || (kept(&regions.mirror) == 0).then_some(())).await;
    // The same content by another session, in one request.
    home.push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

/// Another upload has the content first; the one of which half has come ends with other content.
#[tokio::test]
async fn claim_5_an_upload_that_ends_with_other_content_than_an_image_waits_for_does_no_harm() {
    let regions = Regions::start(Link::SHORT).await;
    let (image, other) = (Image::random(3, &[SIZE]), Image::random(4, &[SIZE - SENT]));
    let layer = image.layers[0].clone();
    let home = regions.home.client();
    let sending = Sending::begin(&home, "team/app").await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&regions.mirror, WHOLE).await;
    home.push_image("team/app", "v1", &image).await;
    sending.send(&other.layers[0]).await;
    let upload = sending.end().await;
    let content = [&layer[..SENT], &other.layers[0]].concat();
    // Not what it says first; that ends the session.
    upload.put(&sha256(&layer), Vec::new()).await.status(400);
    home.push_blob("team/app", &content).await;
    regions.until_level().await;
    regions.cut().await;
    let mirror = regions.mirror.client();
    mirror.pull_image("team/app", "v1", &image).await;
    assert!(mirror.blob("team/app", &sha256(&content)).await.status(200).body == content);
    // Two blobs and the config, and nothing besides.
    let most = (2 * SIZE + MIB) as u64;
    until("the rest is dropped", PATIENCE, async || (kept(&regions.mirror) < most).then_some(())).await;
}

#[tokio::test]
async fn claim_5_a_mirror_that_is_killed_goes_on_with_an_upload_where_it_was() {
    let mut regions = Regions::start(Link::SHORT).await;
    let image = Image::random(5, &[SIZE]);
    let layer = image.layers[0].clone();
    let home = regions.home.client();
    let sending = Sending::begin(&home, "team/app").await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&regions.mirror, WHOLE).await;
    regions.mirror.kill();
    regions.wan.reset();
    let half = regions.wan.carried_back();
    regions.mirror.restart().await;
    let more = SENT + 2 * PART;
    sending.send(&layer.slice(SENT..more)).await;
    until_kept(&regions.mirror, WHOLE + PART as u64).await;
    sending.send(&layer.slice(more..)).await;
    let upload = sending.end().await;
    upload.put(&sha256(&layer), Vec::new()).await.status(201);
    finish(&home, "team/app", &image).await;
    regions.until_level().await;
    let rest = regions.wan.carried_back() - half;
    // A stretch of four parts may not have been committed yet.
    let most = SIZE as u64 - WHOLE + 4 * PART as u64 + BESIDE;
    assert!(rest < most && most < SIZE as u64, "{rest} bytes came after the restart, of {SIZE}");
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

/// The replica of home that receives an upload is killed: the client goes on at another one, and so does the mirror.
#[tokio::test]
async fn claim_5_an_upload_goes_on_at_another_replica_of_home_and_comes_from_there() {
    let mut home = Cluster::start(3, Setup::filesystem).await;
    let front = home.front.host().parse().expect("an address");
    let wan = Wan::to(front, Link::SHORT).await.expect("a port");
    let mirror = mirror_of(&home.replicas[0], &wan.endpoint(), Setup::filesystem()).await.start().await;
    let image = Image::random(6, &[SIZE]);
    let layer = image.layers[0].clone();
    let leader = home.leader().await;
    let (first, second) = ((leader + 1) % 3, (leader + 2) % 3);
    let sending = Sending::begin(&home.replicas[first].client(), "team/app").await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&mirror, WHOLE).await;
    home.replicas[first].kill();
    sending.pieces.closed().await;
    let client = home.replicas[second].client();
    let mut upload = Upload { client: client.clone(), location: sending.location.clone() };
    let told = upload.progress().await.status(204);
    let at = told.range_end();
    assert!(at >= WHOLE && at <= SENT as u64, "{at} is not where it stands");
    upload.location = told.location();
    let half = wan.carried_back();
    let at = usize::try_from(at).expect("an offset");
    upload.chunk(at..SIZE, layer[at..].to_vec()).await.status(202);
    upload.put(&sha256(&layer), Vec::new()).await.status(201);
    finish(&client, "team/app", &image).await;
    until_tag(&mirror.client(), "team/app", "v1", &image.manifest).await;
    until("it is whole", PATIENCE, async || {
        mirror.client().tags("team/app").await.contains(&"v1".to_owned()).then_some(())
    })
    .await;
    let rest = wan.carried_back() - half;
    assert!(rest < SIZE as u64 - WHOLE + BESIDE, "{rest} bytes came after {WHOLE} of {SIZE} were there");
    wan.cut();
    until("the mirror notices", PATIENCE, async || {
        (super::status(&mirror).await["mirror"]["home_is_there"] == false).then_some(())
    })
    .await;
    mirror.client().pull_image("team/app", "v1", &image).await;
}

/// A bucket shows no part before its object is complete: the replica that writes them does, to mirrors that ask any of them.
#[tokio::test]
async fn claim_5_parts_on_their_way_into_a_bucket_come_from_the_replica_that_writes_them() {
    let s3 = S3::start(S3Kind::Minio).await;
    let home = Cluster::start(3, || Setup::s3(&s3)).await;
    let front = home.front.host().parse().expect("an address");
    let wan = Wan::to(front, Link::SHORT).await.expect("a port");
    let mirror = mirror_of(&home.replicas[0], &wan.endpoint(), Setup::filesystem()).await.start().await;
    let image = Image::random(7, &[SIZE]);
    let layer = image.layers[0].clone();
    let client = home.replicas[1].client();
    let sending = Sending::begin(&client, "team/app").await;
    sending.send(&layer.slice(..SENT)).await;
    until_kept(&mirror, WHOLE).await;
    let half = wan.carried_back();
    sending.send(&layer.slice(SENT..)).await;
    let upload = sending.end().await;
    upload.put(&sha256(&layer), Vec::new()).await.status(201);
    finish(&client, "team/app", &image).await;
    until("it is whole", PATIENCE, async || {
        mirror.client().tags("team/app").await.contains(&"v1".to_owned()).then_some(())
    })
    .await;
    let rest = wan.carried_back() - half;
    assert!(rest < SIZE as u64 - WHOLE + BESIDE, "{rest} bytes came after {WHOLE} of {SIZE} were there");
    mirror.client().pull_image("team/app", "v1", &image).await;
}
