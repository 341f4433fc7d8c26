//! The log: lines on standard error, as text for people or as JSON for machines.

use std::io::{self, IsTerminal as _};
use std::panic;

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{LogFormat, Logs};
use crate::tasks::panic_text;

/// What a bare level means for Raft, whose log is for its makers.
const QUIET: &str = "openraft=error";

/// Begins logging. Once in a process.
pub(crate) fn start(logs: &Logs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(directives(&logs.filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match logs.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_target(false).finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().try_init()?,
    }
    panic::set_hook(Box::new(|panic| {
        let (reason, place) = (panic_text(panic.payload()), panic.location().map(tracing::field::display));
        error!(reason, place, "a panic, which is a fault of this program: {reason}");
    }));
    Ok(())
}

/// The filter as it was set, or quieter where only a level was.
fn directives(filter: &str) -> String {
    let is_level = filter.chars().all(char::is_alphabetic);
    if is_level { format!("{filter},{QUIET}") } else { filter.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_quiets_raft_and_directives_are_left_alone() {
        assert_eq!(directives("debug"), "debug,openraft=error");
        assert_eq!(directives("info,openraft=debug"), "info,openraft=debug");
    }
}
