use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::machine::tool;

/// The calls with which a program waits for the disk.
const CALLS: &str = "fsync,fdatasync,sync_file_range,msync,syncfs";

/// A disk that is slower to make things durable, by a tracer that holds each such call back at its return.
///
/// A preloaded library would miss programs that are linked statically, as those in Go are. The tracer has the kernel
/// stop at these calls only (seccomp), so that all others run as they would without it; a delay of zero shows what
/// tracing itself costs.
#[derive(Clone, Copy)]
pub(crate) struct SlowFsync {
    pub(crate) delay: Duration,
}

impl SlowFsync {
    /// The same command under the tracer.
    pub(super) fn wrap(self, command: &Command, folder: &Path) -> Result<Command> {
        let mut wrapped = Command::new(tool("strace")?);
        wrapped
            .args(["--seccomp-bpf", "--follow-forks", "--quiet=all", "-e", &format!("trace={CALLS}")])
            .args(["-e", &format!("inject={CALLS}:delay_exit={}", self.delay.as_micros())])
            .arg("-o")
            .arg(folder.join("fsync.trace"))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(name, value);
            }
        }
        Ok(wrapped)
    }

    /// How many calls the traced program has made so far.
    pub(crate) fn calls(folder: &Path) -> Result<usize> {
        let trace = fs::read_to_string(folder.join("fsync.trace"))?;
        // A call that was interrupted by another thread's takes two lines, of which the second says so.
        Ok(trace.lines().filter(|line| !line.contains("resumed>") && line.contains('(')).count())
    }
}
