//! Makes the line of an htpasswd file, so that nobody needs another tool for it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// 2^10 rounds: some 50 ms for each login, as most tools choose today.
const BCRYPT_COST: u32 = 10;

/// bcrypt looks at 72 bytes, of which one ends the password; it would ignore the rest of a longer one.
const MAX_PASSWORD_BYTES: usize = 71;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The name would break the line, or cannot be sent.
    #[error("a user's name is not empty and has neither colons, blanks nor control characters")]
    User,
    /// Anybody could guess it.
    #[error("the password is empty")]
    Empty,
    /// See [`MAX_PASSWORD_BYTES`].
    #[error("the password has more than 71 bytes, of which bcrypt would ignore the rest")]
    TooLong,
    /// No random bytes for the salt.
    #[error(transparent)]
    Hash(#[from] bcrypt::BcryptError),
}

/// `USER:HASH`.
pub(crate) fn htpasswd_line(user: &str, password: &str) -> Result<String, LineError> {
    if user.is_empty()
        || user.starts_with('#')
        || user.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control())
    {
        return Err(LineError::User);
    }
    match password.len() {
        0 => Err(LineError::Empty),
        1..=MAX_PASSWORD_BYTES => {
            let hash = bcrypt::non_truncating_hash_with_result(password, BCRYPT_COST)?;
            Ok(format!("{user}:{}", hash.format_for_version(bcrypt::Version::TwoY)))
        }
        _ => Err(LineError::TooLong),
    }
}

/// The first line of standard input; asked for without showing it, if a person sits there.
pub(crate) fn read_password() -> io::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line();
    }
    io::stderr().write_all(b"Password: ")?;
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let line = read_line();
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    line
}

fn read_line() -> io::Result<String> {
    // Two bytes more than is accepted, for the end of the line: enough to see that a password is too long.
    let limit = MAX_PASSWORD_BYTES as u64 + 3;
    let mut line = String::new();
    io::stdin().lock().take(limit).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Users;
    use crate::watched::FromFiles as _;

    #[test]
    fn a_made_line_is_accepted_by_the_reader_of_the_file() {
        let line = htpasswd_line("ann", "secret").unwrap();
        assert!(line.starts_with("ann:$2y$10$"), "{line}");
        assert!(Users::from_files([line.into_bytes()]).unwrap().verify("ann", b"secret"));
    }

    #[test]
    fn what_would_not_work_is_refused() {
        let long = "x".repeat(72);
        for (user, password) in [("", "x"), ("a:b", "x"), ("a b", "x"), ("#a", "x"), ("a", ""), ("a", &*long)] {
            assert!(htpasswd_line(user, password).is_err(), "{user} {password}");
        }
        assert!(htpasswd_line("a", &"x".repeat(71)).is_ok());
    }
}
