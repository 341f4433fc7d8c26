//! What is wrong with the settings, said so that it can be mended.

use std::fmt;
use std::path::PathBuf;

use super::table::variable;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--key`.
    Flag,
    /// `ROADSTEAD_KEY`.
    Environment,
    /// The configuration file.
    File { path: PathBuf, line: usize },
    /// Nobody gave it.
    Default,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The setting, or what stands where one should.
    pub key: String,
    /// Its value as it was given.
    pub value: Option<String>,
    pub origin: Origin,
    /// What is wrong with it.
    pub reason: String,
    /// What would be right.
    pub accepted: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        match &self.origin {
            Origin::Flag => write!(f, " (from --{})", self.key)?,
            Origin::Environment => write!(f, " (from {})", variable(&self.key))?,
            Origin::File { path, line } => write!(f, " (from {}, line {line})", path.display())?,
            Origin::Default => write!(f, " (the default)")?,
        }
        write!(f, ": {}; accepted: {}", self.reason, self.accepted)
    }
}

/// Why there are no settings to run with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// Values that cannot be used; all of them, not just the first.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
    /// `--config` names a file that cannot be read.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file is not TOML.
    #[error("the configuration file {} is not TOML: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
}

fn list(problems: &[Problem]) -> String {
    match problems {
        [one] => format!("a setting cannot be used: {one}"),
        many => {
            let lines: Vec<_> = many.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{} settings cannot be used:{}", many.len(), lines.concat())
        }
    }
}
