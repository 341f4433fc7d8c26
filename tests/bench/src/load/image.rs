use anyhow::Result;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Client, Connection, push_blob, put_manifest};
use crate::payload::Payload;

/// An image: a configuration, layers, and the manifest that names them.
pub(crate) struct Image {
    blobs: Vec<Payload>,
    manifest: Vec<u8>,
    digest: String,
}

impl Image {
    pub(crate) const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

    /// Bytes of an image's configuration, which is some JSON to a client and opaque to a registry.
    const CONFIGURATION: u64 = 2_000;

    /// An image whose layers have these lengths. Another seed gives other bytes.
    pub(crate) fn new(seed: u64, layers: &[u64]) -> Self {
        let lengths = std::iter::once(&Self::CONFIGURATION).chain(layers);
        // Seeds of the blobs of one image do not meet those of the next ones.
        let blobs: Vec<_> = (0_u64..).zip(lengths).map(|(n, length)| Payload::new(seed * 1_000 + n, *length)).collect();
        let descriptor = |blob: &Payload, kind: &str| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": blob.digest(),
                "size": blob.length(),
            })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": Self::MEDIA_TYPE,
            "config": descriptor(&blobs[0], "config.v1+json"),
            "layers": blobs[1..].iter().map(|blob| descriptor(blob, "layer.v1.tar+gzip")).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&manifest)));
        Self { blobs, manifest, digest }
    }

    /// Pushes all of it as docker does, one blob after the other.
    pub(crate) async fn push(&self, connection: &mut Connection, repository: &str, tag: &str) -> Result<()> {
        for blob in &self.blobs {
            push_blob(connection, repository, blob, Client::Docker).await?;
        }
        put_manifest(connection, repository, tag, Self::MEDIA_TYPE, &self.manifest).await
    }

    /// The configuration and the layers.
    pub(crate) fn blobs(&self) -> &[Payload] {
        &self.blobs
    }

    /// The digest of the manifest.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// The digest of the last layer.
    pub(crate) fn layer_digest(&self) -> &str {
        self.blobs.last().map_or("", Payload::digest)
    }

    pub(crate) fn manifest(&self) -> &[u8] {
        &self.manifest
    }
}
