//! Operations on the keys of objects: reserved before they are written, condemned before they are deleted.

use roadstead_oci::ObjectKey;
use serde::{Deserialize, Serialize};

/// Reserves the keys of objects that are about to be written. Only a reserved key can be linked; one that never is
/// gets condemned by [`CondemnKeys`], and its object deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveKeys {
    /// Fresh random keys.
    pub keys: Vec<ObjectKey>,
}

/// Why [`ReserveKeys`] was refused; no key was reserved then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReserveKeysRefused {
    /// A key is known already, and not just reserved: it is not fresh.
    #[error("the key {0} is not fresh")]
    KeyTaken(ObjectKey),
}

/// Condemns keys that are reserved and neither linked nor held by an upload session, or that the state does not know: their objects may be deleted then,
/// and a link that comes later is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CondemnKeys {
    /// The keys; one that is linked, or held by a session, is passed over.
    pub keys: Vec<ObjectKey>,
}

/// Forgets condemned keys whose objects and multipart uploads are gone from the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetKeys {
    /// The keys; one that is not condemned is passed over.
    pub keys: Vec<ObjectKey>,
}
