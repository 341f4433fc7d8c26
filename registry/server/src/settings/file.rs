//! The configuration file: TOML, one key for each setting, no tables.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem, SettingsError};
use super::table::{ALL, Listed};

/// The values of one key, as text.
#[derive(Debug)]
pub(super) struct Entry {
    pub texts: Vec<String>,
    pub origin: Origin,
}

pub(super) type Entries = BTreeMap<String, Entry>;

/// Reads a file. Keys that are no settings, and values of the wrong shape, are problems.
pub(super) fn read(path: &Path) -> Result<(Entries, Vec<Problem>), SettingsError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    let table = DeTable::parse(&text).map_err(|error| SettingsError::Malformed {
        path: path.to_owned(),
        // The parser's own text shows the line and points at the place.
        message: error.to_string().trim_end().to_owned(),
    })?;
    let mut entries = Entries::new();
    let mut problems = Vec::new();
    for (key, value) in table.get_ref() {
        let line = text.get(..key.span().start).unwrap_or_default().matches('\n').count() + 1;
        let origin = Origin::File { path: path.to_owned(), line };
        match entry(key.get_ref(), value) {
            Ok(texts) => {
                entries.insert(key.get_ref().clone().into_owned(), Entry { texts, origin });
            }
            Err((reason, accepted)) => problems.push(Problem {
                key: key.get_ref().clone().into_owned(),
                value: scalar(value.get_ref()),
                origin,
                reason,
                accepted,
            }),
        }
    }
    Ok((entries, problems))
}

/// The texts of a value, or what is wrong with it and what would be right.
fn entry(key: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, (String, String)> {
    let Some(setting) = ALL.iter().find(|setting| setting.about().key == key) else {
        return Err(("there is no such setting".to_owned(), nearest(key)));
    };
    let shape = || ("it has the wrong shape".to_owned(), shape(*setting));
    match value.get_ref() {
        DeValue::Array(items) if setting.about().repeatable => {
            items.iter().map(|item| scalar(item.get_ref()).ok_or_else(shape)).collect()
        }
        single => Ok(vec![scalar(single).ok_or_else(shape)?]),
    }
}

fn shape(setting: &dyn Listed) -> String {
    if setting.about().repeatable {
        format!("a list of texts, each {}", setting.accepted())
    } else {
        setting.accepted()
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The setting that was probably meant.
fn nearest(key: &str) -> String {
    let key = key.replace('_', "-").to_ascii_lowercase();
    let closest = ALL
        .iter()
        .map(|setting| setting.about().key)
        .map(|known| (distance(&key, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3);
    match closest {
        Some((_, known)) => format!("`{known}`, if that was meant; `roadstead config` prints all settings"),
        None => "the settings that `roadstead config` prints".to_owned(),
    }
}

/// How many insertions, deletions and replacements of a character lie between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = row.get(j).copied().unwrap_or_default() + usize::from(x != *y);
            let deleted = row.get(j + 1).copied().unwrap_or_default() + 1;
            let inserted = next.last().copied().unwrap_or_default() + 1;
            next.push(replaced.min(deleted).min(inserted));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "", 0), ("", "ab", 2), ("listn", "listen", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }
}
