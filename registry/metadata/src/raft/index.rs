//! What the log holds, in memory: where each entry is on disk, and the newest entries themselves.
//!
//! It is ahead of the files by what is queued for the writer; an entry stays in memory at least until it is written.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use super::config::{Entry, LogId, Vote};
use super::records::{EntryRecord, IdRecord, SegmentRecord, VoteRecord};
use super::segment::{FRAME_HEADER, Frame, Kind, write_frame};
use crate::encoding::{DecodeError, decode, encode};

/// A place in the log's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u32,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) id: LogId,
    /// Of the payload.
    pub(super) place: Place,
    pub(super) length: u32,
}

/// Bytes for the writer, in frames.
#[derive(Default)]
pub(super) struct Frames {
    /// They begin this segment.
    pub(super) begins: Option<u64>,
    pub(super) bytes: Vec<u8>,
    /// Where they end.
    pub(super) end: Place,
}

/// A file of the log.
struct Segment {
    sequence: u64,
    /// The highest entry that was ever written to it.
    last: Option<u64>,
    bytes: u32,
}

/// How much of the log is in one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Entries in memory. Those that are not written yet are there anyhow.
    pub(super) cache_bytes: usize,
    /// The size at which a file is ended.
    pub(super) segment_bytes: u32,
}

/// What the log holds.
pub(super) struct Index {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    committed: Option<LogId>,
    /// The files do not say how far it is committed; the next frames will.
    committed_unwritten: bool,
    /// Consecutive.
    slots: VecDeque<Slot>,
    /// The entries of the last slots, as many as there are here.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    limits: Limits,
    segments: VecDeque<Segment>,
    /// The files begin behind this entry, and none that was read yet says that it was purged.
    missing: Option<LogId>,
    /// Up to here the files are written.
    written: Place,
    /// Up to here they are on disk.
    durable: Place,
}

impl Index {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            vote: None,
            purged: None,
            committed: None,
            committed_unwritten: false,
            slots: VecDeque::new(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            limits,
            segments: VecDeque::new(),
            missing: None,
            written: Place::default(),
            durable: Place::default(),
        }
    }

    /// The newest entry, or where the next one follows.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).max(self.purged)
    }

    /// The size of the files, as soon as they are written.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.bytes)).sum()
    }

    /// Where frames begin that are written next; a full segment is followed by a new one.
    pub(super) fn begin(&mut self) -> Frames {
        let mut frames = Frames::default();
        if self.segments.back().is_none_or(|segment| segment.bytes >= self.limits.segment_bytes) {
            let sequence = self.segments.back().map_or(1, |segment| segment.sequence + 1);
            self.segments.push_back(Segment { sequence, last: None, bytes: 0 });
            frames.begins = Some(sequence);
            let state = SegmentRecord {
                vote: self.vote.map(Into::into),
                committed: self.committed.map(Into::into),
                purged: self.purged.map(Into::into),
                last: self.last().map(Into::into),
            };
            self.write(&mut frames, Kind::Segment, &encode(&state));
        } else if let Some(committed) = self.committed.filter(|_| self.committed_unwritten) {
            self.write(&mut frames, Kind::Committed, &encode(&IdRecord::from(committed)));
        }
        self.committed_unwritten = false;
        frames
    }

    /// How far the log is known to be committed.
    pub(super) fn committed(&self) -> Option<LogId> {
        self.committed
    }

    /// Notes how far the log is committed; it goes to disk with whatever is written next.
    pub(super) fn commit(&mut self, committed: LogId) {
        self.committed = Some(committed);
        self.committed_unwritten = true;
    }

    /// Whether the files are behind.
    pub(super) fn is_unwritten(&self) -> bool {
        self.committed_unwritten
    }

    /// Appends an entry behind the last.
    pub(super) fn append(&mut self, entry: Entry, frames: &mut Frames) -> io::Result<()> {
        let id = entry.log_id;
        if self.last().is_some_and(|last| id.index != last.index + 1) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{id} does not follow {:?}", self.last())));
        }
        let payload = encode(&EntryRecord::from(&entry));
        let (place, length) = self.write(frames, Kind::Entry, &payload);
        self.push(Slot { id, place, length }, entry);
        Ok(())
    }

    /// Records for whom this replica votes.
    pub(super) fn vote(&mut self, vote: Vote, frames: &mut Frames) {
        self.vote = Some(vote);
        self.write(frames, Kind::Vote, &encode(&VoteRecord::from(vote)));
    }

    /// Drops the entries behind `last`.
    pub(super) fn truncate(&mut self, last: Option<LogId>, frames: &mut Frames) {
        self.drop_after(last);
        self.write(frames, Kind::Truncated, &encode(&last.map(IdRecord::from)));
    }

    /// Drops the entries up to `purged`; answers with the segments that nothing is left of.
    pub(super) fn purge(&mut self, purged: LogId, frames: &mut Frames) -> Vec<u64> {
        self.drop_up_to(purged);
        self.write(frames, Kind::Purged, &encode(&IdRecord::from(purged)));
        self.take_purged_segments()
    }

    /// The writer has written up to here.
    pub(super) fn written(&mut self, place: Place) {
        self.written = place;
        self.evict();
    }

    /// The writer has synced up to here.
    pub(super) fn durable(&mut self, place: Place) {
        self.durable = place;
    }

    /// The entries of a range: first those that must be read from the files, then those that are here. Stops behind
    /// `limit` bytes, but not before the first entry.
    pub(super) fn find(&self, range: Range<u64>, limit: usize) -> (Vec<Slot>, Vec<Entry>) {
        let Some(first) = self.slots.front().map(|slot| slot.id.index) else { return Default::default() };
        let position = |index: u64| usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX);
        let end = position(range.end).min(self.slots.len());
        let start = position(range.start).min(end);
        let mut bytes: usize = 0;
        let fits = self.slots.range(start..end).take_while(|slot| {
            let fits = bytes == 0 || bytes < limit;
            bytes = bytes.saturating_add(slot.length as usize);
            fits
        });
        let end = start + fits.count();
        let cached_from = self.slots.len() - self.cache.len();
        let stored = self.slots.range(start..end.min(cached_from).max(start)).copied().collect();
        let cached = self.cache.range(start.max(cached_from) - cached_from..end.max(cached_from) - cached_from);
        (stored, cached.cloned().collect())
    }

    /// Takes in a segment's frame when the log is opened.
    pub(super) fn replay(&mut self, frame: &Frame, sequence: u64) -> Result<(), String> {
        let bytes = frame.offset + u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
        let place = Place { segment: sequence, offset: frame.offset };
        let text = |error: DecodeError| error.to_string();
        match (frame.kind, self.segments.back_mut().filter(|segment| segment.sequence == sequence)) {
            (Kind::Segment, None) => {
                let state = decode(&frame.payload).map_err(text)?;
                self.replay_segment(&state)?;
                self.segments.push_back(Segment { sequence, last: None, bytes });
                return Ok(());
            }
            (Kind::Segment, Some(_)) | (_, None) => return Err("it does not begin with the log's state".to_owned()),
            (_, Some(segment)) => segment.bytes = bytes,
        }
        match frame.kind {
            Kind::Segment => {}
            Kind::Entry => {
                let length = bytes - frame.offset;
                let record: EntryRecord = decode(&frame.payload).map_err(text)?;
                let entry = record.entry()?;
                let id = entry.log_id;
                if self.last().is_some_and(|last| id.index != last.index + 1) {
                    return Err(format!("entry {id} does not follow {:?}", self.last()));
                }
                self.push(Slot { id, place, length }, entry);
                self.written(Place { segment: sequence, offset: bytes });
            }
            Kind::Vote => self.vote = Some(decode::<VoteRecord>(&frame.payload).map_err(text)?.into()),
            Kind::Committed => self.committed = Some(decode::<IdRecord>(&frame.payload).map_err(text)?.into()),
            Kind::Truncated => {
                let last: Option<IdRecord> = decode(&frame.payload).map_err(text)?;
                self.drop_after(last.map(Into::into));
            }
            Kind::Purged => {
                let purged = decode::<IdRecord>(&frame.payload).map_err(text)?.into();
                self.missing = self.missing.filter(|missing| *missing > purged);
                self.drop_up_to(purged);
            }
        }
        Ok(())
    }

    /// Whether files are missing in front: they are deleted only when all of their entries are purged.
    pub(super) fn is_missing_files(&self) -> bool {
        self.missing.is_some()
    }

    /// The segments that nothing is left of, if a crash came before their files were deleted.
    pub(super) fn take_purged_segments(&mut self) -> Vec<u64> {
        let purged = self.purged.map(|purged| purged.index);
        let mut sequences = Vec::new();
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.last <= purged) {
            sequences.extend(self.segments.pop_front().map(|segment| segment.sequence));
        }
        sequences
    }

    fn replay_segment(&mut self, state: &SegmentRecord) -> Result<(), String> {
        let last = state.last.map(LogId::from);
        if self.segments.is_empty() {
            self.purged = last;
            self.missing = last.filter(|_| state.purged.map(LogId::from) < last);
        } else if self.last() != last {
            return Err(format!("it should follow entry {last:?}, and entry {:?} is before it", self.last()));
        }
        self.vote = state.vote.map(Into::into);
        self.committed = state.committed.map(Into::into);
        Ok(())
    }

    fn write(&mut self, frames: &mut Frames, kind: Kind, payload: &[u8]) -> (Place, u32) {
        let Some(segment) = self.segments.back_mut() else { unreachable!("`begin` has begun a segment") };
        let durable = if self.durable.segment == segment.sequence { self.durable.offset } else { 0 };
        let before = frames.bytes.len();
        write_frame(&mut frames.bytes, kind, durable, payload);
        let place = Place { segment: segment.sequence, offset: segment.bytes + FRAME_HEADER };
        segment.bytes += u32::try_from(frames.bytes.len() - before).unwrap_or(u32::MAX);
        frames.end = Place { segment: segment.sequence, offset: segment.bytes };
        (place, frames.end.offset - place.offset)
    }

    fn push(&mut self, slot: Slot, entry: Entry) {
        if let Some(segment) = self.segments.back_mut() {
            segment.last = segment.last.max(Some(slot.id.index));
        }
        self.slots.push_back(slot);
        self.cache.push_back(entry);
        self.cache_bytes += slot.length as usize;
    }

    fn drop_after(&mut self, last: Option<LogId>) {
        while let Some(slot) = self.slots.pop_back_if(|slot| last.is_none_or(|last| slot.id.index > last.index)) {
            if self.cache.pop_back().is_some() {
                self.cache_bytes -= slot.length as usize;
            }
        }
    }

    fn drop_up_to(&mut self, purged: LogId) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.id.index <= purged.index) {
            if self.cache.len() > self.slots.len() {
                self.cache.pop_front();
                self.cache_bytes -= slot.length as usize;
            }
        }
        self.purged = self.purged.max(Some(purged));
    }

    fn evict(&mut self) {
        while self.cache_bytes > self.limits.cache_bytes {
            let Some(slot) = self.slots.get(self.slots.len() - self.cache.len()) else { return };
            if slot.place >= self.written {
                return;
            }
            self.cache.pop_front();
            self.cache_bytes -= slot.length as usize;
        }
    }
}
