//! Indexes that the registry writes itself.
//!
//! Source: OCI distribution specification, "Listing Referrers"; OCI image specification, `image-index.md`.

use serde::Serialize;

use crate::descriptor::Descriptor;
use crate::media_type::MediaType;

/// An OCI image index, [`MediaType::OCI_INDEX`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index<'a> {
    schema_version: u8,
    media_type: MediaType,
    manifests: &'a [Descriptor],
}

impl Index<'_> {
    /// The body of a referrers listing: one descriptor a referrer, none if there are none.
    pub fn referrers(manifests: &[Descriptor]) -> Vec<u8> {
        let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests };
        serde_json::to_vec(&index).unwrap_or_else(|_| unreachable!("every key of an index is a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::hasher::Hasher;

    #[test]
    fn a_referrers_listing_is_an_index() {
        assert_eq!(
            String::from_utf8(Index::referrers(&[])).unwrap(),
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#
        );
        let referrer = Descriptor {
            media_type: MediaType::OCI_INDEX,
            digest: *Hasher::digest(Algorithm::Sha256, b"").get(),
            size: 1234,
            urls: Vec::new(),
            annotations: [("org.example".to_owned(), "\"quoted\"".to_owned())].into(),
            artifact_type: None,
            platform: None,
        };
        assert_eq!(
            String::from_utf8(Index::referrers(&[referrer])).unwrap(),
            concat!(
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"#,
                r#""mediaType":"application/vnd.oci.image.index.v1+json","#,
                r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
                r#""size":1234,"annotations":{"org.example":"\"quoted\""}}]}"#
            )
        );
    }
}
