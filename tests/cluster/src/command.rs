use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio::time::timeout;

use crate::site::Site;
use crate::tools::{search_path, tool};

/// Longer than any call of a tool takes on two busy cores.
const TOOL_TIMEOUT: Duration = Duration::from_mins(6);

/// Tells whoever watches what happens.
pub fn say(what: &str) {
    // Nobody may be watching.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// One call of a tool, with nothing of the caller's environment but what it needs to run.
pub struct Tool {
    command: Command,
    input: Vec<u8>,
}

impl Tool {
    /// The tool of this name.
    pub fn new(name: &str) -> Result<Self> {
        let mut command = Command::new(tool(name)?);
        command.env_clear().env("PATH", search_path()).env("LANG", "C.UTF-8");
        Ok(Self { command, input: Vec::new() })
    }

    /// The tool, run in a network namespace. The mount namespace stays, so that cgroups stay visible.
    pub(crate) fn in_network(namespace: &str, name: &str) -> Result<Self> {
        let file = Site::namespace_file(namespace);
        Ok(Self::new("nsenter")?.arg(format!("--net={}", file.display())).arg(tool(name)?))
    }

    /// Adds arguments, split at blanks.
    #[must_use]
    pub fn args(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// Adds one argument as it is.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it this to read on its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// What it would be typed as.
    pub fn shown(&self) -> String {
        let command = self.command.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// Runs it, which must succeed, and returns its standard output.
    pub async fn output(self) -> Result<String> {
        let shown = self.shown();
        let output = self.run().await?;
        if !output.status.success() {
            bail!("`{shown}` failed ({}): {}", output.status, printed(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it and returns whether it succeeded, and what it printed.
    pub async fn outcome(self) -> Result<(bool, String)> {
        let output = self.run().await?;
        Ok((output.status.success(), printed(&output)))
    }

    async fn run(mut self) -> Result<Output> {
        let shown = self.shown();
        let mut input = tempfile::tempfile()?;
        std::io::Write::write_all(&mut input, &self.input)?;
        std::io::Seek::rewind(&mut input)?;
        self.command.stdin(Stdio::from(input)).kill_on_drop(true);
        let ended = timeout(TOOL_TIMEOUT, self.command.output()).await;
        let ended = ended.with_context(|| format!("`{shown}` did not end within {TOOL_TIMEOUT:?}"))?;
        ended.with_context(|| format!("`{shown}` does not start"))
    }

    /// Starts it as a process that outlives this one, in a session of its own, with its output in a file that is
    /// written on, and returns its process id.
    pub(crate) fn daemon(self, log: &Path) -> Result<u32> {
        let inner = self.command.into_std();
        let file = File::options().create(true).append(true).open(log)?;
        let mut command = std::process::Command::new(tool("setsid")?);
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{} does not start", inner.get_program().display()))?;
        Ok(child.id())
    }
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)).trim().to_owned()
}
