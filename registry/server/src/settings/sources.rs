//! Where values come from, and which of them counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::file::{self, Entry};
use super::problem::{Origin, Problem, SettingsError};
use super::table::{ALL, About};

/// The variable that names the configuration file, as `--config` does.
pub(crate) const CONFIG_VARIABLE: &str = "ROADSTEAD_CONFIG";

/// A value that somebody gave.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// One text, or several of a repeatable setting.
    pub texts: Vec<String>,
    pub origin: Origin,
}

/// Everything that was given, by key: flag before environment before file.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
}

impl Sources {
    /// Reads the configuration file, if one is named, and puts the environment and the flags (by key) over it.
    pub(crate) fn gather(
        mut flags: BTreeMap<String, Vec<String>>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        config: Option<PathBuf>,
    ) -> Result<Self, SettingsError> {
        // An empty variable counts as none: compose files and shells cannot unset one.
        let environment: BTreeMap<OsString, OsString> =
            environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let config = config.or_else(|| environment.get(&OsString::from(CONFIG_VARIABLE)).map(PathBuf::from));
        let (mut entries, problems) = match config {
            Some(path) => file::read(&path)?,
            None => Default::default(),
        };
        let mut sources = Self { given: BTreeMap::new(), problems };
        for about in ALL.iter().map(|setting| setting.about()) {
            let from_file = entries.remove(about.key).map(|Entry { texts, origin }| Given { texts, origin });
            let from_environment = sources.take_variable(about, &environment);
            let from_flag = flags.remove(about.key).map(|texts| Given { texts, origin: Origin::Flag });
            if let Some(given) = from_flag.or(from_environment).or(from_file) {
                sources.given.insert(about.key, given);
            }
        }
        Ok(sources)
    }

    fn take_variable(&mut self, about: &About, environment: &BTreeMap<OsString, OsString>) -> Option<Given> {
        let value = environment.get(&OsString::from(about.variable()))?;
        let Some(text) = value.to_str() else {
            self.problems.push(Problem {
                key: about.key.to_owned(),
                value: Some(value.to_string_lossy().into_owned()),
                origin: Origin::Environment,
                reason: "it is not UTF-8".to_owned(),
                accepted: "text in UTF-8".to_owned(),
            });
            return None;
        };
        let texts = if about.repeatable {
            text.split(',').map(|item| item.trim().to_owned()).collect()
        } else {
            vec![text.to_owned()]
        };
        Some(Given { texts, origin: Origin::Environment })
    }

    pub(super) fn given(&self, key: &str) -> Option<&Given> {
        self.given.get(key)
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
