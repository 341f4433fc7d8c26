//! Reads typed values out of the sources, and notes every problem on the way rather than stopping at the first.

use super::kind::Kind;
use super::problem::{Origin, Problem};
use super::sources::Sources;
use super::table::{Preset, Setting};

/// A problem was noted; there is nothing to go on with.
#[derive(Debug)]
pub(super) struct Noted;

/// See the module.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self { sources, problems: sources.problems().to_vec() }
    }

    /// The value of a setting that has a default.
    pub(super) fn one<K: Kind>(&mut self, setting: &Setting<K>) -> Result<K::Value, Noted> {
        self.many(setting)?.pop().ok_or_else(|| {
            self.refuse(setting, "it has no value");
            Noted
        })
    }

    /// The value of a setting that may be left out.
    pub(super) fn optional<K: Kind>(&mut self, setting: &Setting<K>) -> Result<Option<K::Value>, Noted> {
        Ok(self.many(setting)?.pop())
    }

    /// The values of a setting that may be repeated.
    pub(super) fn many<K: Kind>(&mut self, setting: &Setting<K>) -> Result<Vec<K::Value>, Noted> {
        let (texts, _) = self.texts(setting);
        let values: Vec<_> = texts.iter().filter_map(|text| setting.kind.parse(text)).collect();
        if values.len() < texts.len() {
            self.refuse(setting, "it is not usable");
            return Err(Noted);
        }
        Ok(values)
    }

    /// Notes that a setting's value cannot be used, though its kind would be accepted.
    pub(super) fn refuse<K: Kind>(&mut self, setting: &Setting<K>, reason: &str) {
        self.refuse_but(setting, reason, &setting.kind.accepted());
    }

    /// Notes that a setting's value cannot be used beside others, and what would be accepted.
    pub(super) fn refuse_but<K>(&mut self, setting: &Setting<K>, reason: &str, accepted: &str) {
        let (texts, origin) = self.texts(setting);
        let problem = Problem {
            key: setting.about.key.to_owned(),
            value: (!texts.is_empty()).then(|| texts.join(", ")),
            origin,
            reason: reason.to_owned(),
            accepted: accepted.to_owned(),
        };
        // What several settings depend on is read several times.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn texts<K>(&self, setting: &Setting<K>) -> (Vec<String>, Origin) {
        match (self.sources.given(setting.about.key), setting.about.default) {
            (Some(given), _) => (given.texts.clone(), given.origin.clone()),
            (None, Preset::Text(text)) => (vec![text.to_owned()], Origin::Default),
            (None, Preset::Unset { .. }) => (Vec::new(), Origin::Default),
        }
    }
}
