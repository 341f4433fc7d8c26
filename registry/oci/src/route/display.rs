//! From a [`Route`] back to its URL, for `Location` and `Link`.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Route, UploadKind};
use crate::page::Page;

/// RFC 3986, section 2.3: all that need never be encoded stays as it is, and the colon and slash, which a query may
/// have.
const VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// The path and, if there is one, the query, as [`Route::parse`] reads them.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/v2/")?;
        if let Some(repository) = self.repository() {
            write!(f, "{repository}/")?;
        }
        let mut query = Parameters::default();
        match self {
            Self::Base => {}
            Self::Catalog { page } => {
                f.write_str("_catalog")?;
                query.page(page);
            }
            Self::Extensions | Self::RepositoryExtensions { .. } => f.write_str("_oci/ext/discover")?,
            Self::Tags { page, .. } => {
                f.write_str("tags/list")?;
                query.page(page);
            }
            Self::Referrers { subject, artifact_type, last, .. } => {
                write!(f, "referrers/{subject}")?;
                query.push("artifactType", artifact_type.as_ref());
                query.push("last", last.as_ref());
            }
            Self::ManifestGet { reference, .. }
            | Self::ManifestHead { reference, .. }
            | Self::ManifestDelete { reference, .. } => write!(f, "manifests/{reference}")?,
            Self::ManifestPut { reference, tags, .. } => {
                write!(f, "manifests/{reference}")?;
                for tag in tags {
                    query.push("tag", Some(tag));
                }
            }
            Self::BlobGet { digest, .. } | Self::BlobHead { digest, .. } | Self::BlobDelete { digest, .. } => {
                write!(f, "blobs/{digest}")?;
            }
            Self::UploadStart { kind, .. } => {
                f.write_str("blobs/uploads/")?;
                query.upload_kind(kind);
            }
            Self::UploadStatus { upload, .. }
            | Self::UploadPatch { upload, .. }
            | Self::UploadCancel { upload, .. } => write!(f, "blobs/uploads/{upload}")?,
            Self::UploadPut { upload, digest, .. } => {
                write!(f, "blobs/uploads/{upload}")?;
                query.push("digest", Some(digest));
            }
        }
        f.write_str(&query.0)
    }
}

/// A query with its question mark; nothing if it has no parameters.
#[derive(Default)]
struct Parameters(String);

impl Parameters {
    fn push(&mut self, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(key);
            self.0.push('=');
            self.0.extend(utf8_percent_encode(&value.to_string(), VALUE));
        }
    }

    fn page(&mut self, page: &Page) {
        self.push("n", page.n);
        self.push("last", page.last.as_ref());
    }

    fn upload_kind(&mut self, kind: &UploadKind) {
        match kind {
            UploadKind::Session { algorithm } => self.push("digest-algorithm", *algorithm),
            UploadKind::Monolithic { digest } => self.push("digest", Some(digest)),
            UploadKind::Mount { digest, from } => {
                self.push("mount", Some(digest));
                self.push("from", from.as_ref());
            }
        }
    }
}
