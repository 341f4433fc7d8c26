//! What people read about the settings: the commented example file and the table in the README.

use std::fmt::Write as _;

use super::table::{ALL, Listed, Preset};

const PREAMBLE: &str = "\
# The settings of Roadstead, for `roadstead serve --config FILE`.
#
# Each can also be given as a flag (--listen ADDR:PORT) or in the environment (ROADSTEAD_LISTEN).
# A flag wins over the environment, the environment over this file, this file over the default.
# Lines that are commented out show the default, or an example where there is none.
";

/// The commented configuration file, as `roadstead config` prints it.
pub(crate) fn example_file() -> String {
    let mut file = PREAMBLE.to_owned();
    let mut section = None;
    for setting in ALL {
        let about = setting.about();
        if section.replace(about.section) != Some(about.section) {
            // Writing to a `String` cannot fail.
            let _ = write!(file, "\n# ---- {} ----\n", about.section.title());
        }
        let _ = writeln!(file, "\n{}", comment(&sentence(setting)));
        let _ = match about.default {
            Preset::Text(text) => writeln!(file, "#{} = {}", about.key, toml_value(text)),
            Preset::Unset { example } if about.repeatable => {
                writeln!(file, "#{} = [{}]", about.key, toml_value(example))
            }
            Preset::Unset { example } => writeln!(file, "#{} = {}", about.key, toml_value(example)),
        };
    }
    file
}

/// The help, then what is accepted, then whether there is a default.
fn sentence(setting: &dyn Listed) -> String {
    let about = setting.about();
    let unset = match about.default {
        Preset::Text(_) => "",
        Preset::Unset { .. } => " No default.",
    };
    format!("{} Accepted: {}.{unset}", about.help, setting.accepted())
}

/// Breaks text into lines of a comment.
fn comment(text: &str) -> String {
    const WIDTH: usize = 110;
    let mut lines = vec!["#".to_owned()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n")
}

/// Numbers and truth values stand bare, all else in quotes.
fn toml_value(text: &str) -> String {
    let bare = text.parse::<bool>().is_ok() || text.parse::<i64>().is_ok();
    if bare { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
const TABLE_HEAD: &str = "\
A flag `--some-setting` is also `ROADSTEAD_SOME_SETTING` in the environment, and `some-setting` in the TOML file that
`--config FILE` or `ROADSTEAD_CONFIG` names (`roadstead config` prints one with comments). A flag wins over the
environment, the environment over the file, the file over the default.

| Setting | Default | What it is |
|---|---|---|
";

/// The table of settings in the README.
#[cfg(test)]
fn readme_table() -> String {
    let mut table = TABLE_HEAD.to_owned();
    let mut section = None;
    for about in ALL.map(Listed::about) {
        if section.replace(about.section) != Some(about.section) {
            let _ = writeln!(table, "| **{}** | | |", about.section.title());
        }
        let default = match about.default {
            Preset::Text(text) => format!("`{text}`"),
            Preset::Unset { .. } => String::new(),
        };
        let repeated = if about.repeatable { " (repeatable)" } else { "" };
        let _ = writeln!(table, "| `--{} {}`{repeated} | {default} | {} |", about.key, about.placeholder, about.help);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::settings::{Settings, Sources};

    const BEGIN: &str = "<!-- settings -->\n";
    const END: &str = "<!-- /settings -->";

    fn in_root(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
    }

    /// Compares a committed file with what it is made from; with `ROADSTEAD_BLESS=1`, writes it instead.
    fn check(name: &str, expected: impl FnOnce(&str) -> String) {
        let path = in_root(name);
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let expected = expected(&found);
        if std::env::var_os("ROADSTEAD_BLESS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        } else {
            assert!(
                found == expected,
                "{name} is out of date: `ROADSTEAD_BLESS=1 cargo test -p roadstead-server document` writes it"
            );
        }
    }

    #[test]
    fn the_committed_example_file_is_the_one_that_is_printed() {
        check("examples/roadstead.toml", |_| example_file());
    }

    #[test]
    fn the_readme_has_the_table() {
        check("README.md", |readme| {
            let (before, rest) = readme.split_once(BEGIN).expect("README.md has the marker of the table");
            let (_, after) = rest.split_once(END).expect("README.md has the end marker of the table");
            format!("{before}{BEGIN}\n{}\n{END}{after}", readme_table())
        });
    }

    fn settings_of_file(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roadstead.toml");
        std::fs::write(&path, text).unwrap();
        Settings::read(&Sources::gather(BTreeMap::new(), [], Some(path)).unwrap()).unwrap()
    }

    #[test]
    fn the_example_file_changes_nothing_until_a_line_is_uncommented() {
        assert_eq!(settings_of_file(&example_file()), settings_of_file(""));
        let uncommented = example_file().replace("#part-size = \"8MiB\"", "part-size = \"16MiB\"");
        assert_eq!(settings_of_file(&uncommented).part_size, 16 << 20);
    }

    #[test]
    fn uncommented_defaults_are_the_defaults() {
        let lines = ALL.map(Listed::about).into_iter().filter_map(|about| match about.default {
            Preset::Text(text) => Some(format!("{} = {}\n", about.key, toml_value(text))),
            Preset::Unset { .. } => None,
        });
        assert_eq!(settings_of_file(&lines.collect::<String>()), settings_of_file(""));
    }
}
