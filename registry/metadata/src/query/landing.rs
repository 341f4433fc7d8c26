//! Questions about what clients have given to a mirror.

use roadstead_oci::{Digest, RepositoryName};

use super::{Blob, Query, QueryError};
use crate::state::keyspace::{LANDED, OBJECTS};
use crate::state::rows::ObjectRow;

impl Query {
    /// A blob that a client has given to this repository of a mirror, and that home is not known to hold in it.
    /// `unnamed_since` says when it was given, or relied on, last.
    pub fn landed_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Blob>, QueryError> {
        let Some(since) = self.rows.get(LANDED, (repository, digest))? else { return Ok(None) };
        let object = self.rows.get(OBJECTS, digest)?;
        Ok(object.map(|ObjectRow { size, key, .. }| Blob { size, key, unnamed_since: Some(since) }))
    }

    /// Whether the bytes of a blob are here, whoever holds it.
    pub fn has_object(&self, digest: &Digest) -> Result<bool, QueryError> {
        self.rows.has(OBJECTS, digest)
    }
}
