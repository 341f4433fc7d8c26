//! Failures that end the process, told to people: what failed, why, and what to do next.

use std::fmt;
use std::io::{self, Write as _};

/// What could not be done, and what may help. The cause is the rest of the chain.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }

    /// The failure with its cause.
    pub(crate) fn because(self, cause: impl Into<anyhow::Error>) -> anyhow::Error {
        cause.into().context(self)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Prints a failure to standard error.
pub(crate) fn report(error: &anyhow::Error) {
    // Where standard error is closed there is nobody to tell.
    let _ = io::stderr().lock().write_all(text(error).as_bytes());
}

fn text(error: &anyhow::Error) -> String {
    let mut told: Vec<_> = error.chain().map(ToString::to_string).collect();
    // Errors that say their cause themselves would have it told twice.
    told.dedup_by(|cause, before| before.ends_with(cause.as_str()));
    let mut lines = vec![format!("roadstead: {error}")];
    lines.extend(told.iter().skip(1).map(|cause| format!("  because: {cause}")));
    lines.extend(error.downcast_ref().map(|failure: &Failure| format!("  next: {}", failure.next)));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read: {source}")]
    struct Unreadable {
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        assert_eq!(text(&Unreadable { source }.into()), "roadstead: the file cannot be read: no such file\n");

        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = Failure::new("cannot start", "make the file").because(Unreadable { source });
        insta::assert_snapshot!(text(&error), @r#"
        roadstead: cannot start
          because: the file cannot be read: no such file
          next: make the file
        "#);
    }

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let cause = io::Error::new(io::ErrorKind::AddrInUse, "address in use");
        let error = Failure::new("cannot listen on 127.0.0.1:5000", "choose another `listen` address").because(cause);
        insta::assert_snapshot!(text(&error), @r#"
        roadstead: cannot listen on 127.0.0.1:5000
          because: address in use
          next: choose another `listen` address
        "#);
    }
}
