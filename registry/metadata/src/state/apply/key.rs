//! Keys of objects.
//!
//! ```text
//! (unknown) --reserve--> Reserved --session--> Held --link--> Linked
//!     |                     |  |---------------link------------^ |
//!     '------condemn--------+--+-- end of session, dedup --> Condemned --forget--> (unknown)
//!                                                delete ---> Retired ----forget-----^
//!                            pushed again in quarantine -----------------------------'
//! ```

use roadstead_oci::{MultipartId, ObjectKey, UploadId};

use super::{Apply, Halt, require};
use crate::state::keyspace::{CONDEMNED, KEYS, RESERVED, RETIRED};
use crate::state::rows::KeyRow;
use crate::{CondemnKeys, ForgetKeys, NeverRefused, QueryError, ReserveKeys, ReserveKeysRefused};

impl Apply<'_> {
    pub(super) fn reserve_keys(&mut self, operation: ReserveKeys) -> Result<(), Halt<ReserveKeysRefused>> {
        for key in &operation.keys {
            let fresh = matches!(self.rows.get(KEYS, key)?, None | Some(KeyRow::Reserved { .. }));
            require(fresh, ReserveKeysRefused::KeyTaken(key.clone()))?;
        }
        for key in operation.keys {
            self.set_key(&key, Some(KeyRow::Reserved { since: self.now() }))?;
        }
        Ok(())
    }

    pub(super) fn condemn_keys(&mut self, operation: CondemnKeys) -> Result<u32, Halt<NeverRefused>> {
        let mut condemned = 0;
        for key in operation.keys {
            if matches!(self.rows.get(KEYS, &key)?, None | Some(KeyRow::Reserved { .. })) {
                self.condemn(&key, None)?;
                condemned += 1;
            }
        }
        Ok(condemned)
    }

    pub(super) fn forget_keys(&mut self, operation: ForgetKeys) -> Result<u32, Halt<NeverRefused>> {
        let mut forgotten = 0;
        for key in operation.keys {
            if matches!(self.rows.get(KEYS, &key)?, Some(KeyRow::Condemned { .. } | KeyRow::Retired { .. })) {
                self.set_key(&key, None)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Whether a key may be written to and linked, by anybody.
    pub(super) fn is_reserved(&self, key: &ObjectKey) -> Result<bool, QueryError> {
        Ok(matches!(self.rows.get(KEYS, key)?, Some(KeyRow::Reserved { .. })))
    }

    /// Gives a key to a session, so that it lives as long as that.
    pub(super) fn hold(&mut self, key: &ObjectKey, upload: UploadId) -> Result<(), QueryError> {
        self.set_key(key, Some(KeyRow::Held { upload }))
    }

    /// Makes a key that of a blob's or manifest's object.
    pub(super) fn link(&mut self, key: &ObjectKey) -> Result<(), QueryError> {
        self.set_key(key, Some(KeyRow::Linked))
    }

    /// Gives up the key of an object that was damaged: the object stays where it is, and no fact knows of it.
    pub(super) fn forget(&mut self, key: &ObjectKey) -> Result<(), QueryError> {
        self.set_key(key, None)
    }

    /// Lets the object of a key be deleted, and its multipart upload aborted.
    pub(super) fn condemn(&mut self, key: &ObjectKey, multipart: Option<MultipartId>) -> Result<(), QueryError> {
        let now = self.now();
        self.set_key(
            key,
            Some(match self.rows.get(KEYS, key)? {
                Some(KeyRow::Linked) => KeyRow::Retired { since: now },
                _ => KeyRow::Condemned { due: now, multipart },
            }),
        )
    }

    fn set_key(&mut self, key: &ObjectKey, row: Option<KeyRow>) -> Result<(), QueryError> {
        match self.rows.get(KEYS, key)? {
            Some(KeyRow::Reserved { since }) => self.rows.remove(RESERVED, (&since, key))?,
            Some(KeyRow::Condemned { due, .. }) => self.rows.remove(CONDEMNED, (&due, key))?,
            Some(KeyRow::Retired { since }) => self.rows.remove(RETIRED, (&since, key))?,
            Some(KeyRow::Held { .. } | KeyRow::Linked) | None => {}
        }
        match &row {
            Some(KeyRow::Reserved { since }) => self.rows.put(RESERVED, (since, key), &())?,
            Some(KeyRow::Condemned { due, .. }) => self.rows.put(CONDEMNED, (due, key), &())?,
            Some(KeyRow::Retired { since }) => self.rows.put(RETIRED, (since, key), &())?,
            Some(KeyRow::Held { .. } | KeyRow::Linked) | None => {}
        }
        match row {
            Some(row) => self.rows.put(KEYS, key, &row),
            None => self.rows.remove(KEYS, key),
        }
    }
}
