use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

/// The root of the repository.
pub fn repository_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Where tools are looked for: those that `tests/tools/install` built, then the system's.
pub(crate) fn search_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let printed = Command::new(repository_root().join("tests/tools/install")).arg("--path").output();
        let built = printed.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        format!("{built}:/usr/sbin:/usr/bin:/sbin:/bin")
    })
}

/// The path of a tool.
pub fn tool(name: &str) -> Result<PathBuf> {
    let mut paths = search_path().split(':').map(|folder| Path::new(folder).join(name));
    let found = paths.find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed: run `tests/tools/install test cluster`"))
}
