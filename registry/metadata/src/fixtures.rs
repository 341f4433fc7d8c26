//! Small numbers as repositories, digests, keys and so on: what the tests of this crate are made of.

use std::collections::BTreeMap;

use bytes::Bytes;
use roadstead_oci::{
    Algorithm, Digest, HashState, Hasher, MultipartId, ObjectKey, Part, RepositoryName, Tag, UploadId, Verified,
};
use uuid::Uuid;

use crate::state::{Export, ReadRows, State, Sync};
use crate::{
    Command, CommandId, Envelope, Incarnation, LogTime, ManifestContent, NewManifest, OpenUpload, Operation, Outcome,
    Precondition, PutManifest, Query,
};

pub(crate) const OWNER: Incarnation = Incarnation(7);

pub(crate) fn repository(number: u8) -> RepositoryName {
    format!("library/repository-{number}").parse().unwrap()
}

pub(crate) fn tag(number: u8) -> Tag {
    format!("v{number}").parse().unwrap()
}

pub(crate) fn verified(number: u8) -> Verified<Digest> {
    Hasher::digest(Algorithm::Sha256, &[number])
}

pub(crate) fn digest(number: u8) -> Digest {
    *verified(number).get()
}

pub(crate) fn key(number: u8) -> ObjectKey {
    ObjectKey::blob(Uuid::from_u128(number.into()))
}

pub(crate) fn tail_key(number: u8) -> ObjectKey {
    ObjectKey::tail(Uuid::from_u128(number.into()))
}

pub(crate) fn upload(number: u8) -> UploadId {
    UploadId::new(Uuid::from_u128(number.into()))
}

pub(crate) fn multipart(number: u8) -> MultipartId {
    MultipartId(format!("multipart-{number}"))
}

pub(crate) fn part(number: u32) -> Part {
    Part { number, size: 10, etag: format!("etag-{number}") }
}

pub(crate) fn hash() -> HashState {
    Hasher::new().state()
}

pub(crate) fn open_upload(number: u8) -> OpenUpload {
    OpenUpload { upload: upload(number), repository: repository(1), owner: OWNER, sha512: false, hash: hash() }
}

/// The manifest of this number, in repository 1: inline, without blobs, tags or conditions.
pub(crate) fn new_manifest(number: u8) -> NewManifest {
    NewManifest {
        repository: repository(1),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        size: 1,
        content: ManifestContent::Inline(Bytes::copy_from_slice(&[number])),
        blobs: Vec::new(),
        referrer: None,
        tags: Vec::new(),
        precondition: Precondition::None,
        sparse: false,
    }
}

pub(crate) fn put_manifest(number: u8, tags: &[u8]) -> PutManifest {
    PutManifest::new(
        verified(number),
        NewManifest { tags: tags.iter().copied().map(tag).collect(), ..new_manifest(number) },
    )
}

/// Every row.
pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A state in memory, with ids and a clock for its commands.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: u64,
    next_id: u128,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { state: State::in_memory(), now: 1_000_000, next_id: 1 }
    }

    /// Applies a command under an id of its own.
    pub(crate) fn apply(&mut self, command: impl Into<Command>) -> Outcome {
        let id = CommandId(self.next_id);
        self.next_id += 1;
        self.envelope(Envelope { id, at: LogTime(self.now), command: command.into() })
    }

    /// Applies an entry of the log.
    pub(crate) fn envelope(&self, envelope: Envelope) -> Outcome {
        self.state.write(Sync::Deferred, |apply| apply.apply(envelope)).unwrap()
    }

    /// Applies an operation; a second later it is over.
    pub(crate) fn propose<O: Operation>(&mut self, operation: O) -> Result<O::Done, O::Refused> {
        self.now += 1000;
        O::result(self.apply(operation)).unwrap()
    }

    pub(crate) fn query(&self) -> Query {
        Query::new(self.state.read().unwrap())
    }

    pub(crate) fn rows(&self) -> Rows {
        rows(&self.state)
    }
}

pub(crate) fn rows(state: &State) -> Rows {
    rows_of(state.read().unwrap())
}

pub(crate) fn rows_of(view: ReadRows) -> Rows {
    let mut rows = Rows::new();
    let export = Export::View(view);
    let copied = export.for_each(|key, value| {
        rows.insert(key.to_vec(), value.to_vec());
        Ok(())
    });
    copied.unwrap();
    rows
}
