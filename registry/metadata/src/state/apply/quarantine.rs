//! Setting damaged content aside: its row moves to a region that no reader looks into, and everything that counts on it
//! stays as it is.

use roadstead_oci::{Digest, ObjectKey};

use super::{Apply, Halt};
use crate::state::keyspace::{MANIFESTS, OBJECTS, QUARANTINED_MANIFESTS, QUARANTINED_OBJECTS};
use crate::state::rows::ObjectRow;
use crate::{Examined, NeverRefused, QueryError, SetQuarantine};

impl Apply<'_> {
    pub(super) fn set_quarantine(&mut self, operation: SetQuarantine) -> Result<bool, Halt<NeverRefused>> {
        let SetQuarantine { examined, quarantined } = operation;
        Ok(match examined {
            Examined::Blob { digest, key } => {
                let (from, to) = ordered(OBJECTS, QUARANTINED_OBJECTS, quarantined);
                let object = self.rows.get(from, &digest)?.filter(|object| object.key == key);
                if let Some(object) = &object {
                    self.rows.remove(from, &digest)?;
                    self.rows.put(to, &digest, object)?;
                }
                object.is_some()
            }
            Examined::Manifest { repository, digest, content } => {
                let (from, to) = ordered(MANIFESTS, QUARANTINED_MANIFESTS, quarantined);
                let place = (&repository, &digest);
                let manifest = self.rows.get(from, place)?.filter(|manifest| manifest.content == content);
                if let Some(manifest) = &manifest {
                    self.rows.remove(from, place)?;
                    self.rows.put(to, place, manifest)?;
                }
                manifest.is_some()
            }
        })
    }

    /// The row of a blob that was pushed again, or for the first time: whoever held it before holds it now.
    pub(super) fn mend(&mut self, digest: &Digest, size: u64, key: &ObjectKey) -> Result<ObjectRow, QueryError> {
        let Some(damaged) = self.rows.take(QUARANTINED_OBJECTS, digest)? else {
            return Ok(ObjectRow { size, key: key.clone(), memberships: 0, unreferenced: None });
        };
        self.forget(&damaged.key)?;
        let object = ObjectRow { size, key: key.clone(), ..damaged };
        self.rows.put(OBJECTS, digest, &object)?;
        Ok(object)
    }
}

fn ordered<T>(sound: T, damaged: T, quarantined: bool) -> (T, T) {
    if quarantined { (sound, damaged) } else { (damaged, sound) }
}
