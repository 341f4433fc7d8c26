//! Levels: what the builds of a cluster read, so that two releases run side by side on one log.
//!
//! ```text
//! a build --reads up to--> level, announced at each start --.
//!                                                           v
//!                                  level in force: the least that any member has announced; it never falls
//!                                                           |
//! a command --came with--> level --proposed only if that is in force--> log, which every member reads
//! ```
//!
//! A level is a number. The commands of a release that none before it reads are the next one: [`Command::since`] says so,
//! and `RELEASES` which release that is. The same holds for what the commands of former levels come to: where `apply` is
//! to decide otherwise than before, it does so from a level on, since replicas of both builds must come to the same.
//!
//! * **What is not read by all is not proposed.** `Group::entry`, by which alone commands become entries, refuses a
//!   command above the level in force, as this replica has applied it. The entry that raises it is before any that needs
//!   it, in every log.
//! * **Whoever reads less than what is in force takes no part**: it is not taken in by the leader, does not open facts
//!   that are further, and stops at the entry that raises the level before it reads anything behind that.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Command, ProposeError};

/// The release that each level came with, from the first on.
const RELEASES: [&str; Level::NEWEST.0 as usize] = ["0.1.0"];

/// This release.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// What a build reads, what a command needs, or what a cluster may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Level(pub u32);

impl Level {
    /// What every build reads, and every cluster begins with.
    pub const FIRST: Self = Self(1);

    /// What this build reads.
    pub const NEWEST: Self = Self(1);

    /// The first release that reads it, if this one knows.
    pub fn release(self) -> Option<&'static str> {
        let index = usize::try_from(self.0).ok()?.checked_sub(1)?;
        RELEASES.get(index).copied()
    }
}

/// Of a member that has said nothing.
impl Default for Level {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a build reads, and which level each command came with. Tests have others than [`Levels::OF_THIS_BUILD`]: so they
/// are replicas of an older and a newer release, though there is one.
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    /// The highest that is read.
    pub reads: Level,
    /// The level of a command.
    pub since: fn(&Command) -> Level,
}

impl Levels {
    /// Those of this release.
    pub const OF_THIS_BUILD: Self = Self { reads: Level::NEWEST, since: Command::since };

    /// Refuses facts that this build does not read.
    pub(crate) fn check(&self, level: Level) -> Result<(), LaterLevel> {
        let Self { reads, .. } = *self;
        if level <= reads { Ok(()) } else { Err(LaterLevel { level, reads }) }
    }

    /// Refuses a command that not all members read.
    pub(crate) fn permit(&self, command: &Command, in_force: Level) -> Result<(), ProposeError> {
        let since = (self.since)(command);
        if since <= in_force { Ok(()) } else { Err(ProposeError::NotYet { since, in_force }) }
    }
}

/// Facts of a cluster that uses more than this build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the facts are at level {level}, and this is roadstead {release}, which reads up to level {reads}. Start it with the \
     release that ran here or on the other replicas last, or a later one; to go back to this release, restore a sequence \
     from before the upgrade into a new folder with `roadstead restore`",
    release = RELEASE
)]
pub struct LaterLevel {
    /// What is in force.
    pub level: Level,
    /// What this build reads.
    pub reads: Level,
}

/// Which release a level needs, in words.
pub(crate) struct Needs(pub(crate) Level);

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.release() {
            Some(release) => write!(f, "roadstead {release} or later"),
            None => write!(f, "a release that reads level {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_name_their_releases() {
        assert_eq!(Level::FIRST.release(), Some("0.1.0"));
        assert_eq!(Level::NEWEST.release(), RELEASES.last().copied());
        assert_eq!((Level(0).release(), Level(Level::NEWEST.0 + 1).release()), (None, None));
        assert_eq!(Needs(Level::FIRST).to_string(), "roadstead 0.1.0 or later");
        assert_eq!(Needs(Level(99)).to_string(), "a release that reads level 99");
    }

    #[test]
    fn a_build_reads_up_to_its_level() {
        let levels = Levels { reads: Level(2), since: |_| Level(3) };
        assert_eq!(levels.check(Level(2)), Ok(()));
        let later = levels.check(Level(3)).unwrap_err();
        for words in ["level 3", "up to level 2", RELEASE, "roadstead restore"] {
            assert!(later.to_string().contains(words), "no {words:?} in: {later}");
        }
    }
}
