//! Where in the folder a key's bytes are.
//!
//! ```text
//!   blobs/9f3/<uuid>                        objects: a file, or a folder of parts with their index
//!   manifests/sha256/9f3/<hex>.<uuid>
//!   meta/9f3/<uuid>.log-<first>-<last>      and meta/mar/marker-<number>
//!   tails/9f3/<uuid>
//!   unfinished/<key, with dots>.<id>        everything that is not an object yet, or not any more
//! ```
//!
//! Paths are made of keys and ids only, which have no separators of their own: nothing here can leave the folder.

use std::path::{Path, PathBuf};

use roadstead_oci::{MultipartId, ObjectKey};
use uuid::Uuid;

use crate::error::BlobError;

/// The folders of objects, in the order of their keys.
pub(super) const FOLDERS: [&str; 5] = ["blobs", "manifests/sha256", "manifests/sha512", "meta", "tails"];

/// What is under way. A name here says its key, so that whatever a crash leaves is found by `list_multiparts` and
/// removed by `abort` like any other upload that nobody goes on with.
pub(super) const UNFINISHED: &str = "unfinished";

/// Objects are spread by the first digits of their random names. Three hex digits make 4096 folders: of ten million
/// objects each holds some 2,400, so that a page of a listing (1,000) reads few names that it does not return, and a
/// small store has no more folders than objects.
pub(super) const FAN_DIGITS: usize = 3;

/// The path of an object, relative to the store's folder.
pub(super) fn object_path(key: &ObjectKey) -> PathBuf {
    let key = key.as_str();
    let within = |folder: &&'static str| Some((*folder, key.strip_prefix(*folder)?.strip_prefix('/')?));
    // Every key is within one of the folders; one that were not would keep its own name.
    let (folder, name) = FOLDERS.iter().find_map(within).unwrap_or(("", key));
    Path::new(folder).join(name.get(..FAN_DIGITS).unwrap_or_default()).join(name.replace('/', "."))
}

/// The key of the object `name` in `folder`; `None` for a file that is not ours.
pub(super) fn object_key(folder: &str, name: &str) -> Option<ObjectKey> {
    format!("{folder}/{}", name.replace('.', "/")).parse().ok()
}

/// The path of what is under way for `key`, relative to the store's folder.
pub(super) fn unfinished_path(key: &ObjectKey, id: Uuid) -> PathBuf {
    Path::new(UNFINISHED).join(format!("{}.{}", key.as_str().replace('/', "."), id.simple()))
}

/// The key and id of what is under way, by its file name; `None` for a file that is not ours.
pub(super) fn unfinished_key(name: &str) -> Option<(ObjectKey, MultipartId)> {
    let (key, id) = name.rsplit_once('.')?;
    let id = MultipartId(id.to_owned());
    Some((key.replace('.', "/").parse().ok()?, parse_id(&id).is_ok().then_some(id)?))
}

/// The id that this store gave out as `id`.
pub(super) fn parse_id(id: &MultipartId) -> Result<Uuid, BlobError> {
    let parsed = Uuid::try_parse(&id.0).map_err(|_| BlobError::MultipartUnknown)?;
    if parsed.simple().to_string() == id.0 { Ok(parsed) } else { Err(BlobError::MultipartUnknown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

    fn keys() -> Vec<ObjectKey> {
        let sha256 = format!("sha256:{}", "a5".repeat(32)).parse().unwrap();
        let sha512 = format!("sha512:{}", "a5".repeat(64)).parse().unwrap();
        vec![
            ObjectKey::blob(ID),
            ObjectKey::manifest(sha256, ID),
            ObjectKey::manifest(sha512, ID),
            ObjectKey::snapshot(ID, 7),
            ObjectKey::tail(ID),
        ]
    }

    #[test]
    fn a_key_is_told_by_its_path() {
        let more = [(ObjectKey::log_segment(ID, 1, 2), "meta"), (ObjectKey::marker(1), "meta")];
        for (key, folder) in keys().into_iter().zip(FOLDERS).chain(more) {
            let path = object_path(&key);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(object_key(folder, name), Some(key));
            assert_eq!(path, Path::new(folder).join(&name[..FAN_DIGITS]).join(name));
        }
        assert_eq!(object_path(&ObjectKey::blob(ID)), Path::new("blobs/012/01234567-89ab-cdef-0123-456789abcdef"));
    }

    #[test]
    fn what_is_under_way_says_its_key() {
        for key in keys().into_iter().chain([ObjectKey::log_segment(ID, 1, 2), ObjectKey::marker(1)]) {
            let path = unfinished_path(&key, ID);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name.len() <= 255, "NAME_MAX of every file system that matters");
            assert_eq!(unfinished_key(name), Some((key, MultipartId(ID.simple().to_string()))));
        }
    }

    #[test]
    fn foreign_names_are_passed_over() {
        for name in ["", "x", "lost+found", ".nfs000000000000", "..", "01234567-89AB-cdef-0123-456789abcdef"] {
            assert_eq!(object_key("blobs", name), None, "{name}");
            assert_eq!(unfinished_key(name), None, "{name}");
        }
        for id in ["", "../x", "01234567-89ab-cdef-0123-456789abcdef"] {
            assert!(parse_id(&MultipartId(id.into())).is_err(), "{id}");
        }
    }
}
