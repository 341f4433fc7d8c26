//! The vocabulary of an OCI registry: what its words are and what they may look like.
//!
//! Pure: no I/O, no clock, no randomness, no async. Everything else imports this crate; it imports none of them.

mod byte_range;
mod descriptor;
mod digest;
mod error_code;
mod hasher;
mod index;
mod manifest;
mod media_type;
mod object;
mod page;
mod reference;
mod repository;
mod route;
mod tag;
mod upload_id;

pub use byte_range::{ContentRange, ContentRangeError, RangeRequest};
pub use descriptor::{Descriptor, Platform};
pub use digest::{Algorithm, Digest, DigestError};
pub use error_code::{ErrorBody, ErrorCode};
pub use hasher::{HashState, HashStateError, Hasher, Verified, VerifyError};
pub use index::Index;
pub use manifest::{Manifest, ManifestError};
pub use media_type::{ManifestKind, MediaType, MediaTypeError};
pub use object::{MultipartId, ObjectKey, ObjectKeyError, ObjectKind, Part};
pub use page::{Page, PageError};
pub use reference::{Reference, ReferenceError};
pub use repository::{RepositoryName, RepositoryNameError};
pub use route::{Action, Method, Route, RouteError, UploadKind};
pub use tag::{Tag, TagError};
pub use upload_id::{UploadId, UploadIdError};
