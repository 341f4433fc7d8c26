//! A value made out of files, and made again when they change, without a restart.
//!
//! ```text
//!  every POLL: stat -> as last time, twice? ---- yes --> nothing to do
//!                          | no
//!                       read -> same bytes? ---- yes --> nothing to do
//!                          | no
//!                       make -> Ok: it takes the old one's place    Err: the old one stays, the log says why, once
//! ```
//!
//! Polling rather than inotify, since that sees neither network mounts nor what a symbolic link (certbot, Kubernetes)
//! now points at. Paths are followed anew each time.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::tasks::TaskResult;

/// How often files are looked at. A stat costs microseconds, and people wait for a change this long without wondering.
const POLL: Duration = Duration::from_secs(2);

/// The largest file that is read: 100,000 users with their hashes need 9 MB; certificates a few kB.
const MAX_BYTES: u64 = 16 << 20;

/// What can be made out of `N` files.
pub(crate) trait FromFiles<const N: usize>: Sized + Send + Sync + 'static {
    /// What it is called in the log.
    const NAME: &'static str;
    /// Why the files cannot be used.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Makes it out of the files' contents.
    fn from_files(contents: [Vec<u8>; N]) -> Result<Self, Self::Error>;
}

/// Why there is no value to begin with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError<E: std::error::Error + 'static> {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// The files cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable { path: PathBuf, source: E },
}

/// See the module.
pub(crate) struct Watched<T, const N: usize> {
    paths: [PathBuf; N],
    current: Arc<ArcSwap<T>>,
    seen: Mutex<Seen<N>>,
}

/// What was there at the last look.
struct Seen<const N: usize> {
    stamps: [Option<Stamp>; N],
    /// Whether two looks found the same stamps. A file that is written again within the granularity of its time stamp
    /// looks the same, so that the first look is not trusted.
    settled: bool,
    content: Fingerprint,
    /// Why the last change was not taken over.
    problem: Option<String>,
}

type Fingerprint = [u8; 32];

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T: FromFiles<N>, const N: usize> Watched<T, N> {
    /// Reads the files for the first time.
    pub(crate) fn open(paths: [PathBuf; N]) -> Result<Self, WatchError<T::Error>> {
        let stamps = paths.each_ref().map(|path| stamp(path));
        let contents = read_all(&paths)?;
        let content = fingerprint(&contents);
        let value = make(&paths, contents)?;
        Ok(Self {
            paths,
            current: Arc::new(ArcSwap::from_pointee(value)),
            seen: Mutex::new(Seen { stamps, settled: false, content, problem: None }),
        })
    }

    /// The present value.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Where the present value stands, for those who look at it often.
    pub(crate) fn slot(&self) -> Arc<ArcSwap<T>> {
        Arc::clone(&self.current)
    }

    /// Looks at the files every few seconds, for ever.
    pub(crate) async fn watch(self: Arc<Self>) -> TaskResult {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let watched = Arc::clone(&self);
            tokio::task::spawn_blocking(move || watched.look()).await?;
        }
    }

    /// Looks once, and takes over what changed.
    pub(crate) fn look(&self) {
        let mut seen = self.seen.lock();
        let stamps = self.paths.each_ref().map(|path| stamp(path));
        let same = stamps == seen.stamps;
        if same && seen.settled && seen.problem.is_none() {
            return;
        }
        seen.stamps = stamps;
        seen.settled = same;
        let made = read_all(&self.paths).and_then(|contents| {
            let content = fingerprint(&contents);
            if content == seen.content && seen.problem.is_none() {
                return Ok(None);
            }
            make(&self.paths, contents).map(|value| Some((content, value)))
        });
        match made {
            Ok(None) => {}
            Ok(Some((content, value))) => {
                self.current.store(Arc::new(value));
                seen.content = content;
                seen.problem = None;
                info!(files = ?self.paths, "the {} changed and is in use", T::NAME);
            }
            Err(error) => {
                let problem = error.to_string();
                if seen.problem.as_ref() != Some(&problem) {
                    warn!(files = ?self.paths, reason = problem, "the {} changed but the former one stays in use: {problem}", T::NAME);
                }
                seen.problem = Some(problem);
            }
        }
    }
}

fn make<T: FromFiles<N>, const N: usize>(
    paths: &[PathBuf; N],
    contents: [Vec<u8>; N],
) -> Result<T, WatchError<T::Error>> {
    T::from_files(contents)
        .map_err(|source| WatchError::Unusable { path: paths.first().cloned().unwrap_or_default(), source })
}

fn read_all<E: std::error::Error, const N: usize>(paths: &[PathBuf; N]) -> Result<[Vec<u8>; N], WatchError<E>> {
    let mut contents = [const { Vec::new() }; N];
    for (content, path) in contents.iter_mut().zip(paths) {
        *content = read(path).map_err(|source| WatchError::Unreadable { path: path.clone(), source })?;
    }
    Ok(contents)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(content)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        file: (metadata.dev(), metadata.ino()),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn fingerprint(contents: &[Vec<u8>]) -> Fingerprint {
    let mut hasher = Sha256::new();
    for content in contents {
        hasher.update((content.len() as u64).to_be_bytes());
        hasher.update(content);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Two files that must agree.
    #[derive(Debug, PartialEq)]
    struct Pair(String);

    #[derive(Debug, thiserror::Error)]
    #[error("they differ")]
    struct Differ;

    impl FromFiles<2> for Pair {
        const NAME: &'static str = "pair";
        type Error = Differ;

        fn from_files([a, b]: [Vec<u8>; 2]) -> Result<Self, Differ> {
            if a == b { Ok(Self(String::from_utf8_lossy(&a).into_owned())) } else { Err(Differ) }
        }
    }

    fn current(watched: &Watched<Pair, 2>) -> String {
        watched.look();
        watched.current().0.clone()
    }

    #[test]
    fn a_change_is_taken_over_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        for path in [&a, &b] {
            fs::write(path, "1").unwrap();
        }
        let watched = Watched::<Pair, 2>::open([a.clone(), b.clone()]).unwrap();
        assert_eq!(current(&watched), "1");
        fs::write(&a, "2").unwrap();
        assert_eq!(current(&watched), "1", "half of a change is not used");
        assert_eq!(
            watched.seen.lock().problem.as_deref(),
            Some(&*format!("{} cannot be used: they differ", a.display()))
        );
        fs::write(&b, "2").unwrap();
        assert_eq!(current(&watched), "2");
        fs::remove_file(&b).unwrap();
        assert_eq!(current(&watched), "2", "a missing file is no change");
        fs::write(&b, "2").unwrap();
        assert_eq!(current(&watched), "2");
        assert_eq!(watched.seen.lock().problem, None);
    }

    #[test]
    fn a_second_write_that_leaves_the_stamp_alone_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1").unwrap();
        let watched = Watched::<Pair, 2>::open([path.clone(), path.clone()]).unwrap();
        fs::write(&path, "2").unwrap();
        // As if the second write had come within the granularity of the stamps that the first look took.
        watched.seen.lock().stamps = [stamp(&path); 2];
        assert_eq!(current(&watched), "2");
    }

    #[test]
    fn symbolic_links_are_followed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, link] = ["1", "2", "live"].map(|name| folder.path().join(name));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        symlink(&one, &link).unwrap();
        let watched = Watched::<Pair, 2>::open([link.clone(), link.clone()]).unwrap();
        assert_eq!(current(&watched), "1");
        assert_eq!(current(&watched), "1");
        fs::remove_file(&link).unwrap();
        symlink(&two, &link).unwrap();
        assert_eq!(current(&watched), "2");
    }

    #[test]
    fn the_first_reading_must_succeed() {
        let missing = PathBuf::from("/nowhere/a");
        let error = Watched::<Pair, 2>::open([missing.clone(), missing]).err().expect("there are no files");
        assert!(error.to_string().starts_with("/nowhere/a cannot be read: No such file"), "{error}");
    }

    #[test]
    fn a_file_without_end_is_not_read() {
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
