//! Uploads that come ahead: what comes, what is dropped, and what is never shown.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use roadstead_domain::{Content, UploadError};
use roadstead_metadata::Query;
use roadstead_oci::{Digest, UploadId};

use crate::fixture::{Instead, Place, Regions, name, sha256};
use crate::limits::{MAX_AHEAD_BYTES, MAX_SHOWN_UPLOADS};
use crate::{PullError, PulledBlob, Shown};

const PART: usize = 1 << 20;

fn random(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|index| (index.wrapping_mul(0x9E37_79B9) >> 8).to_le_bytes()[0] ^ seed).collect()
}

fn streamed(content: &[u8]) -> Content {
    let pieces: Vec<_> = content.chunks(PART / 3).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Content { range: None, length: None, body: stream::iter(pieces).boxed() }
}

impl Place {
    /// A session in which so much is.
    async fn begin(&self, repository: &str, content: &[u8]) -> UploadId {
        let upload = self.registry.start_upload(&name(repository), false).await.unwrap();
        self.append(repository, upload, content).await;
        upload
    }

    async fn append(&self, repository: &str, upload: UploadId, content: &[u8]) {
        self.registry.append_upload(&name(repository), upload, streamed(content)).await.unwrap();
    }

    /// Closes a session by a request of which nothing more comes after `content`, until another one comes.
    async fn closes_slowly(&self, repository: &str, upload: UploadId, digest: Digest, content: &[u8]) {
        let Content { body, .. } = streamed(content);
        let content = Content { range: None, length: None, body: body.chain(stream::pending()).boxed() };
        let closed = self.registry.close_upload(&name(repository), upload, digest, content).await;
        assert!(matches!(closed, Err(UploadError::Superseded { offset: 0 })), "{closed:?}");
    }

    async fn close(&self, repository: &str, upload: UploadId, digest: Digest) -> Result<(), UploadError> {
        self.registry.close_upload(&name(repository), upload, digest, streamed(&[])).await
    }

    fn query(&self) -> Query {
        self.registry.metadata().query().unwrap()
    }

    fn holds(&self, repository: &str, digest: &Digest) -> bool {
        self.query().blob(&name(repository), digest).unwrap().is_some()
    }

    async fn read(&self, repository: &str, digest: &Digest) -> Vec<u8> {
        let found = self.registry.find_blob(&name(repository), digest).await.unwrap();
        let bytes = self.registry.stream_blob(&found, 0..found.size()).await.unwrap();
        bytes.map(|piece| piece.unwrap().to_vec()).concat().await
    }
}

impl Regions {
    /// How much of an upload at home has come.
    fn ahead(&self, upload: UploadId) -> u64 {
        let home = self.home.place.registry.metadata().identity().cluster;
        let come = self.here.registry.come_ahead(home, upload, u64::MAX).unwrap();
        come.map_or(0, |transfer| transfer.offset)
    }

    async fn until_ahead(&self, upload: UploadId, bytes: usize) {
        self.until(&format!("{bytes} bytes ahead"), || self.ahead(upload) == bytes as u64).await;
    }
}

#[tokio::test]
async fn claim_5_parts_of_an_upload_come_while_it_goes_on_and_only_the_rest_afterwards() {
    let regions = Regions::new().await;
    let home = &regions.home;
    regions.run();
    let content = random(1, 7 * PART + 300);
    let digest = sha256(&content);
    let upload = home.place.begin("app", &content[..5 * PART + 5]).await;
    regions.until_ahead(upload, 5 * PART).await;
    assert!(!regions.here.holds("app", &digest));
    let pulled = regions.mirror.find_blob(&name("app"), &digest).await;
    assert!(matches!(pulled, Err(PullError::Unknown)), "{:?}", pulled.err());
    home.place.append("app", upload, &content[5 * PART + 5..]).await;
    home.place.close("app", upload, digest).await.unwrap();
    regions.until("the blob is here", || regions.here.holds("app", &digest)).await;
    assert_eq!(regions.here.read("app", &digest).await, content);
    let (ahead, sent) = (*home.ahead.lock(), *home.sent.lock());
    assert!(ahead >= 5 * PART as u64 && ahead + sent == content.len() as u64, "{ahead} ahead, {sent} as a blob");
    regions.end().await;
}

#[tokio::test]
async fn claim_5_parts_of_a_closing_request_come_while_it_goes_on_and_nothing_comes_twice_when_it_is_repeated() {
    let regions = Regions::new().await;
    let home = &regions.home;
    home.place.registry.admit_mirror("here", false).await.unwrap();
    regions.run();
    let content = random(1, 7 * PART + 300);
    let digest = sha256(&content);
    let upload = home.place.registry.start_upload(&name("app"), false).await.unwrap();
    let repeated = async {
        regions.until_ahead(upload, 5 * PART).await;
        assert!(!regions.here.holds("app", &digest));
        let again = Content { range: None, length: Some(content.len() as u64), ..streamed(&content) };
        home.place.registry.close_upload(&name("app"), upload, digest, again).await.unwrap();
    };
    futures_util::join!(home.place.closes_slowly("app", upload, digest, &content[..5 * PART + 5]), repeated);
    regions.until("the blob is here", || regions.here.holds("app", &digest)).await;
    assert_eq!(regions.here.read("app", &digest).await, content);
    let (ahead, sent) = (*home.ahead.lock(), *home.sent.lock());
    assert!(ahead >= 5 * PART as u64 && ahead + sent == content.len() as u64, "{ahead} ahead, {sent} as a blob");
    regions.end().await;
}

#[tokio::test]
async fn p1_what_came_ahead_and_is_not_what_the_digest_says_is_never_a_blob_and_all_of_it_comes_again() {
    let regions = Regions::new().await;
    let home = &regions.home;
    home.damages_uploads.store(true, Ordering::SeqCst);
    regions.run();
    let content = random(2, 5 * PART + 300);
    let digest = sha256(&content);
    let upload = home.place.begin("app", &content).await;
    regions.until_ahead(upload, 5 * PART).await;
    home.place.close("app", upload, digest).await.unwrap();
    regions.until("the blob is here", || regions.here.holds("app", &digest)).await;
    assert_eq!(regions.here.read("app", &digest).await, content);
    assert!(*home.sent.lock() >= content.len() as u64, "it did not come whole");
    assert_eq!(regions.ahead(upload), 0);
    regions.end().await;
}

#[tokio::test]
async fn what_came_of_an_upload_that_ends_without_a_blob_is_dropped() {
    let regions = Regions::new().await;
    let home = &regions.home;
    regions.run();
    let content = random(3, 4 * PART + 1);
    let (cancelled, wrong) = (home.place.begin("app", &content).await, home.place.begin("app", &content).await);
    regions.until_ahead(cancelled, 4 * PART).await;
    regions.until_ahead(wrong, 4 * PART).await;
    home.place.registry.cancel_upload(&name("app"), cancelled).await.unwrap();
    regions.until_ahead(cancelled, 0).await;
    let mismatch = home.place.close("app", wrong, sha256(b"something else")).await;
    assert!(matches!(mismatch, Err(UploadError::DigestMismatch { .. })), "{mismatch:?}");
    regions.until_ahead(wrong, 0).await;
    assert_eq!(regions.here.query().uploads_open().unwrap(), 0);
    regions.end().await;
}

#[tokio::test]
async fn no_more_comes_ahead_than_may_be_kept_and_the_rest_comes_afterwards() {
    let regions = Regions::new().await;
    let home = &regions.home;
    regions.run();
    let most = usize::try_from(MAX_AHEAD_BYTES).unwrap();
    let content = random(4, most + 6 * PART + 9);
    let digest = sha256(&content);
    let upload = home.place.begin("app", &content).await;
    regions.until_ahead(upload, most).await;
    home.place.close("app", upload, digest).await.unwrap();
    regions.until("the blob is here", || regions.here.holds("app", &digest)).await;
    assert_eq!(regions.here.read("app", &digest).await, content);
    assert_eq!(*home.ahead.lock(), MAX_AHEAD_BYTES);
    regions.end().await;
}

#[tokio::test]
async fn what_came_ahead_of_a_blob_that_came_otherwise_is_dropped() {
    let regions = Regions::new().await;
    let home = &regions.home;
    regions.run();
    let content = random(5, 4 * PART + 7);
    let digest = sha256(&content);
    let upload = home.place.begin("app", &content).await;
    regions.until_ahead(upload, 4 * PART).await;
    home.place.push_blob("app", &content).await;
    regions.until("the blob is here", || regions.here.holds("app", &digest)).await;
    assert_eq!(regions.ahead(upload), 4 * PART as u64, "its client may go on with it");
    home.place.close("app", upload, digest).await.unwrap();
    regions.until_ahead(upload, 0).await;
    assert_eq!(regions.here.read("app", &digest).await, content);
    regions.end().await;
}

#[tokio::test]
async fn a_pull_of_the_beginning_of_what_came_ahead_waits_for_the_end_instead_of_having_all_sent_again() {
    let regions = Regions::new().await;
    let home = &regions.home;
    regions.run();
    let content = random(6, 5 * PART + 9);
    let digest = sha256(&content);
    let upload = home.place.begin("app", &content).await;
    regions.until_ahead(upload, 5 * PART).await;
    // Whichever of the two is first, the pull and the blob.
    home.place.close("app", upload, digest).await.unwrap();
    regions.until_received().await;
    let size = content.len() as u64;
    let bytes = match regions.mirror.find_blob(&name("app"), &digest).await.unwrap() {
        PulledBlob::Coming(coming) => {
            let pieces = coming.stream(0..size).await.unwrap();
            pieces.map(|piece| piece.unwrap().to_vec()).concat().await
        }
        PulledBlob::Here(_) => regions.here.read("app", &digest).await,
    };
    assert!(bytes == content);
    assert!(*home.ahead.lock() + *home.sent.lock() <= size, "some of it was sent twice");
    regions.end().await;
}

#[tokio::test]
async fn a_pull_reads_what_came_ahead_while_the_rest_is_on_its_way() {
    let regions = Regions::new().await;
    let home = &regions.home;
    regions.run();
    let content = random(10, 5 * PART + 9);
    let digest = sha256(&content);
    let upload = home.place.begin("app", &content).await;
    regions.until_ahead(upload, 5 * PART).await;
    home.instead(digest, Instead::Stalls);
    home.place.close("app", upload, digest).await.unwrap();
    regions.until_received().await;
    let PulledBlob::Coming(coming) = regions.mirror.find_blob(&name("app"), &digest).await.unwrap() else {
        panic!("its end cannot be here");
    };
    let pieces = coming.stream(3..5 * PART as u64).await.unwrap();
    let bytes: Vec<u8> = pieces.map(|piece| piece.unwrap().to_vec()).concat().await;
    assert!(bytes == content[3..5 * PART]);
    assert_eq!(*home.sent.lock(), 0);
    regions.end().await;
}

#[tokio::test]
async fn mirrors_are_told_of_large_uploads_of_clients_and_of_so_many_at_most() {
    let regions = Regions::new().await;
    let home = &regions.home.place;
    let mut shown = Shown::new();
    let news = |shown: &mut Shown| shown.news(&home.registry, &home.query()).unwrap();
    assert_eq!(news(&mut shown), Some(Vec::new()), "of another connection, the mirror may know of some");
    assert_eq!(news(&mut shown), None);
    // Too small, and what another mirror sends.
    home.begin("app", &random(7, PART - 5)).await;
    let sent = sha256(b"sent");
    let transfer = home.registry.begin_transfer(&name("app"), sent, 9 * PART as u64).await.unwrap();
    let body = streamed(&random(8, 9 * PART)).body;
    let mismatch = home.registry.transfer_blob(&name("app"), sent, 9 * PART as u64, transfer, body).await;
    assert!(matches!(mismatch, Err(UploadError::DigestMismatch { .. })), "{mismatch:?}");
    assert_eq!(news(&mut shown), None);

    let content = random(9, 3 * PART + 5);
    let first = home.begin("app", &content).await;
    let told = news(&mut shown).unwrap();
    assert_eq!((told.len(), told[0].upload, told[0].offset, told[0].digest), (1, first, 3 * PART as u64, None));
    assert_eq!(news(&mut shown), None, "it was told");
    for _ in 0..MAX_SHOWN_UPLOADS + 2 {
        home.begin("app", &content).await;
    }
    let told = news(&mut shown).unwrap();
    assert_eq!((told.len(), told[0].upload), (MAX_SHOWN_UPLOADS, first), "none gives way to a later one");
    home.close("app", first, sha256(&content)).await.unwrap();
    let told = news(&mut shown).unwrap();
    assert!(told.iter().all(|told| told.upload != first || told.digest == Some(sha256(&content))));
    // Whoever asks anew is told of all.
    let told = news(&mut Shown::new()).unwrap();
    assert_eq!(told.len(), MAX_SHOWN_UPLOADS);
    regions.end().await;
}
