//! What the figures were measured on, and where the tools are that it takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.ancestors().nth(2).unwrap_or(bench)
}

/// The path of a tool: those that `tests/tools/install` built, then the system's.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let folders = FOLDERS.get_or_init(|| {
        let built = output(&repository().join("tests/tools/install"), &["--path"]);
        std::iter::once(built.as_str()).chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"]).map(PathBuf::from).collect()
    });
    let path = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    path.with_context(|| format!("{name} is not installed: run `tests/tools/install bench test`"))
}

/// The machine and the versions of the programs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// File system and device of the folder in which everything was kept.
    pub(crate) disk: String,
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) programs: Vec<String>,
}

impl Machine {
    /// Looks at this one; `folder` is where the systems keep their data.
    pub(crate) fn describe(folder: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let kibibytes = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes: f64 = kibibytes.trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
        let folder = folder.display().to_string();
        let disk = output(Path::new("findmnt"), &["-n", "-o", "FSTYPE,SOURCE", "-T", &folder]);
        let version = |name: &str, argument: &str| {
            let path = tool(name).unwrap_or_default();
            output(&path, &[argument]).lines().next().unwrap_or_default().to_owned()
        };
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kibibytes / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disk: disk.split_whitespace().collect::<Vec<_>>().join(" on "),
            commit: output(
                Path::new("git"),
                &["-C", &repository().display().to_string(), "describe", "--always", "--dirty"],
            ),
            date: output(Path::new("date"), &["-u", "+%Y-%m-%d %H:%M UTC"]),
            programs: vec![
                version("distribution", "--version"),
                version("nginx", "-v"),
                version("minio", "--version"),
                version("etcd", "--version"),
            ],
        }
    }
}

/// How much of the processors others use: of half a second in which nothing is measured, as a note beside figures.
pub(crate) async fn how_busy() -> String {
    let before = jiffies();
    sleep_until(Instant::now() + Duration::from_millis(500)).await;
    let after = jiffies();
    let (all, idle) = (after.0 - before.0, after.1 - before.1);
    format!("Others used {:.0} % of the processors just before.", 100.0 * (1.0 - idle as f64 / all.max(1) as f64))
}

/// What all processors have counted, and what of that they had nothing to do (proc(5), /proc/stat).
fn jiffies() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let counts: Vec<u64> = line.split_whitespace().skip(1).filter_map(|count| count.parse().ok()).collect();
    (counts.iter().take(8).sum(), counts.iter().skip(3).take(2).sum())
}

/// What a command prints, or nothing if there is no such command.
fn output(program: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return String::new() };
    // nginx prints its version on standard error.
    let printed = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&printed).trim().to_owned()
}
