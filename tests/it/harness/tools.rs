use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

/// Longer than any call of a tool here takes, on two busy cores.
const TOOL_TIMEOUT: Duration = Duration::from_mins(3);

/// The root of the repository.
pub(crate) fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository")
}

/// Where the tools are looked for: those that `tests/tools/install` built, then the system's, so that the tests run
/// with the same versions everywhere.
fn search_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let output = Command::new(repository_root().join("tests/tools/install"))
            .arg("--path")
            .output()
            .expect("tests/tools/install runs");
        assert!(output.status.success(), "tests/tools/install --path failed");
        let built = String::from_utf8(output.stdout).expect("a path");
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", built.trim())
    })
}

/// The path of a tool. A tool that is missing is a failure, never a test that is left out.
pub(crate) fn find(name: &str) -> PathBuf {
    search_path()
        .split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `tests/tools/install`"))
}

/// A command with nothing of the caller's environment but what it needs to run.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", search_path()).env("LANG", "C.UTF-8");
    command
}

/// A folder in which clients run as if it were their user's home: what one of them keeps (logins, caches) is there for
/// the next one and nowhere else.
pub(crate) struct Workbench {
    folder: TempDir,
}

impl Workbench {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("rs-").tempdir().expect("a temporary folder");
        let bench = Self { folder };
        std::fs::create_dir(bench.path().join("run")).expect("a folder");
        // podman takes no login for granted only where there is such a file.
        bench.write("auth.json", "{}");
        bench
    }

    /// Its folder, which is also the working folder of its tools.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in it, as text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.path().join(name).to_str().expect("temporary folders have plain names").to_owned()
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path().join(name), content).expect("a file is written");
        self.file(name)
    }

    /// Reads a file in it.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap_or_else(|error| panic!("{name} cannot be read: {error}"))
    }

    /// A tool by its name.
    pub(crate) fn tool(&self, name: &str) -> Tool {
        let mut command = command(&find(name));
        command
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("TMPDIR", self.path())
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("DOCKER_CONFIG", self.path().join("docker-config"))
            .env("REGISTRY_AUTH_FILE", self.path().join("auth.json"));
        Tool { name: name.to_owned(), command, input: None }
    }
}

/// A script of `tests/tools`.
pub(crate) fn script(name: &str) -> Tool {
    let mut command = command(&repository_root().join("tests/tools").join(name));
    // The scripts find the installed tools as `install` does, by the caller's home.
    for kept in ["HOME", "XDG_CACHE_HOME", "ROADSTEAD_TOOLS"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    Tool { name: name.to_owned(), command, input: None }
}

/// One call of a tool.
pub(crate) struct Tool {
    name: String,
    command: Command,
    /// What it reads: nothing, unless there is something.
    input: Option<File>,
}

impl Tool {
    /// A call of `command`, shown as `name`.
    pub(super) fn new(name: &str, command: Command) -> Self {
        Self { name: name.to_owned(), command, input: None }
    }

    /// Adds arguments, split at blanks.
    pub(crate) fn args(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// Adds one argument as it is.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Lets it read this from its standard input.
    pub(crate) fn typing(self, text: &str) -> Self {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(text.as_bytes()).and_then(|()| file.rewind()).expect("it is written");
        Self { input: Some(file), ..self }
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it, which must succeed, and returns its standard output.
    pub(crate) async fn succeeds(self) -> String {
        let (shown, output) = self.run().await;
        assert!(output.status.success(), "`{shown}` failed ({}):\n{}", output.status, printed(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it, which must fail, and returns what it printed.
    pub(crate) async fn fails(self) -> String {
        let (shown, output) = self.run().await;
        assert!(!output.status.success(), "`{shown}` should have failed:\n{}", printed(&output));
        printed(&output)
    }

    /// Runs it and returns whether it succeeded and what it printed.
    pub(crate) async fn outcome(self) -> (bool, String) {
        let (_, output) = self.run().await;
        (output.status.success(), printed(&output))
    }

    /// Runs it and returns its exit code, its standard output and its standard error.
    pub(crate) async fn ends(self) -> (i32, String, String) {
        let (shown, output) = self.run().await;
        let code = output.status.code().unwrap_or_else(|| panic!("`{shown}` was ended by a signal"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (code, text(&output.stdout), text(&output.stderr))
    }

    /// Runs it at the end of a test, where nothing can be awaited; it must succeed.
    pub(crate) fn run_now(mut self) {
        let output = self.command.stdin(Stdio::null()).output();
        let succeeded = output.as_ref().is_ok_and(|output| output.status.success());
        // A panic while a test panics would end all tests, and hide why.
        assert!(succeeded || std::thread::panicking(), "{} failed: {output:?}", self.name);
    }

    async fn run(self) -> (String, Output) {
        let Self { name, command, input } = self;
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let shown = format!("{name} {}", arguments.join(" "));
        let mut command = tokio::process::Command::from(command);
        command.stdin(input.map_or_else(Stdio::null, Stdio::from)).kill_on_drop(true);
        let output = tokio::time::timeout(TOOL_TIMEOUT, command.output())
            .await
            .unwrap_or_else(|_| panic!("`{shown}` did not end within {TOOL_TIMEOUT:?}"))
            .unwrap_or_else(|error| panic!("`{shown}` does not start: {error}"));
        (shown, output)
    }
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
