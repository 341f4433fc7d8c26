//! Bytes to write, and reading them back.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use roadstead_oci::ObjectKey;

use super::{Subject, Violation, ensure};
use crate::error::BlobError;
use crate::store::{FileRange, MAX_FILE_RANGE};

/// `len` bytes that no other seed has and no offset repeats: the outputs of `SplitMix64`.
pub(super) fn content(seed: u64, len: usize) -> Bytes {
    let mut state = seed << 32;
    let mut bytes = BytesMut::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.freeze()
}

impl Subject {
    /// The bytes of a range, as far as the stream goes; an error of the stream is one of this.
    pub(super) async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, BlobError> {
        let chunks: Vec<Bytes> = self.store.get(key, range).await?.try_collect().await?;
        Ok(chunks.concat().into())
    }

    /// The bytes of the files that a range is in; `None` if the store has no files.
    async fn read_files(&self, key: &ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BlobError> {
        let Some(mut files) = self.store.get_files(key, range).await? else { return Ok(None) };
        let mut read = Vec::new();
        while let Some(FileRange { file, offset, len }) = files.try_next().await? {
            let begin = read.len();
            read.resize(begin + len.min(MAX_FILE_RANGE), 0);
            file.read_exact_at(&mut read[begin..], offset).map_err(|error| BlobError::Broken(error.to_string()))?;
        }
        Ok(Some(read.into()))
    }

    /// That the object is there and is `expected`.
    pub(super) async fn expect(&self, key: &ObjectKey, expected: &Bytes) -> Result<(), Violation> {
        let size = expected.len() as u64;
        let info = self.store.head(key).await?;
        ensure!(info.as_ref().map(|info| info.size) == Some(size), "head says {info:?} of an object of {size} bytes");
        ensure!(info.is_none_or(|info| info.key == *key), "head answers about another key");
        let read = self.read(key, 0..size).await?;
        ensure!(read.len() == expected.len(), "{} of {size} bytes came back", read.len());
        ensure!(read == *expected, "other bytes came back");
        let range = size / 3..size - size / 4;
        if !range.is_empty()
            && let Some(read) = self.read_files(key, range).await?
        {
            let (start, end) = (expected.len() / 3, expected.len() - expected.len() / 4);
            ensure!(read == expected[start..end], "the files have other bytes, {} of them", read.len());
        }
        Ok(())
    }

    /// That there is no such object, in whatever way one asks.
    pub(super) async fn expect_absent(&self, key: &ObjectKey) -> Result<(), Violation> {
        let info = self.store.head(key).await?;
        ensure!(info.is_none(), "head says {info:?} of what is not there");
        let read = self.read(key, 0..1).await;
        ensure!(matches!(read, Err(BlobError::NotFound)), "get says {read:?} of what is not there");
        let read = self.read_files(key, 0..1).await;
        ensure!(matches!(read, Ok(None) | Err(BlobError::NotFound)), "files say {read:?} of what is not there");
        let listed = self.store.list(key.as_str(), None).await?;
        ensure!(listed.items.is_empty(), "the listing has what is not there");
        Ok(())
    }
}
