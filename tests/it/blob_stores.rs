//! The promises of a blob store, kept on real S3 servers that differ.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use roadstead_blobs::suite::{self, Subject};
use roadstead_blobs::{IdSource, S3Credentials, S3Options, S3Store};
use uuid::Uuid;

use crate::harness::{S3, S3Kind};

/// The smallest part that S3 takes.
const PART_SIZE: usize = 5 << 20;

fn ids() -> IdSource {
    let random = std::sync::Mutex::new(StdRng::seed_from_u64(5));
    Box::new(move || {
        let mut random = random.lock().expect("nothing panics under this lock");
        Uuid::from_u64_pair(random.next_u64(), random.next_u64())
    })
}

async fn broken_promises(kind: S3Kind, prefix: &str) -> Vec<String> {
    let server = S3::start(kind).await;
    let options = S3Options {
        bucket: S3::BUCKET.to_owned(),
        prefix: prefix.to_owned(),
        region: Some(S3::REGION.to_owned()),
        endpoint: Some(server.endpoint()),
        public_endpoint: Some(server.endpoint()),
        path_style: true,
        ca_file: None,
        credentials: Some(S3Credentials {
            access_key_id: S3::ACCESS_KEY.to_owned(),
            secret_access_key: S3::SECRET_KEY.to_owned(),
        }),
    };
    let store = S3Store::connect(options).await.expect("the options are right");
    let ids = ids();
    store.probe(ids()).await.expect("the bucket can be written");
    let subject =
        Subject { store: Arc::new(store), ids, part_size: PART_SIZE, lists_multiparts: kind != S3Kind::Minio };
    suite::run(&subject).await.into_iter().map(|(name, violation)| format!("{name}: {violation}")).collect()
}

#[tokio::test]
async fn minio_keeps_every_promise() {
    assert_eq!(broken_promises(S3Kind::Minio, "").await, [""; 0]);
}

#[tokio::test]
async fn minio_keeps_every_promise_under_a_prefix() {
    assert_eq!(broken_promises(S3Kind::Minio, "production/eu").await, [""; 0]);
}

#[tokio::test]
async fn the_versity_gateway_keeps_every_promise() {
    assert_eq!(broken_promises(S3Kind::Versity, "").await, [""; 0]);
}
