//! Garbage collection: what the passing of time does to blobs that nothing names.

use roadstead_oci::Digest;

use super::{Apply, Halt, require};
use crate::state::keyspace::{MEMBERSHIPS, OBJECTS, QUARANTINED_OBJECTS, UNNAMED, UNREFERENCED};
use crate::{CollectBlobs, Collected, NeverRefused, QueryError, TouchBlob, TouchBlobRefused};

impl Apply<'_> {
    pub(super) fn touch_blob(&mut self, operation: TouchBlob) -> Result<(), Halt<TouchBlobRefused>> {
        let TouchBlob { repository, digest } = operation;
        let membership = self.rows.get(MEMBERSHIPS, (&repository, &digest))?.filter(|membership| membership.held);
        require(membership.is_some() && !self.is_quarantined(&digest)?, TouchBlobRefused::BlobUnknown)?;
        Ok(self.renew(&repository, &digest)?)
    }

    pub(super) fn collect_blobs(&mut self, operation: &CollectBlobs) -> Result<Collected, Halt<NeverRefused>> {
        // Objects first: what is unlinked by this entry has a grace of its own before it.
        let condemned = self.condemn_unreferenced(operation)?;
        // A mirror's repositories hold what they hold at home: its feed says what they let go.
        self.collect_landed(operation)?;
        // One that is fenced was told to the last change what it has: nothing may come behind that.
        let is_still = self.is_mirror()? || self.is_fenced()?;
        let unlinked = if is_still { 0 } else { self.unlink_unnamed(operation)? };
        Ok(Collected { unlinked, condemned })
    }

    fn condemn_unreferenced(&mut self, operation: &CollectBlobs) -> Result<u32, QueryError> {
        let due = UNREFERENCED.all().before(UNREFERENCED.start_at(&operation.before));
        let mut condemned = 0;
        for (since, digest) in self.rows.keys(UNREFERENCED, due, operation.limit as usize)? {
            self.rows.remove(UNREFERENCED, (&since, &digest))?;
            if self.is_pinned(&digest)? {
                self.wait_another_grace(digest)?;
                continue;
            }
            let object = match self.rows.take(OBJECTS, &digest)? {
                None => self.rows.take(QUARANTINED_OBJECTS, &digest)?,
                sound => sound,
            };
            if let Some(object) = object {
                self.condemn(&object.key, None)?;
                condemned += 1;
            }
        }
        Ok(condemned)
    }

    /// A blob that what is kept aside names stays, and is looked at again.
    fn wait_another_grace(&mut self, digest: Digest) -> Result<(), QueryError> {
        let region = if self.is_quarantined(&digest)? { QUARANTINED_OBJECTS } else { OBJECTS };
        let Some(mut object) = self.rows.get(region, &digest)? else { return Ok(()) };
        let since = self.now();
        object.unreferenced = Some(since);
        self.rows.put(UNREFERENCED, (&since, &digest), &())?;
        self.rows.put(region, &digest, &object)
    }

    fn unlink_unnamed(&mut self, operation: &CollectBlobs) -> Result<u32, QueryError> {
        let due = UNNAMED.all().before(UNNAMED.start_at(&operation.before));
        let mut unlinked = 0;
        for (_, repository, digest) in self.rows.keys(UNNAMED, due, operation.limit as usize)? {
            if let Some(membership) = self.rows.get(MEMBERSHIPS, (&repository, &digest))? {
                self.part(repository, digest, membership)?;
                unlinked += 1;
            }
        }
        Ok(unlinked)
    }
}
