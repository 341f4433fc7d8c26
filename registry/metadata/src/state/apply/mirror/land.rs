//! Blobs that clients have given to a mirror, and that home does not hold yet as far as is known here.

use roadstead_oci::{Digest, RepositoryName};

use crate::state::apply::{Apply, Halt, require};
use crate::state::keyspace::{LANDED, LANDED_BY_AGE, MIRRORS, OBJECTS, UNREFERENCED, WRITERS};
use crate::state::rows::MirrorRow;
use crate::{AdmitWriter, CollectBlobs, LandBlob, LandBlobRefused, NeverRefused, QueryError};

impl Apply<'_> {
    pub(in crate::state::apply) fn land_blob(&mut self, operation: &LandBlob) -> Result<(), Halt<LandBlobRefused>> {
        let LandBlob { repository, digest } = operation;
        let object = self.rows.get(OBJECTS, digest)?;
        require(object.is_some(), LandBlobRefused::BlobUnknown)?;
        self.forget_landed(repository, digest)?;
        let now = self.now();
        self.rows.put(LANDED, (repository, digest), &now)?;
        self.rows.put(LANDED_BY_AGE, (&now, repository, digest), &())?;
        // An object that nobody holds is collected a grace after this, as what it landed in shows it so long.
        if let Some(mut object) = object
            && let Some(since) = object.unreferenced
        {
            self.rows.remove(UNREFERENCED, (&since, digest))?;
            object.unreferenced = Some(now);
            self.rows.put(UNREFERENCED, (&now, digest), &())?;
            self.rows.put(OBJECTS, digest, &object)?;
        }
        Ok(())
    }

    pub(in crate::state::apply) fn admit_writer(&mut self, operation: AdmitWriter) -> Result<(), Halt<NeverRefused>> {
        let AdmitWriter { name, token } = operation;
        self.forget_mirror(&name)?;
        self.rows.put(MIRRORS, &token, &MirrorRow { name, admitted: self.now() })?;
        Ok(self.rows.put(WRITERS, &token, &())?)
    }

    /// Home holds it, or nobody came back for it.
    pub(super) fn forget_landed(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<(), QueryError> {
        match self.rows.take(LANDED, (repository, digest))? {
            Some(since) => self.rows.remove(LANDED_BY_AGE, (&since, repository, digest)),
            None => Ok(()),
        }
    }

    /// Forgets what landed so long ago that its push is given up.
    pub(in crate::state::apply) fn collect_landed(&mut self, operation: &CollectBlobs) -> Result<(), QueryError> {
        let due = LANDED_BY_AGE.all().before(LANDED_BY_AGE.start_at(&operation.before));
        for (_, repository, digest) in self.rows.keys(LANDED_BY_AGE, due, operation.limit as usize)? {
            self.forget_landed(&repository, &digest)?;
        }
        Ok(())
    }
}
