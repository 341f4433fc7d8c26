use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hosts_toml;

/// What was found under the name that containerd reads.
const BEFORE: &str = "hosts.toml.before-roadstead";

/// What was written, to tell it from what others write.
const RECORD: &str = ".roadstead-node-mirror.json";

/// A host's folder below `certs.d`.
///
/// At each moment, the end of the process included, either what was found is under its own name, or it is under
/// [`BEFORE`] and the record says what was written in its place.
pub(crate) struct HostFolder {
    folder: PathBuf,
}

/// What came of writing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is written.
    Written,
    /// It was there already.
    AsItWas,
    /// Somebody else has changed it since, and it was left to them.
    SomebodyElses,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// SHA-256 of each `hosts.toml` that may be ours: while one takes another's place there are two.
    ours: Vec<String>,
    /// The files beside it.
    beside: Vec<String>,
    /// Whether the folder was made for it.
    made_folder: bool,
}

impl HostFolder {
    pub(crate) fn new(hosts_dir: &Path, host: &str) -> Self {
        Self { folder: hosts_dir.join(host) }
    }

    /// Writes these files, `hosts.toml` last. What others have written since is left to them, unless `take`.
    pub(crate) fn write(&self, files: &[(String, Vec<u8>)], take: bool) -> Result<Outcome> {
        let found = self.read(hosts_toml::NAME)?;
        let known = self.record()?;
        let is_ours =
            known.as_ref().zip(found.as_ref()).is_some_and(|(record, found)| record.ours.contains(&hash(found)));
        let as_it_was = |(name, content): &(String, Vec<u8>)| Ok(self.read(name)?.as_ref() == Some(content));
        if is_ours && files.iter().map(as_it_was).collect::<Result<Vec<_>>>()?.into_iter().all(|same| same) {
            return Ok(Outcome::AsItWas);
        }
        if known.is_some() && !is_ours && !take {
            return Ok(Outcome::SomebodyElses);
        }
        let made_folder = known.as_ref().map_or_else(|| !self.folder.exists(), |record| record.made_folder);
        fs::create_dir_all(&self.folder).with_context(|| format!("{} cannot be made", self.folder.display()))?;
        let (last, beside) = files.split_last().context("there is always a hosts.toml")?;
        let ours_before = found.as_deref().filter(|_| is_ours).map(hash);
        let mut record = Record {
            ours: ours_before.into_iter().chain([hash(&last.1)]).collect(),
            beside: beside.iter().map(|(name, _)| name.clone()).collect(),
            made_folder,
        };
        self.put(RECORD, &serde_json::to_vec(&record)?)?;
        // Where the record is lost, what is aside is what was found, and what is in its place is ours.
        if found.is_some() && !is_ours && (known.is_some() || !self.path(BEFORE).exists()) {
            fs::rename(self.path(hosts_toml::NAME), self.path(BEFORE))?;
            self.sync()?;
        }
        for (name, content) in files {
            self.put(name, content)?;
        }
        record.ours = vec![hash(&last.1)];
        self.put(RECORD, &serde_json::to_vec(&record)?)?;
        Ok(Outcome::Written)
    }

    /// The hosts below `hosts_dir` that something was written for.
    pub(crate) fn written(hosts_dir: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(hosts_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", hosts_dir.display())),
        };
        let mut hosts = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.path().join(RECORD).exists() {
                hosts.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(hosts)
    }

    /// Puts back what was found. `false` if somebody has changed it since: then theirs stays.
    pub(crate) fn restore(&self) -> Result<bool> {
        let Some(record) = self.record()? else {
            if self.path(BEFORE).exists() {
                fs::rename(self.path(BEFORE), self.path(hosts_toml::NAME))?;
                self.remove(RECORD)?;
            }
            return Ok(true);
        };
        let found = self.read(hosts_toml::NAME)?;
        let is_theirs = found.as_ref().is_some_and(|found| !record.ours.contains(&hash(found)));
        if is_theirs {
            self.remove(BEFORE)?;
        } else if self.path(BEFORE).exists() {
            fs::rename(self.path(BEFORE), self.path(hosts_toml::NAME))?;
        } else {
            self.remove(hosts_toml::NAME)?;
        }
        for name in &record.beside {
            self.remove(name)?;
        }
        // What a process that was killed may have left half written.
        for name in record.beside.iter().map(String::as_str).chain([hosts_toml::NAME, RECORD]) {
            self.remove(&format!("{name}.partial"))?;
        }
        // Last: until now, a process that is killed leaves what the next one puts back.
        self.remove(RECORD)?;
        if record.made_folder {
            // It fails if others have put something there, whose it is then.
            let _ = fs::remove_dir(&self.folder);
        }
        Ok(!is_theirs)
    }

    fn record(&self) -> Result<Option<Record>> {
        // A damaged one is as none.
        Ok(self.read(RECORD)?.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", self.path(name).display())),
        }
    }

    /// Writes a file so that others see all of it or the former one, also after a loss of power.
    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        let beside = self.path(&format!("{name}.partial"));
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&beside)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().with_context(|| format!("{} cannot be written", beside.display()))?;
        fs::rename(beside, self.path(name))?;
        self.sync()
    }

    /// Makes the names in the folder durable.
    fn sync(&self) -> Result<()> {
        Ok(fs::File::open(&self.folder)?.sync_all()?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.path(name).display()))
            }
            _ => Ok(()),
        }
    }
}

fn hash(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Vec<(String, Vec<u8>)> {
        vec![("roadstead-0.crt".to_owned(), b"PEM".to_vec()), (hosts_toml::NAME.to_owned(), text.into())]
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn where_nothing_was_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        let host = HostFolder::new(root.path(), "a");
        assert_eq!(host.write(&files("1"), true).unwrap(), Outcome::Written);
        assert_eq!(host.write(&files("1"), false).unwrap(), Outcome::AsItWas);
        assert_eq!(host.write(&files("2"), false).unwrap(), Outcome::Written);
        assert_eq!(fs::read(host.path(hosts_toml::NAME)).unwrap(), b"2");
        assert!(host.restore().unwrap());
        assert!(names(root.path()).is_empty());
    }

    #[test]
    fn what_was_found_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let host = HostFolder::new(root.path(), "a");
        fs::create_dir(&host.folder).unwrap();
        fs::write(host.path(hosts_toml::NAME), "found").unwrap();
        fs::write(host.path("their.crt"), "theirs").unwrap();
        host.write(&files("1"), true).unwrap();
        host.write(&files("2"), true).unwrap();
        assert!(host.restore().unwrap());
        assert_eq!(fs::read(host.path(hosts_toml::NAME)).unwrap(), b"found");
        assert_eq!(names(&host.folder), [hosts_toml::NAME, "their.crt"]);
    }

    #[test]
    fn what_somebody_has_changed_since_stays_theirs() {
        let root = tempfile::tempdir().unwrap();
        let host = HostFolder::new(root.path(), "a");
        host.write(&files("1"), true).unwrap();
        fs::write(host.path(hosts_toml::NAME), "theirs").unwrap();
        assert_eq!(host.write(&files("2"), false).unwrap(), Outcome::SomebodyElses);
        assert!(!host.restore().unwrap());
        assert_eq!(fs::read(host.path(hosts_toml::NAME)).unwrap(), b"theirs");
        assert_eq!(names(&host.folder), [hosts_toml::NAME]);
    }

    #[test]
    fn at_its_start_it_takes_over_what_was_changed() {
        let root = tempfile::tempdir().unwrap();
        let host = HostFolder::new(root.path(), "a");
        host.write(&files("1"), true).unwrap();
        fs::write(host.path(hosts_toml::NAME), "theirs").unwrap();
        assert_eq!(host.write(&files("2"), true).unwrap(), Outcome::Written);
        assert!(host.restore().unwrap());
        assert_eq!(fs::read(host.path(hosts_toml::NAME)).unwrap(), b"theirs");
    }

    /// After a loss of power that left an empty record, what was found is neither overwritten nor lost.
    #[test]
    fn without_its_record_what_is_aside_stays_what_was_found() {
        for again in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let host = HostFolder::new(root.path(), "a");
            fs::create_dir(&host.folder).unwrap();
            fs::write(host.path(hosts_toml::NAME), "found").unwrap();
            host.write(&files("1"), true).unwrap();
            fs::write(host.path(RECORD), "").unwrap();
            if again {
                host.write(&files("2"), true).unwrap();
            }
            assert!(host.restore().unwrap());
            assert_eq!(fs::read(host.path(hosts_toml::NAME)).unwrap(), b"found");
        }
    }

    #[test]
    fn hosts_that_something_was_written_for_are_found() {
        let root = tempfile::tempdir().unwrap();
        assert!(HostFolder::written(&root.path().join("nothing")).unwrap().is_empty());
        fs::create_dir(root.path().join("theirs")).unwrap();
        HostFolder::new(root.path(), "a").write(&files("1"), true).unwrap();
        assert_eq!(HostFolder::written(root.path()).unwrap(), ["a"]);
    }

    /// Killed after any step, the next one to start puts back what the first one found.
    #[test]
    fn a_kill_between_any_two_steps_loses_nothing() {
        let steps: [&dyn Fn(&HostFolder); 3] = [
            // The record says what is to come, and nothing has.
            &|_| {},
            // What was found is aside, and nothing is in its place.
            &|host| fs::rename(host.path(hosts_toml::NAME), host.path(BEFORE)).unwrap(),
            // All is in place but the last record.
            &|host| {
                fs::rename(host.path(hosts_toml::NAME), host.path(BEFORE)).unwrap();
                host.put("roadstead-0.crt", b"PEM").unwrap();
                host.put(hosts_toml::NAME, b"1").unwrap();
            },
        ];
        for step in steps {
            let root = tempfile::tempdir().unwrap();
            let host = HostFolder::new(root.path(), "a");
            fs::create_dir(&host.folder).unwrap();
            fs::write(host.path(hosts_toml::NAME), "found").unwrap();
            let record =
                Record { ours: vec![hash(b"1")], beside: vec!["roadstead-0.crt".to_owned()], made_folder: false };
            host.put(RECORD, &serde_json::to_vec(&record).unwrap()).unwrap();
            step(&host);
            host.write(&files("1"), true).unwrap();
            assert_eq!(fs::read(host.path(hosts_toml::NAME)).unwrap(), b"1");
            assert!(host.restore().unwrap());
            assert_eq!(fs::read(host.path(hosts_toml::NAME)).unwrap(), b"found");
            assert_eq!(names(&host.folder), [hosts_toml::NAME]);
        }
    }

    /// Killed while one of ours takes the place of another, neither is taken for somebody else's.
    #[test]
    fn a_kill_during_a_change_of_ours_loses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let host = HostFolder::new(root.path(), "a");
        host.write(&files("1"), true).unwrap();
        let record = Record {
            ours: vec![hash(b"1"), hash(b"2")],
            beside: vec!["roadstead-0.crt".to_owned()],
            made_folder: true,
        };
        host.put(RECORD, &serde_json::to_vec(&record).unwrap()).unwrap();
        host.write(&files("2"), true).unwrap();
        assert!(host.restore().unwrap());
        assert!(names(root.path()).is_empty());
    }
}
