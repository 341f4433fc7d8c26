//! The bounds of this crate, each with its derivation.

use std::time::Duration;

/// Between two lines of a feed at most: home says so often how far it is, so that a mirror knows its lag to the second.
pub const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The longest line that is read. One holds `MAX_PAGE_BYTES` of manifests, written as JSON at most twice as long, and
/// the names around them.
pub const MAX_LINE_BYTES: usize = 4 << 20;

/// Changes in a line at most: one entry of the mirror's log publishes as many.
pub(crate) const MAX_PAGE_CHANGES: usize = 256;

/// Bytes of manifests in a line, about: a quarter of the longest entry of the log.
pub(crate) const MAX_PAGE_BYTES: usize = 1 << 20;

/// How often home is asked for the size of a blob that a manifest names, or what refers to a manifest, before it is gone on
/// without: what is damaged there, or not served, must not hold up all that comes behind it.
pub(crate) const SIZE_ATTEMPTS: u32 = 4;

/// Bytes that one change brings with it at most, where a filter follows what it refers to: with a page before it, less than
/// the longest entry of the log. Beyond, a comparison takes it in, page by page.
pub(crate) const MAX_CHOSEN_BYTES: usize = 2 << 20;

/// What a change takes in the log besides its manifest and tags, at most: a repository's name and a digest.
pub(crate) const CHANGE_BYTES: usize = 512;

/// A home of which nothing is heard for so long is away: three lines that did not come. What a mirror has been told and
/// cannot stream is not shown any more.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// How long an answer of home may take to begin: two round trips around the earth, a handshake, and a lost packet.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// The pause after home did not answer, doubled each time from this ...
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// ... up to this, so that a home that is back is found within seconds.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often it is looked whether this replica leads, and whether something is to be done that nobody has told of.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Changes that may wait in the inbox. A manifest is some 2 KiB, so these are 40 MiB of facts; 1.3 GB if each were as large
/// as fits into the facts. Beyond, the feed is not read on; home keeps 100,000 changes.
#[cfg(not(test))]
pub(crate) const MAX_WAITING: u64 = 20_000;
#[cfg(test)]
pub(crate) const MAX_WAITING: u64 = 100;

/// A mirror that is no further behind than this may have home hand over to it: what is missing comes in seconds, for which
/// nobody can push. A line of the feed ...
pub(crate) const NEAR_CHANGES: u64 = 256;

/// ... and five seconds of a link of 100 Mb/s.
pub(crate) const NEAR_BYTES: u64 = 64 << 20;

/// How long a handover waits until the mirror is near, while home goes on taking pushes.
pub(crate) const NEAR_PATIENCE: Duration = Duration::from_secs(30);

/// How long it waits for what is missing, while nobody takes pushes.
pub(crate) const CATCH_UP_PATIENCE: Duration = Duration::from_mins(1);

/// Manifests that are listed as not whole before a promotion.
pub const MAX_NOT_WHOLE: usize = 100;

/// How deep indexes are followed that list others: clients read one.
pub(crate) const MAX_CHOSEN_DEPTH: u32 = 4;

/// Changes of a repository's inbox that are looked at for what they lack: a few milliseconds.
pub(crate) const MAX_WAITING_LOOKED_AT: usize = 256;

/// Images that are remembered which an index lists and home does not have: some 500 KiB.
pub(crate) const MAX_LACKED: usize = 10_000;

/// Repositories that are looked at in one turn.
pub(crate) const MAX_LOOKED_AT: usize = 1_000;

/// The longest pause after which a blob that did not come is tried again: short, since others wait behind it.
pub(crate) const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Turns that are looked at to find a blob that has not failed.
pub(crate) const MAX_WANTED_TURNS: usize = 16;

/// Repositories that are resolved at once: one whose manifest does not come within [`ANSWER_PATIENCE`] holds up few others.
pub(crate) const RESOLVED_AT_ONCE: usize = 8;

/// The longest pause after which a manifest that was not to be had is asked for again.
pub(crate) const LONGEST_RESOLVE_PAUSE: Duration = Duration::from_mins(1);

/// What failed for so long while home is there is not mended by asking again.
pub(crate) const STUCK_AFTER: Duration = Duration::from_mins(1);

/// What is stuck is noted again each time it fails, which is at least this often.
pub(crate) const STUCK_NOTED: Duration = Duration::from_secs(90);

/// The most bytes that one request asks home for. With [`FIRST_STREAMS`] at once, more is on its way than a link of 1 Gb/s
/// holds in a round trip of 150 ms (19 MB): so the round trip between two requests of a connection costs nothing. What is
/// on its way is also what a restart brings again.
pub(crate) const CHUNK_BYTES: u64 = 4 << 20;

/// The fewest: what a link of 4 Mb/s carries in half a second. A blob is accounted for in pieces of this size, 16 bytes for
/// each of them, so 5 MB for the largest that there are.
pub(crate) const PIECE_BYTES: u64 = 256 << 10;

/// What the first requests ask for, when nothing is known of the link yet.
pub(crate) const FIRST_REQUEST_BYTES: u64 = 1 << 20;

/// A request asks for what its connection brings in this time: a pull waits for no more than what is on its way.
pub(crate) const REQUEST_TIME: Duration = Duration::from_millis(500);

/// How long a rate is measured.
pub(crate) const MEASURED_TIME: Duration = Duration::from_millis(500);

/// Connections that bring one blob at once, before it is known what they bring: one alone is held back by its window and
/// by each lost packet.
pub(crate) const FIRST_STREAMS: usize = 6;

/// The fewest: while one waits for its next answer, the other one brings.
pub(crate) const MIN_STREAMS: usize = 2;

/// The most.
pub(crate) const STREAMS_PER_BLOB: usize = 12;

/// Measurements between two attempts with another number of connections: ten seconds.
pub(crate) const STREAMS_HELD: u32 = 20;

/// Connections of one blob besides, that bring what pulls wait for and nothing else.
pub(crate) const DEMAND_STREAMS: usize = 2;

/// How far ahead of a pull is brought before anything else: as much as is on its way at most.
pub(crate) const AHEAD_BYTES: u64 = FIRST_STREAMS as u64 * CHUNK_BYTES;

/// Places of one blob at which pulls wait, of which is known: whoever waits at others is noticed a moment later.
pub(crate) const MAX_DEMANDED: usize = 256;

/// Whatever else is on its way when a pull has waited for so long is given up for it (claim 16).
pub(crate) const DEMAND_PATIENCE: Duration = Duration::from_millis(600);

/// A pull for which nothing has come for so long holds nothing up any more: what it waits for may be broken at home.
pub(crate) const DEMAND_HELD: Duration = Duration::from_secs(4);

/// Outside of the windows of a calendar, a large blob that no pull has read for so long is given up until the next one, and
/// goes on then where it is: longer than from finding a blob to reading it.
pub(crate) const PUT_OFF_AFTER: Duration = Duration::from_secs(10);

/// How long it is waited for the end of an answer of which all bytes have come: it comes with the last of them.
pub(crate) const END_PATIENCE: Duration = Duration::from_millis(100);

/// Blobs of at most this size are small: they go before larger ones.
pub(crate) const SMALL_BYTES: u64 = 2 * CHUNK_BYTES;

/// Small blobs that are moved at once, the smallest of a turn first.
pub(crate) const SMALL_MOVERS: usize = 8;

/// Large blobs that are moved at once, the oldest of a turn first.
pub(crate) const LARGE_MOVERS: usize = 2;

/// Sizes of blobs that are remembered where another one was announced: some 50 KiB.
pub(crate) const MAX_SIZES: usize = 1_000;

/// Questions of mirrors that a mirror passes on to its home at once: hundreds a second over the longest way.
pub(crate) const MAX_PASSED_ON: usize = 64;

/// Blobs that are on their way at once, for pulls and for those who move them: some connections each. More wait.
pub(crate) const MAX_FETCHES: usize = 64;

/// Wanted blobs that are looked at in one turn.
pub(crate) const MAX_WANTED_LOOKED_AT: usize = 4_096;

/// What the bucket of a capped link holds, in time: as long as nothing comes because every connection waits for its next
/// answer is made up for. In ten seconds that is no more than 2 % above the cap.
pub(crate) const BUCKET_TIME: Duration = Duration::from_millis(200);

/// Bulk waits so long after a pull was served: longer than a pull takes from one piece to the next.
pub(crate) const DEMAND_MOMENT: Duration = Duration::from_millis(200);

/// Bytes that a reader of a spool takes at once.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// Bytes that a reader takes at once of what is kept of a blob that is not whole yet: it may become whole meanwhile, after
/// which they are elsewhere.
pub(crate) const KEPT_BYTES: u64 = 8 << 20;

/// How often it is looked whether more is kept of such a blob, for a pull that waits.
pub(crate) const KEPT_LOOK: Duration = Duration::from_millis(50);

/// Pieces of an answer that are written to the spool together, if they are there.
pub(crate) const PIECES_AT_ONCE: usize = 16;

/// How often a stretch of a blob is asked for again that broke off, without a byte in between.
pub(crate) const MAX_ATTEMPTS: u32 = 8;

/// A blob that could not be brought is tried again after so long, and so is a manifest that is damaged here.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Uploads that a mirror is told of at once: some 200 bytes each, in each line that tells of them.
pub(crate) const MAX_SHOWN_UPLOADS: usize = 16;

/// Sessions that are looked at for them, those that were changed last: a large one is changed several times a second, so
/// it is among them where hundreds of others come and go in that time.
pub(crate) const UPLOADS_LOOKED_AT: usize = 64;

/// An upload of which nothing came for so long gives way to others: its client is gone, and begins another one if it comes
/// back. Sessions stay for a day.
pub(crate) const SHOWN_IDLE: Duration = Duration::from_mins(10);

/// Between two looks at sessions, for each mirror: so much later it hears of a part, and a look takes half a millisecond.
pub(crate) const SHOWN_LOOK: Duration = Duration::from_millis(50);

/// Uploads of home of which something is kept here at once, and bytes of all of them together: what a link of 1 Gb/s
/// carries in two minutes. What is not fetched ahead comes when it is a blob.
pub(crate) const MAX_AHEAD: usize = MAX_SHOWN_UPLOADS;
#[cfg(not(test))]
pub(crate) const MAX_AHEAD_BYTES: u64 = 16 << 30;
#[cfg(test)]
pub(crate) const MAX_AHEAD_BYTES: u64 = 24 << 20;

/// Uploads for which something is on its way at once, as for large blobs.
pub(crate) const AHEAD_MOVERS: usize = LARGE_MOVERS;

/// Whole parts that are laid out to be asked for together: a blob that is closed meanwhile waits for them.
pub(crate) const AHEAD_PARTS: u64 = 4;

/// Whole parts that come in one go, the next ones asked for while those before are on their way. Then over how many
/// connections is looked at anew, and others have a turn.
pub(crate) const AHEAD_RUN: u64 = 32;

/// Connections over which an upload comes ahead at most: as many as the link fills in [`REQUEST_TIME`]. It comes as fast as a
/// client sends it, so that whether more would bring more does not show; but the sooner a part is here, the less is left when
/// the last one is sent.
pub(crate) const AHEAD_STREAMS: usize = STREAMS_PER_BLOB;

/// How long one go waits for more: a part of a client that sends 34 Mb/s. Where another upload waits, it does not.
pub(crate) const AHEAD_LINGER: Duration = Duration::from_secs(2);

/// The most bytes that one request asks for of an upload. They are put in order in memory, as many as there are
/// connections: 24 MiB, with [`AHEAD_MOVERS`] twice that.
pub(crate) const AHEAD_REQUEST_BYTES: u64 = 2 << 20;

/// A pull of the beginning of a blob of which only the end is missing waits so long for that end, rather than for all of it
/// to be sent once more: less than [`DEMAND_HELD`], for which it holds up others.
pub(crate) const AHEAD_AWAITED: Duration = Duration::from_secs(3);

/// Stretches of an upload that fail one after the other before the rest of it is left to come as a blob.
pub(crate) const AHEAD_ATTEMPTS: u32 = 8;

/// What has come of an upload that has become a blob is kept so long for it: it waits behind others.
pub(crate) const AHEAD_KEPT: Duration = Duration::from_mins(10);

/// Bytes of a snapshot that are written to the disk, or read from there, together.
pub(crate) const SPOOLED_BYTES: usize = 1 << 20;

/// How often a manifest is asked for while comparing, with growing pauses: some 15 s in all.
pub(crate) const COMPARED_ATTEMPTS: u32 = 6;

/// Blobs that home is asked about at once: as many names as go into 80 KiB.
pub const MAX_CLAIMED: usize = 1_000;

/// Blobs of one manifest that are sent home at once, over a connection each.
pub(crate) const SHIPS_AT_ONCE: usize = 4;

/// How long a push waits for a home that does not answer, before it is told so: longer than an election there.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a push waits for a home that is not heard of at the moment: as long as for a leader of its own.
pub(crate) const AWAY_PATIENCE: Duration = Duration::from_secs(5);

/// A blob on its way home of which nothing was taken for so long is stuck: what a socket holds goes over a link of 1 Mb/s
/// in this time.
pub(crate) const SHIP_STALL: Duration = Duration::from_secs(30);

/// How long a push waits until this mirror shows what home has committed: the feed brings it in a round trip.
pub(crate) const SHOWN_PATIENCE: Duration = Duration::from_secs(10);

/// How long a push waits besides until listings show it too: its blobs are here, unless they came from home.
pub(crate) const LISTED_PATIENCE: Duration = Duration::from_secs(1);

/// Repositories, blobs, manifests or tags in a line of a snapshot: as many as a page of the facts.
pub(crate) const SNAPSHOT_PAGE: usize = 256;
