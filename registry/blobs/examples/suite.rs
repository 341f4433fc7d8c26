//! Runs the contract suite against a store and says which promises it keeps.
//!
//! ```text
//! suite filesystem FOLDER
//! suite s3 ENDPOINT BUCKET [--hides-multiparts] [--ca-file FILE] [--prefix PREFIX]
//! ```
//!
//! Credentials for S3 come from the standard chain (`AWS_ACCESS_KEY_ID`, ...). Objects are left behind under fresh
//! names: give it a bucket or folder of its own. Exits with 1 if a promise is broken.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use roadstead_blobs::suite::{CASES, Subject};
use roadstead_blobs::{BlobStore, FilesystemStore, IdSource, PresignStore, S3Options, S3Store};
use roadstead_oci::ObjectKey;
use uuid::Uuid;

const USAGE: &str =
    "suite filesystem FOLDER | suite s3 ENDPOINT BUCKET [--hides-multiparts] [--ca-file FILE] [--prefix PREFIX]";

/// The smallest part that S3 takes.
const PART_SIZE: usize = 5 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let hides = arguments.iter().position(|argument| argument == "--hides-multiparts");
    let lists_multiparts = hides.map(|position| arguments.remove(position)).is_none();
    let store: Arc<dyn BlobStore> = match arguments.first().map(String::as_str) {
        Some("filesystem") => {
            let folder = arguments.get(1).ok_or(USAGE)?;
            Arc::new(FilesystemStore::open(Path::new(folder), ids(), 0)?)
        }
        Some("s3") => Arc::new(s3(&arguments[1..]).await?),
        _ => return Err(USAGE.into()),
    };
    let subject = Subject { store, ids: ids(), part_size: PART_SIZE, lists_multiparts };
    let mut code = ExitCode::SUCCESS;
    for case in CASES {
        match case.check(&subject).await {
            Ok(()) => println!("ok      {}", case.name),
            Err(violation) => {
                println!("BROKEN  {}: {violation}", case.name);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Connects, and lets the store show that it works.
async fn s3(arguments: &[String]) -> Result<S3Store, Box<dyn Error>> {
    let [endpoint, bucket, rest @ ..] = arguments else { return Err(USAGE.into()) };
    let mut options = S3Options {
        bucket: bucket.clone(),
        endpoint: Some(endpoint.clone()),
        public_endpoint: Some(endpoint.clone()),
        path_style: true,
        ..S3Options::default()
    };
    for pair in rest.chunks(2) {
        match pair {
            [flag, value] if flag == "--ca-file" => options.ca_file = Some(PathBuf::from(value)),
            [flag, value] if flag == "--prefix" => options.prefix.clone_from(value),
            _ => return Err(USAGE.into()),
        }
    }
    let store = S3Store::connect(options).await?;
    store.probe(ids()()).await?;
    let link = store.presign(&ObjectKey::blob(Uuid::nil()), Duration::from_mins(1)).await?;
    println!("a link: {}", link.unwrap_or_default());
    Ok(store)
}

/// Random names, from the randomness with which the standard library seeds its maps.
fn ids() -> IdSource {
    Box::new(|| Uuid::from_u64_pair(RandomState::new().hash_one(0), RandomState::new().hash_one(1)))
}
