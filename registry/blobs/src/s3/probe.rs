//! Whether the store works at all, asked once at the start.

use std::fmt::Display;

use aws_sdk_s3::config::ProvideCredentials;
use bytes::Bytes;
use futures_util::TryStreamExt;
use roadstead_oci::ObjectKey;
use uuid::Uuid;

use super::S3Store;
use super::failure::{causes, failed};
use crate::error::BlobError;
use crate::store::{MultipartStore, ObjectStore};

/// Shows that the bytes came back as they went.
const PROBE: &[u8] = b"roadstead was here";

impl S3Store {
    /// Does once everything that the registry will do: writes, lists, reads and deletes a small object named by `id`,
    /// and begins and drops a multipart upload. The error says which of them failed and what to look at: the
    /// address, the bucket, the credentials, a permission, the clock. Works while other replicas do the same.
    pub async fn probe(&self, id: Uuid) -> Result<(), BlobError> {
        self.probe_credentials().await?;
        let key = ObjectKey::tail(id);
        self.probe_clock(&key).await.map_err(|error| within("writing an object", error))?;
        let deleted = async {
            self.probe_read(&key).await?;
            self.probe_multipart(&key).await
        }
        .await;
        // Whatever went wrong, leave nothing behind.
        self.delete(&[key]).await.map_err(|error| within("deleting an object", error)).and(deleted)
    }

    async fn probe_credentials(&self) -> Result<(), BlobError> {
        let Some(provider) = &self.credentials else { return Ok(()) };
        let advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine or pod a role";
        let denied = |error| BlobError::Denied(format!("no credentials: {advice}: {}", causes(&error)));
        provider.provide_credentials().await.map(|_| ()).map_err(denied)
    }

    /// Writes without letting the SDK correct the clock in silence: links are signed by the clock as it is.
    async fn probe_clock(&self, key: &ObjectKey) -> Result<(), BlobError> {
        let request = self.client.put_object().bucket(&self.bucket).key(self.name(key));
        let strict = aws_sdk_s3::config::Builder::new().disable_clock_skew_correction(true);
        let request = request.body(Bytes::from_static(PROBE).into()).customize().config_override(strict);
        request.send().await.map(|_| ()).map_err(failed("PutObject"))
    }

    async fn probe_read(&self, key: &ObjectKey) -> Result<(), BlobError> {
        let listing = self.list(key.as_str(), None).await.map_err(|error| within("listing the bucket", error))?;
        if listing.items.first().map(|object| &object.key) != Some(key) {
            return Err(BlobError::Broken("an object that was just written is not in the listing".into()));
        }
        let reading = "reading an object";
        let stream = self.get(key, 0..PROBE.len() as u64).await.map_err(|error| within(reading, error))?;
        let content: Vec<Bytes> = stream.try_collect().await.map_err(|error| within(reading, error))?;
        if content.concat() == PROBE {
            Ok(())
        } else {
            Err(BlobError::Broken("an object that was just written reads otherwise".into()))
        }
    }

    async fn probe_multipart(&self, key: &ObjectKey) -> Result<(), BlobError> {
        let id = self.create_multipart(key).await.map_err(|error| within("beginning a multipart upload", error))?;
        self.abort(key, &id).await.map_err(|error| within("dropping a multipart upload", error))
    }
}

/// The same error, saying what was tried.
fn within(what: impl Display, error: BlobError) -> BlobError {
    match error {
        BlobError::Unavailable(text) => BlobError::Unavailable(format!("{what}: {text}")),
        BlobError::Full(text) => BlobError::Full(format!("{what}: {text}")),
        BlobError::Denied(text) => BlobError::Denied(format!("{what}: {text}")),
        BlobError::Broken(text) => BlobError::Broken(format!("{what}: {text}")),
        // Not of a bucket that is missing, which servers say otherwise.
        BlobError::NotFound | BlobError::MultipartUnknown => {
            BlobError::Broken(format!("{what}: the server answers that there is nothing; is it one that speaks S3?"))
        }
    }
}
