//! A process that is measured: started, looked at through /proc, stopped by its id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use tokio::time::{Instant, interval, timeout};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(1);

/// The niceness that goes before all others.
const FIRST: i32 = -20;

/// A process and what it starts. It is killed when this is dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    started: Instant,
    /// The one that is measured, where that is not the child itself but what the child runs.
    measured: Option<u32>,
}

impl Process {
    /// Starts `command`; what it prints goes to `<folder>/<name>.log`.
    pub(crate) fn start(name: &'static str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("{name} does not start: {}", shown(&command)))?;
        Ok(Self { name, child, log, started, measured: None })
    }

    /// Waits until `condition` holds, which is asked again and again; fails when the process ends or `within` is over.
    pub(crate) async fn until(&mut self, within: Duration, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut tick = interval(POLL);
        loop {
            tick.tick().await;
            // An attempt that hangs is no answer.
            if timeout(within, condition()).await.unwrap_or(false) {
                return Ok(());
            }
            self.must_run()?;
            ensure!(Instant::now() < deadline, "{} is not ready after {within:?}:\n{}", self.name, self.log_tail());
        }
    }

    /// Fails if it has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended by itself ({status}):\n{}", self.name, self.log_tail()),
            None => Ok(()),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self, within: Duration) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(id, Signal::TERM)?;
        let deadline = Instant::now() + within;
        let mut tick = interval(POLL);
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.log_tail());
            tick.tick().await;
        }
        Ok(())
    }

    /// Measures what the child started instead of the child: a tracer is not the system. The tracer goes before all
    /// others, since what it has stopped waits for it.
    pub(crate) fn measure_its_child(&mut self) -> Result<()> {
        let tracer = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        setpriority_process(tracer, FIRST).context("the tracer needs root to go before others")?;
        let children = descendants(self.child.id());
        self.measured = Some(*children.first().with_context(|| format!("{} has no child", self.name))?);
        Ok(())
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    fn id(&self) -> u32 {
        self.measured.unwrap_or(self.child.id())
    }

    /// Seconds of processor time that it and all that it started have used.
    pub(crate) fn cpu(&self) -> f64 {
        let ids = std::iter::once(self.id()).chain(descendants(self.id()));
        ids.filter_map(cpu_of).sum()
    }

    /// Bytes of memory resident now.
    pub(crate) fn resident(&self) -> Result<u64> {
        memory(self.id(), "VmRSS:")
    }

    /// The most bytes of memory that were resident at once since it started.
    pub(crate) fn peak_resident(&self) -> Result<u64> {
        memory(self.id(), "VmHWM:")
    }

    /// Bytes that it has caused to be written to disk, those of files deleted before they were written back included.
    pub(crate) fn bytes_written(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.context("/proc/PID/io has no write_bytes")?.parse()?)
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It first, so that it starts no more of them. What it leaves on disk is thrown away.
        let started = descendants(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for id in started {
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                // An error means that it has ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The fields of /proc/PID/stat after the name, which may hold anything.
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The processes below one, parents before their children.
fn descendants(id: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, stat(id)?.get(1)?.parse().ok()?))).collect();
    let mut found = vec![id];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

fn cpu_of(id: u32) -> Option<f64> {
    let stat = stat(id)?;
    // Fields 14 and 15 of proc(5), user and system time; the list begins with the third.
    let ticks = stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn memory(id: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes: u64 = line.context("/proc/PID/status has no such line")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}
