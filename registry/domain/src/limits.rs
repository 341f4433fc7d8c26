//! The bounds of this crate, each with its derivation.

use std::time::Duration;

/// Parts of one push that are on their way to the store at once. Three keep a connection busy while one is being
/// acknowledged and one is being sent; more would only let one push take the budget of others.
pub(crate) const MAX_PARTS_IN_FLIGHT: usize = 3;

/// How long parts that were written wait for others, to become durable together. So much of a push is sent again if this
/// process dies, and one wait a second for the disk costs a push nothing. Short in this crate's tests, which wait it out.
pub(crate) const CHECKPOINT_DELAY: Duration =
    if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };

/// The same where mirrors fetch parts while a client still sends: so much later they hear of a part. A checkpoint takes some
/// ten milliseconds, in which a push waits.
pub(crate) const SHOWN_CHECKPOINT_DELAY: Duration =
    if cfg!(test) { CHECKPOINT_DELAY } else { Duration::from_millis(200) };

/// An upload is told to mirrors from so many parts on: what has none yet is at home a moment later, and comes as a whole.
pub(crate) const SHOWN_FROM_PARTS: u64 = 1;

/// How often a closing request commits that its session is in use, since it commits nothing else until its end. A few
/// may fail. Short in this crate's tests, which wait it out.
pub(crate) fn touch_interval(upload_expiry: Duration) -> Duration {
    if cfg!(test) { Duration::from_millis(20) } else { upload_expiry / 4 }
}

/// How often an object is looked for whose upload is gone, and how long apart: while the completion that ended the
/// upload is at work, some servers show neither (`MultipartStore::complete`), for a second or so. Three seconds are less
/// than clients wait for an answer. Short in this crate's tests, which wait it out.
pub(crate) const COMPLETION_LOOKS: u32 = 10;
pub(crate) const COMPLETION_LOOK: Duration =
    if cfg!(test) { Duration::from_millis(10) } else { Duration::from_millis(300) };

/// How long a push waits for memory before its client is told to come back: as long as most clients wait for an answer.
/// Short in this crate's tests, which wait it out.
pub(crate) const MEMORY_DEADLINE: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_mins(1) };

/// Bytes a second at which a client must fill a part at least, since others wait for its memory: what an old telephone
/// line's uplink carries.
const MIN_FILL_RATE: u64 = 16 * 1024;

/// The same for small parts, so that a moment's pause ends none. Short in this crate's tests, which wait it out.
const MIN_FILL_TIME: Duration = if cfg!(test) { Duration::from_secs(3) } else { Duration::from_mins(1) };

/// How long a client may take to fill a part.
pub(crate) fn fill_time(part_size: u64) -> Duration {
    Duration::from_secs(part_size / MIN_FILL_RATE).max(MIN_FILL_TIME)
}

/// Keys reserved by one entry of the log. A push storm of a thousand blobs a second then costs 16 entries a second.
/// Few in this crate's tests, so that reserving takes part in their races.
pub(crate) const KEYS_PER_RESERVATION: usize = if cfg!(test) { 4 } else { 64 };

/// A reserved key that has waited this long is not used any more; see [`RESERVATION_EXPIRY`].
pub(crate) const RESERVED_KEY_MAX_AGE: Duration = Duration::from_hours(1);

/// A key that was reserved this long ago and belongs to no session is condemned. Above [`RESERVED_KEY_MAX_AGE`] by
/// more than the longest single write to the store can take.
pub(crate) const RESERVATION_EXPIRY: Duration = Duration::from_hours(24);

/// A multipart upload in the store that no fact names is aborted when it is this old. A replica that crashed between
/// creating one and committing its name leaves such an upload behind.
pub(crate) const ORPHAN_MULTIPART_AGE: Duration = Duration::from_hours(24);

/// Repositories that are looked at to find one from which a blob may be mounted without `from`. A caller who may see
/// none of the first thousand uploads the blob instead.
pub(crate) const MAX_HOLDERS_EXAMINED: usize = 1_000;

/// How long the object of a blob or manifest stays after nothing names it: longer than a presigned URL is good, and
/// than a client takes that began to read it right before.
pub(crate) const READERS_LEAVE: Duration = Duration::from_hours(2);

/// Entries of the log in one object of the backup, about. Read and written as a whole, beside the budget of pushes.
pub(crate) const SEGMENT_BYTES: usize = 4 << 20;

/// Parts in which a snapshot of the facts is written: the largest has 10,000 of them, 78 GiB. Small in this crate's
/// tests, so that a few facts have several.
pub(crate) const SNAPSHOT_PART: u64 = if cfg!(test) { 1_000 } else { 8 << 20 };

/// A snapshot is due when as many bytes were shipped since the last one as that has, so that the store takes at most
/// twice what is shipped; but not for less than this.
pub(crate) const SNAPSHOT_BYTES: u64 = 16 << 20;

/// Or when a restore would have to read so many objects after it: some seconds with several at once, and half an hour of
/// steady work at one object each 750 ms.
pub(crate) const SNAPSHOT_SEGMENTS: u64 = 2_000;

/// Or after `backup-interval`, if anything was shipped; so that what is older than the retention can go, after no more than
/// that, but not for its sake after less than this.
pub(crate) const LEAST_RETENTION_SNAPSHOT: Duration = Duration::from_hours(1);

/// Segments fetched at once by a restore, each up to [`SEGMENT_BYTES`] and a little.
pub(crate) const SEGMENTS_AHEAD: usize = 4;

/// Objects that are looked for at once after a restore.
pub(crate) const CHECKS_AT_ONCE: usize = 32;

/// Sessions expired, blobs let go and condemned, and keys forgotten, by one entry of the log. Applying an entry holds up
/// all others, some 30 us for each of these: with a thousand, pushes waited 80 ms.
pub(crate) const SWEEP_BATCH: usize = 64;

/// A session closed by a SHA-512 digest that it had not announced is read once more, up to this size; above it, that
/// read would outlast the patience of clients (a minute, at 100 MB/s).
pub(crate) const MAX_REHASH: u64 = 6 << 30;

/// Bytes of manifests that are too large for the log and were read from the store: 16 of the largest.
pub(crate) const MANIFEST_CACHE_BYTES: usize = 64 << 20;

/// Manifests that are read from the store at once, each up to 4 MiB: 32 MiB at most. The rest wait, and mostly find in
/// the cache what another read has brought.
pub(crate) const MAX_MANIFEST_READS: usize = 8;

/// A blob above this many parts is redirected to the store, where redirects are switched on. Below, the round trip to
/// another host costs a client more than the bytes do.
pub(crate) const REDIRECT_ABOVE_PARTS: u64 = 3;

/// Rows of objects that a scrub takes at once: some 200 bytes each.
pub(crate) const SCRUB_OBJECTS_PAGE: usize = 256;

/// Rows of manifests that a scrub takes at once, each with up to 64 KiB of content: 4 MiB.
pub(crate) const SCRUB_MANIFESTS_PAGE: usize = 64;

/// A blob that is held by more repositories is not recounted: the rows of this many are read in a few milliseconds, in
/// which nothing else is held up.
pub(crate) const SCRUB_MAX_RECOUNTED: usize = 10_000;

/// Bytes of an object that a scrub asks for at once, so that a slow pass has no request open for hours.
pub(crate) const SCRUB_READ_BYTES: u64 = 8 << 20;

/// Bytes that the reading of any object counts for at least: a seek of a disk, or two requests to a bucket.
pub(crate) const SCRUB_LEAST_COST: u64 = 64 << 10;

/// Bytes that an object in a listing counts for: a thousand of them are one request to a bucket.
pub(crate) const SCRUB_LISTED_COST: u64 = 256;

/// How often a scrub tries again to list, to confirm or to commit something, ...
pub(crate) const SCRUB_RETRIES: usize = 5;

/// ... after so long each time: half a minute together, above the start of a store. Short in this crate's tests, which
/// wait it out.
pub(crate) const SCRUB_RETRY_PAUSE: Duration =
    if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(6) };

/// Contents in a row that the store fails to read, after which it is the store: the pass ends.
pub(crate) const SCRUB_MAX_UNREADABLE: u32 = 10;
