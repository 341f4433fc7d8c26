//! Rules of the source tree that no compiler checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::repository_root;

/// Which of our crates each of ours may import. A crate that is not listed here is a new one: say what it may import.
const IMPORTS: [(&str, &[&str]); 15] = [
    // It stands in the place of another's crate, by `[patch]`, and is named by openraft alone.
    ("base2histogram", &[]),
    // For its tests alone: what is admitted is what the registry takes.
    ("roadstead-crds", &["roadstead-geo"]),
    // It asks replicas over their admin API, and knows no code of theirs.
    ("roadstead-operator", &["roadstead-crds"]),
    ("roadstead-oci", &[]),
    ("roadstead-blobs", &["roadstead-oci"]),
    ("roadstead-metadata", &["roadstead-oci"]),
    ("roadstead-domain", &["roadstead-oci", "roadstead-blobs", "roadstead-metadata"]),
    // Blobs for its tests alone: no registry is made without a store.
    ("roadstead-geo", &["roadstead-oci", "roadstead-blobs", "roadstead-metadata", "roadstead-domain"]),
    (
        "roadstead-server",
        &["roadstead-oci", "roadstead-blobs", "roadstead-metadata", "roadstead-domain", "roadstead-geo"],
    ),
    ("roadstead-node-mirror", &[]),
    ("roadstead-cluster", &[]),
    ("roadstead-wan", &[]),
    ("roadstead-bench", &["roadstead-oci", "roadstead-blobs", "roadstead-metadata", "roadstead-wan"]),
    (
        "roadstead-simulation",
        &["roadstead-oci", "roadstead-blobs", "roadstead-metadata", "roadstead-domain", "roadstead-geo"],
    ),
    (
        "roadstead-tests",
        &[
            "roadstead-oci",
            "roadstead-blobs",
            "roadstead-metadata",
            "roadstead-domain",
            "roadstead-simulation",
            "roadstead-wan",
        ],
    ),
];

/// Others' crates that only one of ours may name.
const HOLDERS: [(&str, &str); 4] = [
    ("aws-sdk-s3", "roadstead-blobs"),
    ("openraft", "roadstead-metadata"),
    ("redb", "roadstead-metadata"),
    ("axum", "roadstead-server"),
];

/// Folders whose content is ours to keep in order.
const FOLDERS: [&str; 10] =
    ["crds", "operator", "registry", "node-mirror", "charts", "tests", "examples", "fuzz", ".ci", "docs"];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 9] = ["util", "utils", "common", "helper", "helpers", "manager", "managers", "types", "misc"];

fn source_files() -> Vec<PathBuf> {
    let root = repository_root();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    files.extend(entries(root).into_iter().filter(|path| path.is_file()));
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let built = path.file_name().is_some_and(|name| name == "target");
            if path.is_dir() && !built {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("a folder can be listed").path()).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(repository_root()).expect("a path in the repository").display().to_string()
}

/// Lines of text files that `is_wrong` says are wrong, as `path:line: text`.
fn wrong_lines(extensions: &[&str], is_wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in source_files() {
        let extension = file.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default();
        if !extensions.is_empty() && !extensions.contains(&extension.as_str()) {
            continue;
        }
        // What is no text is no source.
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let path = relative(&file);
        let lines = (1..).zip(text.lines()).filter(|(_, line)| is_wrong(&path, line));
        wrong.extend(lines.map(|(number, line)| format!("{path}:{number}: {}", line.trim())));
    }
    wrong
}

/// The names of the crates that a manifest depends on, in any way.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut tables = Vec::new();
    let mut collect = |table: &toml::Table| {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            tables.extend(table.get(kind).and_then(toml::Value::as_table).cloned());
        }
    };
    collect(manifest);
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    targets.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table).for_each(collect);
    let names = tables.iter().flat_map(toml::Table::iter).map(|(name, value)| {
        let renamed = value.as_table().and_then(|table| table.get("package")).and_then(toml::Value::as_str);
        renamed.unwrap_or(name).to_owned()
    });
    names.collect()
}

/// Our crates by name, with what each depends on. Fuzz targets have workspaces of their own and are in none of ours.
fn crates() -> BTreeMap<String, Vec<String>> {
    let root: toml::Table = read_toml(&repository_root().join("Cargo.toml"));
    let members = root["workspace"]["members"].as_array().expect("members").iter();
    let manifests = members.map(|member| {
        let folder = member.as_str().expect("a folder");
        read_toml(&repository_root().join(folder).join("Cargo.toml"))
    });
    manifests
        .map(|manifest| {
            let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
            (name, dependencies(&manifest))
        })
        .collect()
}

fn read_toml(path: &Path) -> toml::Table {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn crates_import_downward_only() {
    let allowed: BTreeMap<_, _> = IMPORTS.into_iter().collect();
    for (name, dependencies) in crates() {
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in IMPORTS"));
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("roadstead-")) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not import {dependency}");
        }
        for (held, holder) in HOLDERS {
            let names_it = dependencies.iter().any(|dependency| dependency == held);
            assert!(!names_it || name == holder, "{name} must not name {held}: only {holder} does");
        }
    }
}

#[test]
fn names_say_what_is_inside() {
    let named_emptily = |path: &PathBuf| {
        let relative = PathBuf::from(relative(path));
        let words = relative.iter().map(|part| part.to_string_lossy().to_lowercase());
        words.into_iter().any(|part| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or_default()))
    };
    let found: Vec<_> = source_files().into_iter().filter(named_emptily).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn tasks_have_an_owner() {
    let spawn = |line: &str| {
        ["tokio::spawn", "task::spawn", "thread::spawn"].iter().any(|call| line.contains(&format!("{call}(")))
    };
    let wrong = wrong_lines(&["rs"], |path, line| path != "registry/server/src/tasks.rs" && spawn(line));
    assert!(wrong.is_empty(), "spawned without an owner:\n{}", wrong.join("\n"));
}

#[test]
fn things_to_do_name_their_issue() {
    // Spelled apart, so that this line is none of them.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let wrong = wrong_lines(&["rs", "md", "toml"], |_, line| {
        marks.iter().any(|mark| line.find(mark).is_some_and(|at| !line[at + mark.len()..].starts_with("(#")))
    });
    assert!(wrong.is_empty(), "a thing to do without the number of its issue:\n{}", wrong.join("\n"));
}

#[test]
fn no_path_of_somebodys_machine() {
    let roots = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/home", "/runner")];
    let wrong = wrong_lines(&[], |_, line| roots.iter().any(|root| line.contains(root)));
    assert!(wrong.is_empty(), "a path that other machines do not have:\n{}", wrong.join("\n"));
}

#[test]
fn architecture_names_paths_that_exist_and_is_short() {
    let path = repository_root().join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path).expect("ARCHITECTURE.md");
    assert!(text.lines().count() < 400, "ARCHITECTURE.md is to be read in one sitting");
    let mut missing = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        let ours = FOLDERS.iter().any(|folder| quoted.starts_with(&format!("{folder}/")));
        let plain = quoted.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
        if ours && plain && !repository_root().join(quoted).exists() {
            missing.push(quoted);
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md names what does not exist: {missing:?}");
}
