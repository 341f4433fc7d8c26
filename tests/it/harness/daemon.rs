use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// A process that runs beside the test until it is stopped or dropped.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Daemon {
    /// Starts `command`, what it prints going to `<folder>/<name>.{stdout,stderr}`, after what an earlier run left there.
    pub(crate) fn start(name: &'static str, mut command: Command, folder: &Path) -> Self {
        let stdout = folder.join(format!("{name}.stdout"));
        let stderr = folder.join(format!("{name}.stderr"));
        let append = |path: &PathBuf| File::options().create(true).append(true).open(path).expect("a log file opens");
        // Standard output is looked at for readiness, so that of an earlier run must not be there.
        let _ = fs::remove_file(&stdout);
        let child = command
            .stdin(Stdio::null())
            .stdout(append(&stdout))
            .stderr(append(&stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, stdout, stderr }
    }

    /// What it printed since it was started.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).expect("standard output is in a file")).into_owned()
    }

    /// What it and its predecessors in the same folder logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).expect("the log is in a file")).into_owned()
    }

    /// Fails when the process has ended, with the end of its log.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            panic!("{} ended by itself ({status}), logging\n{tail}", self.name);
        }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // An error means that it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end with SIGTERM and waits for that.
    pub(crate) async fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(within).await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ended", self.name);
        until(&what, within, async || self.child.try_wait().expect("a child can be waited for")).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
