//! A store in a bucket of any server that speaks S3.
//!
//! ```text
//!   calls ---> client ----------------> endpoint          signed requests, bounded attempts and waits
//!   presign -> presigner (no request)   public endpoint   only the host name in the link differs
//! ```
//!
//! The body of a write is handed on as it came, without a copy. Nor is it hashed for the signature where nobody can change
//! it on its way: over TLS, and to a server on this machine.

mod completions;
mod connect;
mod failure;
mod patience;
mod presign;
mod probe;
mod read;

use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::{ByteStream as RequestBody, DateTime};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use bytes::Bytes;
use roadstead_oci::{MultipartId, ObjectKey, Part};

use self::completions::Completions;
pub use self::connect::{S3Credentials, S3Options, S3OptionsError};
use self::failure::{broken, failed, failed_code};
use crate::error::BlobError;
use crate::rules::{check_delete, check_part, check_parts};
use crate::store::{ByteStream, Listing, MultipartInfo, MultipartStore, ObjectInfo, ObjectStore};

/// Keeps objects in a bucket.
pub struct S3Store {
    client: Client,
    /// Where `client` has its credentials from.
    credentials: Option<SharedCredentialsProvider>,
    /// Signs links; `None` if clients do not reach the server.
    presigner: Option<Client>,
    bucket: String,
    /// Stands before every key: empty, or with a slash at its end.
    prefix: String,
    /// Whether nobody can change a request on its way, so that bodies need no hash in their signature.
    sheltered: bool,
    completions: Completions,
}

impl S3Store {
    fn name(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key of an object or upload of ours.
    fn key(&self, name: Option<&str>) -> Option<ObjectKey> {
        name?.strip_prefix(&self.prefix)?.parse().ok()
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError> {
        let request = self.client.put_object().bucket(&self.bucket).key(self.name(key));
        let request = request.body(RequestBody::from(content)).customize().config_override(patience::slow());
        let request = if self.sheltered { request.disable_payload_signing() } else { request };
        request.send().await.map(|_| ()).map_err(failed("PutObject"))
    }

    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError> {
        // Some servers ignore the condition, or do not know it.
        if self.head(key).await?.is_some() {
            return Ok(false);
        }
        let request = self.client.put_object().bucket(&self.bucket).key(self.name(key)).if_none_match("*");
        let request = request.body(RequestBody::from(content.clone())).customize().config_override(patience::slow());
        let request = if self.sheltered { request.disable_payload_signing() } else { request };
        let answer = request.send().await;
        let status = answer.as_ref().err().and_then(SdkError::raw_response).map(|answer| answer.status().as_u16());
        match status {
            Some(412) => Ok(false),
            // Somebody else is writing it: whether it comes to be, a repeated call tells.
            Some(409) => Err(BlobError::Unavailable("PutObject: another writer is at this object".to_owned())),
            Some(501) => self.put(key, content).await.map(|()| true),
            _ => answer.map(|_| true).map_err(failed("PutObject")),
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError> {
        const OPERATION: &str = "HeadObject";
        let request = self.client.head_object().bucket(&self.bucket).key(self.name(key));
        match request.send().await.map_err(failed(OPERATION)) {
            Ok(head) => Ok(Some(ObjectInfo {
                key: key.clone(),
                size: size_of(OPERATION, head.content_length)?,
                modified: time_of(OPERATION, head.last_modified)?,
            })),
            Err(BlobError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        self.stream(key, range).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        const OPERATION: &str = "DeleteObjects";
        check_delete(keys)?;
        if keys.is_empty() {
            return Ok(());
        }
        let object = |key| ObjectIdentifier::builder().key(self.name(key)).build();
        let objects: Vec<_> = keys.iter().map(object).collect::<Result<_, _>>().map_err(|e| broken(OPERATION, &e))?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
        let delete = delete.map_err(|error| broken(OPERATION, &error))?;
        let request = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let deleted = request.customize().config_override(patience::slow()).send().await.map_err(failed(OPERATION))?;
        for error in deleted.errors.unwrap_or_default() {
            match failed_code(OPERATION, error.code.as_deref(), error.message.as_deref()) {
                BlobError::NotFound => {}
                error => return Err(error),
            }
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
        const OPERATION: &str = "ListObjectsV2";
        // A page has 1,000 entries, `MAX_LIST`, unless fewer are asked for.
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{}{prefix}", self.prefix));
        let request = request.set_continuation_token(next.map(str::to_owned));
        let page = request.send().await.map_err(failed(OPERATION))?;
        let mut items = Vec::new();
        for object in page.contents.unwrap_or_default() {
            let Some(key) = self.key(object.key.as_deref()) else { continue };
            let size = size_of(OPERATION, object.size)?;
            items.push(ObjectInfo { key, size, modified: time_of(OPERATION, object.last_modified)? });
        }
        Ok(Listing { items, next: page.next_continuation_token })
    }
}

#[async_trait]
impl MultipartStore for S3Store {
    fn min_part_size(&self) -> u64 {
        // "EntityTooSmall" below it, for all parts but the last.
        5 * 1024 * 1024
    }

    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        const OPERATION: &str = "CreateMultipartUpload";
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(self.name(key));
        let created = request.send().await.map_err(failed(OPERATION))?;
        created.upload_id.map(MultipartId).ok_or_else(|| broken(OPERATION, &"no upload id"))
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        part_size: u64,
        content: Bytes,
    ) -> Result<Part, BlobError> {
        const OPERATION: &str = "UploadPart";
        let size = content.len() as u64;
        check_part(number, part_size, size)?;
        let request = self.client.upload_part().bucket(&self.bucket).key(self.name(key)).upload_id(&id.0);
        let request = request
            .part_number(s3_number(number)?)
            .body(RequestBody::from(content))
            .customize()
            .config_override(patience::slow());
        let request = if self.sheltered { request.disable_payload_signing() } else { request };
        let written = request.send().await.map_err(failed(OPERATION))?;
        let etag = written.e_tag.ok_or_else(|| broken(OPERATION, &"no ETag"))?;
        Ok(Part { number, size, etag })
    }

    /// A server's answer to `put_part` says that it keeps the part.
    async fn persist(&self, _: &ObjectKey, _: &MultipartId, _: &[Part]) -> Result<(), BlobError> {
        Ok(())
    }

    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        const OPERATION: &str = "UploadPartCopy";
        let mut copied = Vec::new();
        // One after the other: a client that goes on after a short final part is rare, and the server does the work.
        for number in 1..=parts {
            let start = u64::from(number - 1) * part_size;
            let request = self.client.upload_part_copy().bucket(&self.bucket).key(self.name(key)).upload_id(&id.0);
            let request = request
                .part_number(s3_number(number)?)
                // Needs no escaping: see `S3Options::prefix`.
                .copy_source(format!("{}/{}", self.bucket, self.name(source)))
                .copy_source_range(format!("bytes={start}-{}", start + part_size - 1));
            let result =
                request.customize().config_override(patience::slow()).send().await.map_err(failed(OPERATION))?;
            let etag = result.copy_part_result.and_then(|part| part.e_tag);
            let etag = etag.ok_or_else(|| broken(OPERATION, &"no ETag"))?;
            copied.push(Part { number, size: part_size, etag });
        }
        Ok(copied)
    }

    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        const OPERATION: &str = "CompleteMultipartUpload";
        check_parts(parts)?;
        let mut named = CompletedMultipartUpload::builder();
        for part in parts {
            named = named
                .parts(CompletedPart::builder().part_number(s3_number(part.number)?).e_tag(part.etag.as_str()).build());
        }
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(self.name(key));
        let request = request.upload_id(&id.0).multipart_upload(named.build()).customize();
        // The SDK knows that the answer may be a 200 with an error in its body.
        let request = request.config_override(patience::complete());
        match self.completions.run(id, request.send()).await {
            Ok(completed) => completed.map(|_| ()).map_err(failed(OPERATION)),
            Err(error) => Err(BlobError::Unavailable(format!("{OPERATION}: cut off: {error}"))),
        }
    }

    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(self.name(key)).upload_id(&id.0);
        match request.send().await.map_err(failed("AbortMultipartUpload")) {
            Ok(_) | Err(BlobError::MultipartUnknown | BlobError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
        const OPERATION: &str = "ListMultipartUploads";
        let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&self.prefix);
        // Neither marker has a space in it.
        let (key_marker, id_marker) = next.and_then(|next| next.split_once(' ')).unzip();
        let request =
            request.set_key_marker(key_marker.map(str::to_owned)).set_upload_id_marker(id_marker.map(str::to_owned));
        let page = request.send().await.map_err(failed(OPERATION))?;
        let mut items = Vec::new();
        for upload in page.uploads.unwrap_or_default() {
            let (Some(key), Some(id)) = (self.key(upload.key.as_deref()), upload.upload_id) else { continue };
            items.push(MultipartInfo { key, id: MultipartId(id), created: time_of(OPERATION, upload.initiated)? });
        }
        let markers = page.next_key_marker.zip(page.next_upload_id_marker).filter(|_| page.is_truncated == Some(true));
        Ok(Listing { items, next: markers.map(|(key, id)| format!("{key} {id}")) })
    }
}

fn s3_number(number: u32) -> Result<i32, BlobError> {
    i32::try_from(number).map_err(|error| broken("the number of a part", &error))
}

fn size_of(operation: &str, size: Option<i64>) -> Result<u64, BlobError> {
    size.and_then(|size| u64::try_from(size).ok()).ok_or_else(|| broken(operation, &"no size"))
}

fn time_of(operation: &str, time: Option<DateTime>) -> Result<SystemTime, BlobError> {
    time.and_then(|time| time.try_into().ok()).ok_or_else(|| broken(operation, &"no time of writing"))
}
