//! Every key of the state.
//!
//! One ordered table holds everything. A key is `shard (u16) | region (u8) | parts...`, big-endian, so that the rows of
//! a region lie together, ordered by their parts, and a page of a listing is one short scan. The shard is 0 today: one
//! Raft group has it all; the bytes are there for many groups later.
//!
//! Each [`Region`] below names the types of its key's parts and of its value, so that a row can be read and written as
//! nothing else. Numbers are persisted: never reuse one.

use std::marker::PhantomData;
use std::ops::Bound;

use roadstead_oci::{Algorithm, Digest, ObjectKey, RepositoryName, Tag, UploadId};

use super::rows::{
    AnnouncedRow, AnnouncedTagRow, AsideRow, ChangeRow, CursorRow, DedupRow, Head, InboxRow, KeyRow, ManifestRow,
    MembershipRow, MirrorRow, ObjectRow, PartRow, ReferrerRow, RegionRow, RepositoryRow, UploadRow, WantedRow,
};
use crate::{Arrival, ClusterId, CommandId, History, Level, LogTime, NoteRemote, Position, RegionEpoch, VolumeId};

/// The counters and clocks of the whole state.
pub(crate) const HEAD: Region<(), Head> = Region::new(0x01);
/// What the consensus keeps beside the facts, in the same transaction: how far the log is applied, and the members.
pub(crate) const CONSENSUS: Region<(), Vec<u8>> = Region::new(0x02);
/// Which history this is.
pub(crate) const HISTORY: Region<(), History> = Region::new(0x03);

/// Which cluster's facts these are, where that is not the one that the replica was taken into: its survivor went on alone.
pub(crate) const CLUSTER: Region<(), ClusterId> = Region::new(0x04);

/// The level in force, above the first.
pub(crate) const LEVEL: Region<(), Level> = Region::new(0x05);

/// Which region is home, where that is not the first one.
pub(crate) const REGION: Region<(), RegionRow> = Region::new(0x06);

/// The handover that was begun and has not ended: the epoch that it is to.
pub(crate) const HANDOVER: Region<(), RegionEpoch> = Region::new(0x07);

/// Repositories that hold anything.
pub(crate) const REPOSITORIES: Region<RepositoryName, RepositoryRow> = Region::new(0x10);
/// What tags point at.
pub(crate) const TAGS: Region<(RepositoryName, Tag), Digest> = Region::new(0x11);
/// The other way round: the tags of a manifest.
pub(crate) const TAGS_OF: Region<(RepositoryName, Digest, Tag), ()> = Region::new(0x12);
/// Manifests.
pub(crate) const MANIFESTS: Region<(RepositoryName, Digest), ManifestRow> = Region::new(0x13);
/// By subject, the manifests that refer to it.
pub(crate) const REFERRERS: Region<(RepositoryName, Digest, Digest), ReferrerRow> = Region::new(0x14);

/// Manifests that are set aside since their bytes are damaged or missing: in here instead of among the others.
pub(crate) const QUARANTINED_MANIFESTS: Region<(RepositoryName, Digest), ManifestRow> = Region::new(0x15);

/// Which repository holds which blob, or has manifests that name it.
pub(crate) const MEMBERSHIPS: Region<(RepositoryName, Digest), MembershipRow> = Region::new(0x20);
/// The other way round: the repositories that hold a blob.
pub(crate) const HOLDERS: Region<(Digest, RepositoryName), ()> = Region::new(0x21);
/// The one object of each blob.
pub(crate) const OBJECTS: Region<Digest, ObjectRow> = Region::new(0x22);
/// Blobs that a repository holds and none of its manifests names, by the beginning of their lease.
pub(crate) const UNNAMED: Region<(LogTime, RepositoryName, Digest), ()> = Region::new(0x24);
/// Blobs that no repository holds, by the time since when.
pub(crate) const UNREFERENCED: Region<(LogTime, Digest), ()> = Region::new(0x23);

/// The objects of blobs that are set aside likewise.
pub(crate) const QUARANTINED_OBJECTS: Region<Digest, ObjectRow> = Region::new(0x25);

/// Keys of objects.
pub(crate) const KEYS: Region<ObjectKey, KeyRow> = Region::new(0x30);
/// Reserved keys that nothing holds or links, by age.
pub(crate) const RESERVED: Region<(LogTime, ObjectKey), ()> = Region::new(0x31);
/// Condemned keys, by age.
pub(crate) const CONDEMNED: Region<(LogTime, ObjectKey), ()> = Region::new(0x32);
/// Retired keys, by age.
pub(crate) const RETIRED: Region<(LogTime, ObjectKey), ()> = Region::new(0x33);

/// Upload sessions, finished ones included.
pub(crate) const UPLOADS: Region<UploadId, UploadRow> = Region::new(0x40);
/// Their parts by number: rows of their own, so that a checkpoint of a session with thousands writes only the new ones.
pub(crate) const PARTS: Region<(UploadId, u32), PartRow> = Region::new(0x41);
/// Parts that closing requests have written, for mirrors: no parts of the session before it is completed.
pub(crate) const SHOWN_PARTS: Region<(UploadId, u32), PartRow> = Region::new(0x43);
/// Sessions by their last change.
pub(crate) const UPLOADS_BY_AGE: Region<(LogTime, UploadId), ()> = Region::new(0x42);

/// The change feed.
pub(crate) const CHANGES: Region<Position, ChangeRow> = Region::new(0x50);

/// The results of the commands that were applied lately.
pub(crate) const DEDUP: Region<CommandId, DedupRow> = Region::new(0x60);
/// The same by age.
pub(crate) const DEDUP_BY_AGE: Region<(LogTime, CommandId), ()> = Region::new(0x61);

/// The node id of each volume. Rows stay when a node is removed, so that no id is given twice.
pub(crate) const NODES: Region<VolumeId, u64> = Region::new(0x70);
/// The highest node id that was given.
pub(crate) const LAST_NODE: Region<(), u64> = Region::new(0x71);
/// What the build of each node reads, above the first level.
pub(crate) const READS: Region<u64, Level> = Region::new(0x72);

/// How far a mirror has received its home's feed.
pub(crate) const CURSOR: Region<(), CursorRow> = Region::new(0x80);
/// What it has received of each repository and not published yet, in home's order.
pub(crate) const INBOX: Region<(RepositoryName, Arrival), InboxRow> = Region::new(0x81);
/// The other way round: which repository a change that waits is of, the oldest first.
pub(crate) const INBOX_BY_AGE: Region<Arrival, RepositoryName> = Region::new(0x82);
/// Blobs that repositories hold at home and not here yet.
pub(crate) const WANTED: Region<(Digest, RepositoryName), WantedRow> = Region::new(0x83);
/// What tags will point at once the inbox is published.
pub(crate) const ANNOUNCED_TAGS: Region<(RepositoryName, Tag), AnnouncedTagRow> = Region::new(0x84);
/// Which manifests there will be.
pub(crate) const ANNOUNCED_MANIFESTS: Region<(RepositoryName, Digest), AnnouncedRow> = Region::new(0x85);
/// Tags that pointed at home at a manifest which was gone before it could be received: they stay what they are until the
/// feed comes to where they, or it, went.
pub(crate) const PASSED_OVER: Region<(RepositoryName, Tag), Digest> = Region::new(0x86);
/// Blobs that clients have given to repositories of a mirror, and that home is not known to hold in them: since when.
pub(crate) const LANDED: Region<(RepositoryName, Digest), LogTime> = Region::new(0x87);
/// The same by age.
pub(crate) const LANDED_BY_AGE: Region<(LogTime, RepositoryName, Digest), ()> = Region::new(0x88);
/// What the filter hashes to by which a mirror has chosen what it follows, if it has one.
pub(crate) const FILTER: Region<(), Digest> = Region::new(0x92);

/// What a home that was fenced had acknowledged and its successor did not have.
pub(crate) const ASIDE: Region<Position, AsideRow> = Region::new(0x8a);
/// Blobs that those name, which are not collected.
pub(crate) const PINS: Region<(Digest, Position), ()> = Region::new(0x8b);
/// Objects of manifests among those, which stay when the manifests go.
pub(crate) const ASIDE_KEYS: Region<(ObjectKey, Position), ()> = Region::new(0x8c);
/// Up to which change of its own feed they have been kept aside.
pub(crate) const ASIDE_UP_TO: Region<(), Position> = Region::new(0x8d);

/// Who may follow this registry, by the hash of their token.
pub(crate) const MIRRORS: Region<Digest, MirrorRow> = Region::new(0x90);
/// How far they are, by the hash of their name.
pub(crate) const REMOTES: Region<Digest, NoteRemote> = Region::new(0x91);
/// Those of them who may also write.
pub(crate) const WRITERS: Region<Digest, ()> = Region::new(0x89);

/// The shard in front of every key.
const SHARD: u16 = 0;

/// Rows of one kind: keys made of `K`, values `V`.
pub(crate) struct Region<K, V> {
    number: u8,
    kind: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Region<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Region<K, V> {}

impl<K: Parts, V> Region<K, V> {
    const fn new(number: u8) -> Self {
        Self { number, kind: PhantomData }
    }

    /// Its number, by which errors name it.
    pub(crate) const fn number(self) -> u8 {
        self.number
    }

    /// The key of a row.
    pub(crate) fn key(self, parts: K::Ref<'_>) -> Vec<u8> {
        let mut key = self.start();
        K::write(parts, &mut key);
        key
    }

    /// The parts of a key that [`Region::key`] made.
    pub(crate) fn parts(self, key: &[u8]) -> Option<K> {
        let mut rest = key.strip_prefix(&self.start()[..])?;
        let parts = K::read(&mut rest)?;
        rest.is_empty().then_some(parts)
    }

    /// All rows.
    pub(crate) fn all(self) -> Span {
        Span::of_prefix(self.start())
    }

    /// The rows whose keys begin with `parts`.
    pub(crate) fn within<P: PrefixOf<K>>(self, parts: P::Ref<'_>) -> Span {
        let mut prefix = self.start();
        P::write(parts, &mut prefix);
        Span::of_prefix(prefix)
    }

    /// Where the rows begin whose keys begin with `part`, or would.
    pub(crate) fn start_at<P: Part + PrefixOf<K>>(self, part: &P) -> Vec<u8> {
        let mut key = self.start();
        Part::write(part, &mut key);
        key
    }

    fn start(self) -> Vec<u8> {
        // Most keys are a digest, a name and a few bytes: no second allocation.
        let mut key = Vec::with_capacity(128);
        key.extend_from_slice(&SHARD.to_be_bytes());
        key.push(self.number);
        key
    }
}

/// A stretch of keys in order.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Where it begins.
    pub(crate) start: Bound<Vec<u8>>,
    /// Its first key beyond.
    pub(crate) end: Vec<u8>,
}

impl Span {
    fn of_prefix(prefix: Vec<u8>) -> Self {
        let mut end = prefix.clone();
        // A region's number is never 0xff, so there is always a byte to raise.
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self { start: Bound::Included(prefix), end }
    }

    /// Whether there can be no key in it.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.start {
            Bound::Included(start) | Bound::Excluded(start) => *start >= self.end,
            Bound::Unbounded => false,
        }
    }

    /// Only what comes behind `key`.
    pub(crate) fn after(self, key: Vec<u8>) -> Self {
        Self { start: Bound::Excluded(key), ..self }
    }

    /// Only what comes behind the place in this span that a text has as its next part, whether or not it could be one.
    pub(crate) fn after_text(self, text: Option<&str>) -> Self {
        match (self.start, text) {
            (Bound::Included(mut key), Some(text)) => {
                key.extend_from_slice(text.as_bytes());
                key.push(END);
                Self { start: Bound::Excluded(key), end: self.end }
            }
            (start, _) => Self { start, end: self.end },
        }
    }

    /// Only what comes before `key`.
    pub(crate) fn before(self, key: Vec<u8>) -> Self {
        Self { end: key, ..self }
    }
}

/// The parts of a key, in order.
pub(crate) trait Parts: Sized {
    /// How they are handed in to make a key.
    type Ref<'a>: Copy;

    /// Appends them, so that bytes are ordered as parts are.
    fn write(parts: Self::Ref<'_>, key: &mut Vec<u8>);

    /// Takes them off the front.
    fn read(key: &mut &[u8]) -> Option<Self>;
}

/// The first parts of `K`.
pub(crate) trait PrefixOf<K>: Parts {}

impl<A: Part, B: Part> PrefixOf<(A, B)> for A {}
impl<A: Part, B: Part, C: Part> PrefixOf<(A, B, C)> for A {}
impl<A: Part, B: Part, C: Part> PrefixOf<(A, B, C)> for (A, B) {}

impl Parts for () {
    type Ref<'a> = ();

    fn write((): (), _key: &mut Vec<u8>) {}

    fn read(_key: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

impl<A: Part> Parts for A {
    type Ref<'a> = &'a A;

    fn write(part: &A, key: &mut Vec<u8>) {
        Part::write(part, key);
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        <A as Part>::read(key)
    }
}

impl<A: Part, B: Part> Parts for (A, B) {
    type Ref<'a> = (&'a A, &'a B);

    fn write((a, b): (&A, &B), key: &mut Vec<u8>) {
        Part::write(a, key);
        Part::write(b, key);
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some((<A as Part>::read(key)?, <B as Part>::read(key)?))
    }
}

impl<A: Part, B: Part, C: Part> Parts for (A, B, C) {
    type Ref<'a> = (&'a A, &'a B, &'a C);

    fn write((a, b, c): (&A, &B, &C), key: &mut Vec<u8>) {
        Part::write(a, key);
        Part::write(b, key);
        Part::write(c, key);
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some((<A as Part>::read(key)?, <B as Part>::read(key)?, <C as Part>::read(key)?))
    }
}

/// One part of a key: says by itself where it ends, and is ordered by its bytes as by its value.
pub(crate) trait Part: Sized + 'static {
    /// Appends it.
    fn write(&self, key: &mut Vec<u8>);

    /// Takes it off the front.
    fn read(key: &mut &[u8]) -> Option<Self>;
}

/// Ends a text. It sorts before every character of a name, a tag or a key, none of which has it.
const END: u8 = 0;

macro_rules! text_part {
    ($($text:ty),*) => {
        $(impl Part for $text {
            fn write(&self, key: &mut Vec<u8>) {
                key.extend_from_slice(self.as_str().as_bytes());
                key.push(END);
            }

            fn read(key: &mut &[u8]) -> Option<Self> {
                let length = key.iter().position(|byte| *byte == END)?;
                let text = str::from_utf8(key.split_off(..length)?).ok()?;
                key.split_off_first()?;
                text.parse().ok()
            }
        })*
    };
}

text_part!(RepositoryName, Tag, ObjectKey);

impl Part for LogTime {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(take(key)?)))
    }
}

impl Part for Arrival {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(take(key)?)))
    }
}

impl Part for CommandId {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(take(key)?)))
    }
}

impl Part for VolumeId {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(take(key)?)))
    }
}

impl Part for u64 {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.to_be_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(take(key)?))
    }
}

impl Part for u32 {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.to_be_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(take(key)?))
    }
}

impl Part for Position {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.epoch.to_be_bytes());
        key.extend_from_slice(&self.sequence.to_be_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self { epoch: u64::from_be_bytes(take(key)?), sequence: u64::from_be_bytes(take(key)?) })
    }
}

impl Part for UploadId {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(self.as_bytes());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        Some(Self::new(uuid::Uuid::from_bytes(take(key)?)))
    }
}

impl Part for Digest {
    fn write(&self, key: &mut Vec<u8>) {
        key.push(match self.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        });
        key.extend_from_slice(self.hash());
    }

    fn read(key: &mut &[u8]) -> Option<Self> {
        let algorithm = match key.split_off_first()? {
            1 => Algorithm::Sha256,
            2 => Algorithm::Sha512,
            _ => return None,
        };
        Self::from_hash(algorithm, key.split_off(..algorithm.output_len())?).ok()
    }
}

fn take<const N: usize>(key: &mut &[u8]) -> Option<[u8; N]> {
    key.split_off(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;
    use roadstead_oci::{Algorithm, Hasher};

    use super::*;

    const DIGESTS: Region<(Digest, u32), ()> = Region::new(0xf0);
    const TEXTS: Region<(RepositoryName, Tag, ObjectKey), ()> = Region::new(0xf1);
    const NUMBERS: Region<(LogTime, CommandId), ()> = Region::new(0xf2);
    const PLACES: Region<(Position, UploadId), ()> = Region::new(0xf3);

    fn check<K, V>(region: Region<K, V>, one: &(K, Vec<u8>), two: &(K, Vec<u8>)) -> Result<(), TestCaseError>
    where
        K: Parts + Ord + Debug,
    {
        for (parts, key) in [one, two] {
            let read = region.parts(key);
            prop_assert_eq!(read.as_ref(), Some(parts));
            prop_assert_eq!(region.parts(&key[..key.len() - 1]), None);
            prop_assert_eq!(region.parts(&[&key[..], b"x"].concat()), None);
        }
        prop_assert_eq!(one.0.cmp(&two.0), one.1.cmp(&two.1), "keys are ordered as their parts are");
        Ok(())
    }

    fn digest() -> impl Strategy<Value = Digest> {
        (any::<u8>(), any::<bool>()).prop_map(|(content, long)| {
            *Hasher::digest(if long { Algorithm::Sha512 } else { Algorithm::Sha256 }, &[content]).get()
        })
    }

    fn texts() -> impl Strategy<Value = (RepositoryName, Tag, ObjectKey)> {
        ("[a-b]{1,2}([/._-][a-b]{1,2}){0,2}", "[a-b_]{1,2}[.-]{0,2}", any::<u128>()).prop_map(|(name, tag, id)| {
            (name.parse().unwrap(), tag.parse().unwrap(), ObjectKey::blob(uuid::Uuid::from_u128(id)))
        })
    }

    /// So that equal parts are common.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..3_u64, Just(255), Just(256), any::<u64>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn digests_round_trip_in_order(one in (digest(), any::<u32>()), two in (digest(), any::<u32>())) {
            let key = |parts: &(Digest, u32)| DIGESTS.key((&parts.0, &parts.1));
            check(DIGESTS, &(one, key(&one)), &(two, key(&two)))?;
        }

        #[test]
        fn texts_round_trip_in_order(one in texts(), two in texts()) {
            let key = |parts: &(RepositoryName, Tag, ObjectKey)| TEXTS.key((&parts.0, &parts.1, &parts.2));
            let (one_key, two_key) = (key(&one), key(&two));
            check(TEXTS, &(one, one_key), &(two, two_key))?;
        }

        #[test]
        fn numbers_round_trip_in_order(one in (number(), any::<u128>()), two in (number(), any::<u128>())) {
            let parts = |(time, id)| (LogTime(time), CommandId(id));
            let key = |parts: &(LogTime, CommandId)| NUMBERS.key((&parts.0, &parts.1));
            let (one, two) = (parts(one), parts(two));
            check(NUMBERS, &(one, key(&one)), &(two, key(&two)))?;
        }

        #[test]
        fn places_round_trip_in_order(one in (number(), number(), 0..9_u128), two in (number(), number(), 0..9_u128)) {
            let parts = |(epoch, sequence, id)| {
                (Position { epoch, sequence }, UploadId::new(uuid::Uuid::from_u128(id)))
            };
            let key = |parts: &(Position, UploadId)| PLACES.key((&parts.0, &parts.1));
            let (one, two) = (parts(one), parts(two));
            check(PLACES, &(one, key(&one)), &(two, key(&two)))?;
        }

        #[test]
        fn a_prefix_spans_exactly_its_rows(one in texts(), two in texts()) {
            let span = TEXTS.within::<RepositoryName>(&one.0);
            let key = TEXTS.key((&two.0, &two.1, &two.2));
            let Bound::Included(start) = span.start else { unreachable!() };
            prop_assert_eq!(start <= key && key < span.end, one.0 == two.0);
        }
    }

    #[test]
    fn golden_keys() {
        use crate::fixtures::{digest, key, repository, tag, upload};
        let (name, tag, digest, object, upload) = (&repository(1), &tag(1), &digest(1), &key(1), &upload(1));
        let (time, position) = (&LogTime(0x0123_4567), &Position { epoch: 1, sequence: 300 });
        let long = Hasher::digest(Algorithm::Sha512, b"long");
        let long = long.get();
        let id = &CommandId(0x89ab_cdef);
        let keys = [
            ("head", HEAD.key(())),
            ("consensus", CONSENSUS.key(())),
            ("history", HISTORY.key(())),
            ("cluster", CLUSTER.key(())),
            ("level", LEVEL.key(())),
            ("handover", HANDOVER.key(())),
            ("reads", READS.key(&300)),
            ("repository", REPOSITORIES.key(name)),
            ("tag", TAGS.key((name, tag))),
            ("tag-of", TAGS_OF.key((name, digest, tag))),
            ("manifest", MANIFESTS.key((name, digest))),
            ("referrer", REFERRERS.key((name, digest, long))),
            ("quarantined-manifest", QUARANTINED_MANIFESTS.key((name, digest))),
            ("quarantined-object", QUARANTINED_OBJECTS.key(long)),
            ("membership", MEMBERSHIPS.key((name, digest))),
            ("holder", HOLDERS.key((digest, name))),
            ("object", OBJECTS.key(long)),
            ("unreferenced", UNREFERENCED.key((time, digest))),
            ("unnamed", UNNAMED.key((time, name, digest))),
            ("key", KEYS.key(object)),
            ("reserved", RESERVED.key((time, object))),
            ("condemned", CONDEMNED.key((time, object))),
            ("retired", RETIRED.key((time, object))),
            ("upload", UPLOADS.key(upload)),
            ("part", PARTS.key((upload, &300))),
            ("shown-part", SHOWN_PARTS.key((upload, &300))),
            ("upload-by-age", UPLOADS_BY_AGE.key((time, upload))),
            ("change", CHANGES.key(position)),
            ("cursor", CURSOR.key(())),
            ("filter", FILTER.key(())),
            ("inbox", INBOX.key((name, &Arrival(300)))),
            ("inbox-by-age", INBOX_BY_AGE.key(&Arrival(300))),
            ("wanted", WANTED.key((digest, name))),
            ("announced-tag", ANNOUNCED_TAGS.key((name, tag))),
            ("announced-manifest", ANNOUNCED_MANIFESTS.key((name, digest))),
            ("passed-over", PASSED_OVER.key((name, tag))),
            ("landed", LANDED.key((name, digest))),
            ("landed-by-age", LANDED_BY_AGE.key((time, name, digest))),
            ("aside", ASIDE.key(position)),
            ("pin", PINS.key((digest, position))),
            ("aside-key", ASIDE_KEYS.key((object, position))),
            ("aside-up-to", ASIDE_UP_TO.key(())),
            ("mirror", MIRRORS.key(digest)),
            ("writer", WRITERS.key(digest)),
            ("remote", REMOTES.key(digest)),
            ("result", DEDUP.key(id)),
            ("result-by-age", DEDUP_BY_AGE.key((time, id))),
        ];
        crate::golden::check_bytes("key-bytes", &keys);
    }

    #[test]
    fn a_prefix_of_the_highest_bytes_still_ends() {
        let span = NUMBERS.within::<LogTime>(&LogTime(u64::MAX));
        assert!(NUMBERS.key((&LogTime(u64::MAX), &CommandId(u128::MAX))) < span.end);
        assert!(span.end <= PLACES.all().end);
    }
}
