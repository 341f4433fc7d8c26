//! Links that a client follows to the server itself.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roadstead_oci::ObjectKey;

use super::S3Store;
use super::failure::{broken, failed};
use crate::error::BlobError;
use crate::store::PresignStore;

impl PresignStore for S3Store {
    /// Nothing is sent: the link is computed. It ends with the credentials that signed it, even if that is before
    /// `valid` is over, and `valid` is at most a week.
    fn presign<'a>(&'a self, key: &'a ObjectKey, valid: Duration) -> BoxFuture<'a, Result<Option<String>, BlobError>> {
        async move {
            let Some(presigner) = &self.presigner else { return Ok(None) };
            let config = PresigningConfig::expires_in(valid).map_err(|error| broken("presigning", &error))?;
            let request = presigner.get_object().bucket(&self.bucket).key(self.name(key)).presigned(config);
            let request = request.await.map_err(failed("presigning"))?;
            Ok(Some(request.uri().to_owned()))
        }
        .boxed()
    }
}
