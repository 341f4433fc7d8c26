//! A disk in memory, which forgets at a crash what was not synced: all of it, none, or some.
//!
//! ```text
//! write --> now + pending --sync--> durable              a crash keeps of `pending` what chance says, down to sectors
//! open, rename, remove --> names + renamed --sync_folder--> durable names         ... and of `renamed` a prefix
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roadstead_metadata::{Disk, DiskFile, OpenMode};

use super::process::Process;
use crate::random::Random;
use crate::trace::Trace;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How often a state is synced while it is made, before there is anything in it.
const TRUE_SYNCS: u64 = 3;

/// Which syncs of a disk that lies do nothing: the bugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Those of the log.
    Log,
    /// Those of the state, once it is a file at all: its checkpoints allow the log to be purged.
    State,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// All of it: the process was killed, the machine goes on.
    Process,
    /// None of it.
    PowerLosesAll,
    /// Some of it, in any order and torn.
    PowerTears,
}

/// A replica's disk. It outlives its processes.
pub(crate) struct Volume {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    renamed: Vec<Naming>,
    issued: u64,
    random: Random,
    lie: Option<Lie>,
    /// After so many more writes and syncs the power goes, in the middle of whatever is under way.
    power_left: Option<u32>,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    syncs: u64,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

enum Naming {
    Name(PathBuf, u64),
    Remove(PathBuf),
}

impl Naming {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Name(path, file) => names.insert(path, file),
            Self::Remove(path) => names.remove(&path),
        };
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(content, *offset, bytes),
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Volume {
    pub(crate) fn blank(random: Random, lie: Option<Lie>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renamed: Vec::new(),
            issued: 0,
            random,
            lie,
            power_left: None,
        }))
    }

    /// The power goes after so many writes and syncs.
    pub(crate) fn lose_power_after(&mut self, operations: u32) {
        self.power_left = Some(operations);
    }

    /// The power stays.
    pub(crate) fn keep_power(&mut self) {
        self.power_left = None;
    }

    /// Whether the power has gone by itself.
    pub(crate) fn has_lost_power(&self) -> bool {
        self.power_left == Some(0)
    }

    /// Becomes what the next process finds.
    pub(crate) fn crash(&mut self, crash: Crash) {
        self.power_left = None;
        // Of a state of which nothing was ever synced, some is nothing that could be opened.
        let crash = if self.lie == Some(Lie::State) { Crash::PowerLosesAll } else { crash };
        let kept = match crash {
            Crash::Process => self.renamed.len(),
            Crash::PowerLosesAll => 0,
            Crash::PowerTears => self.random.below(self.renamed.len() + 1),
        };
        for naming in std::mem::take(&mut self.renamed).into_iter().take(kept) {
            naming.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for content in self.files.values_mut() {
            for change in std::mem::take(&mut content.pending) {
                match crash {
                    Crash::Process => change.apply(&mut content.durable),
                    Crash::PowerLosesAll => {}
                    Crash::PowerTears => tear(&change, &mut content.durable, &mut self.random),
                }
            }
            content.now = content.durable.clone();
        }
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }

    fn file(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(|| io::Error::other("the disk was taken away"))
    }
}

/// Applies some of a change.
fn tear(change: &Change, content: &mut Vec<u8>, random: &mut Random) {
    match (random.below(3), change) {
        (0, _) => {}
        (1, Change::Write { offset, bytes }) => {
            let mut at = 0;
            while at < bytes.len() {
                let end = (at + SECTOR - (offset + at) % SECTOR).min(bytes.len());
                if random.chance(2) {
                    write(content, offset + at, &bytes[at..end]);
                }
                at = end;
            }
        }
        _ => change.apply(content),
    }
}

/// A volume as a process has it.
#[derive(Clone)]
pub(crate) struct SimulatedDisk {
    pub(crate) volume: Arc<Mutex<Volume>>,
    pub(crate) process: Arc<Process>,
    pub(crate) trace: Trace,
}

impl std::fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the disk of {}", self.process.name)
    }
}

impl SimulatedDisk {
    /// Nothing is read or written by a dead process.
    fn check(&self) -> io::Result<()> {
        if self.process.is_dead() { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }

    /// Counts a change towards the moment when the power goes.
    fn change(&self) -> io::Result<()> {
        self.check()?;
        let mut volume = self.volume.lock();
        if let Some(left) = &mut volume.power_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                drop(volume);
                self.process.kill();
                return self.check();
            }
        }
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn create_folder(&self, _: &Path) -> io::Result<()> {
        self.check() // there is nothing to a folder but the names in it
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.check()?;
        let volume = self.volume.lock();
        let within = volume.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(within.filter_map(|path| path.file_name().map(OsString::from)).collect())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.change()?;
        self.trace.note(format_args!("{} syncs the folder {}", self.process.name, folder.display()));
        let mut volume = self.volume.lock();
        // As a journal does it: what came before in other folders goes with it.
        let renamed = std::mem::take(&mut volume.renamed);
        for naming in renamed {
            naming.apply(&mut volume.durable_names);
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.check()?;
        let mut volume = self.volume.lock();
        let known = volume.names.get(path).copied();
        let file = match (known, mode) {
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (Some(_), OpenMode::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, _) => {
                volume.issued += 1;
                let file = volume.issued;
                volume.files.insert(file, Content::default());
                volume.names.insert(path.to_owned(), file);
                volume.renamed.push(Naming::Name(path.to_owned(), file));
                file
            }
        };
        drop(volume);
        let open = OpenFile { disk: self.clone(), file, path: path.to_owned() };
        if mode == OpenMode::Empty {
            open.set_length(0)?;
        }
        Ok(Box::new(open))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        let mut volume = self.volume.lock();
        let file = volume.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        volume.names.insert(to.to_owned(), file);
        volume.renamed.push(Naming::Name(to.to_owned(), file));
        volume.renamed.push(Naming::Remove(from.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        let mut volume = self.volume.lock();
        volume.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        volume.renamed.push(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn simulated_latency(&self) -> Option<Duration> {
        let mut volume = self.volume.lock();
        let most = if volume.random.permille(5) { 300 } else { 4 };
        let latency = volume.random.time(Duration::from_micros(100), Duration::from_millis(most));
        Some(latency + self.process.rest())
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: SimulatedDisk,
    file: u64,
    path: PathBuf,
}

impl OpenFile {
    fn is_of(&self, lie: Lie) -> bool {
        match lie {
            Lie::Log => self.path.extension().is_some_and(|extension| extension == "log"),
            Lie::State => self.path.file_name().is_some_and(|name| name == "state.redb"),
        }
    }
}

fn within_memory(offset: u64) -> usize {
    usize::try_from(offset).expect("within memory")
}

impl DiskFile for OpenFile {
    fn length(&self) -> io::Result<u64> {
        self.disk.check()?;
        Ok(self.disk.volume.lock().file(self.file)?.now.len() as u64)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.check()?;
        let mut volume = self.disk.volume.lock();
        let start = within_memory(offset);
        let read = volume.file(self.file)?.now.get(start..start + bytes.len());
        bytes.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change()?;
        let offset = within_memory(offset);
        let mut volume = self.disk.volume.lock();
        let content = volume.file(self.file)?;
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        change.apply(&mut content.now);
        content.pending.push(change);
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.change()?;
        let mut volume = self.disk.volume.lock();
        let content = volume.file(self.file)?;
        let change = Change::Length(within_memory(length));
        change.apply(&mut content.now);
        content.pending.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change()?;
        let mut volume = self.disk.volume.lock();
        let lie = volume.lie.filter(|lie| self.is_of(*lie));
        let content = volume.file(self.file)?;
        content.syncs += 1;
        if lie == Some(Lie::Log) || (lie == Some(Lie::State) && content.syncs > TRUE_SYNCS) {
            return Ok(());
        }
        for change in std::mem::take(&mut content.pending) {
            change.apply(&mut content.durable);
        }
        let (path, length) = (self.path.display(), content.durable.len());
        self.disk.trace.note(format_args!("{} syncs {path} of {length} bytes", self.disk.process.name));
        Ok(())
    }
}
