//! The contract suite: what a [`BlobStore`] promises, asked of a running one. Each store passes all of it.
//!
//! A case makes objects under fresh keys, so that it can run against a bucket that holds others' too, and reports the
//! first broken promise as a sentence.

mod content;
mod listing;
mod multipart;
mod objects;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roadstead_oci::ObjectKey;

use crate::error::BlobError;
use crate::filesystem::IdSource;
use crate::store::BlobStore;

/// The store in question, and what the cases need to know of it.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn BlobStore>,
    /// Names the objects. Must not repeat what an earlier run against the same store used.
    pub ids: IdSource,
    /// The size of a part in bytes: at least the store's [`min_part_size`](crate::MultipartStore::min_part_size).
    /// Cases keep up to eight parts in memory.
    pub part_size: usize,
    /// Whether the store lists every multipart upload under way: `MinIO` does not.
    pub lists_multiparts: bool,
}

/// One promise.
pub struct Case {
    /// The promise in words.
    pub name: &'static str,
    run: fn(&Subject) -> BoxFuture<'_, Result<(), Violation>>,
}

/// How a promise was broken.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl From<BlobError> for Violation {
    fn from(error: BlobError) -> Self {
        Self(format!("an error where none belongs: {error}"))
    }
}

/// Every promise.
pub const CASES: &[Case] = &[
    Case { name: "an object reads as it was written", run: |s| objects::reads_back(s).boxed() },
    Case { name: "an object may be empty", run: |s| objects::empty(s).boxed() },
    Case { name: "what is not there is told", run: |s| objects::absent(s).boxed() },
    Case { name: "a range is exactly its bytes", run: |s| objects::ranges(s).boxed() },
    Case { name: "writing the same again is harmless", run: |s| objects::written_again(s).boxed() },
    Case {
        name: "what is there is not written anew unless it is meant to be",
        run: |s| objects::written_new(s).boxed(),
    },
    Case { name: "a deleted object is gone", run: |s| objects::deleted(s).boxed() },
    Case { name: "a read goes on or fails when its object is deleted", run: |s| objects::read_and_deleted(s).boxed() },
    Case { name: "nobody sees half of an object", run: |s| objects::whole_or_absent(s).boxed() },
    Case { name: "a call that is dropped harms nothing", run: |s| objects::dropped(s).boxed() },
    Case { name: "a listing has every object once, in order, in pages", run: |s| listing::pages(s).boxed() },
    Case { name: "a listing keeps to its prefix", run: |s| listing::prefixes(s).boxed() },
    Case { name: "an object is made of its parts", run: |s| multipart::completed(s).boxed() },
    Case { name: "parts are persisted as often as wanted", run: |s| multipart::persisted(s).boxed() },
    Case { name: "parts are shown as they were written, or not at all", run: |s| multipart::shown(s).boxed() },
    Case { name: "one part is enough", run: |s| multipart::one_part(s).boxed() },
    Case { name: "a part that is written again is replaced", run: |s| multipart::part_replaced(s).boxed() },
    Case { name: "a part that was replaced is never mixed in", run: |s| multipart::part_outdated(s).boxed() },
    Case { name: "a dropped write of a part harms nothing", run: |s| multipart::part_dropped(s).boxed() },
    Case {
        name: "a dropped write of other bytes is never mixed in",
        run: |s| multipart::part_dropped_and_changed(s).boxed(),
    },
    Case { name: "completing twice is told or repeated", run: |s| multipart::completed_twice(s).boxed() },
    Case { name: "an upload survives a completion that is wrong", run: |s| multipart::completed_wrongly(s).boxed() },
    Case { name: "an aborted upload is gone", run: |s| multipart::aborted(s).boxed() },
    Case { name: "an abort that comes late harms nothing", run: |s| multipart::aborted_late(s).boxed() },
    Case { name: "uploads do not mix", run: |s| multipart::separate(s).boxed() },
    Case { name: "nobody sees half of a completion", run: |s| multipart::whole_or_absent(s).boxed() },
    Case { name: "parts are copied inside the store", run: |s| multipart::copied(s).boxed() },
    Case { name: "parts are copied in another size", run: |s| multipart::copied_in_another_size(s).boxed() },
    Case { name: "uploads under way are listed", run: |s| multipart::listed(s).boxed() },
];

/// Tries every case, one after the other; the names of the promises that are broken, and how.
pub async fn run(subject: &Subject) -> Vec<(&'static str, Violation)> {
    let mut broken = Vec::new();
    for case in CASES {
        broken.extend(case.check(subject).await.err().map(|violation| (case.name, violation)));
    }
    broken
}

impl Case {
    /// Whether the store keeps this promise.
    pub async fn check(&self, subject: &Subject) -> Result<(), Violation> {
        (self.run)(subject).await
    }
}

impl Subject {
    fn blob(&self) -> ObjectKey {
        ObjectKey::blob((self.ids)())
    }
}

/// Ends a case with a sentence unless a condition holds.
macro_rules! ensure {
    ($holds:expr, $($sentence:tt)+) => {
        if !$holds {
            return Err($crate::suite::Violation(format!($($sentence)+)));
        }
    };
}
use ensure;
