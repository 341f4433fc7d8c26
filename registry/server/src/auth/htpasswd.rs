//! The htpasswd file: a user and the hash of a password on each line.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr as _;

use argon2::{Algorithm, Argon2, Params, PasswordVerifier as _};
use bcrypt::HashParts;
use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::watched::FromFiles;

/// The highest bcrypt cost that is accepted. Each step doubles the work: 10 takes some 50 ms, 14 nearly a second, and
/// whoever may try passwords may make this process do it.
const MAX_BCRYPT_COST: u32 = 14;

/// The most memory of one argon2 computation in KiB: one on each of 16 cores is then 1 GiB.
const MAX_ARGON2_KIB: u32 = 64 << 10;

/// The most passes of argon2 over its memory: with the most memory, some seconds.
const MAX_ARGON2_PASSES: u32 = 10;

/// Pairs of a user and a password that are remembered as right, 40 bytes each.
const MAX_VERIFIED: usize = 10_000;

/// How long they are remembered. `docker push` sends the same pair hundreds of times within minutes.
const VERIFIED_FOR: Duration = Duration::from_mins(10);

/// A keyed hash of a user and a password: see [`Authenticator`](super::Authenticator).
pub(super) type PairTag = [u8; 32];

/// The users of one version of the file. What was verified against it is forgotten with it.
#[derive(Default)]
pub(crate) struct Users {
    hashes: HashMap<Box<str>, PasswordHash>,
    verified: Mutex<HashMap<PairTag, Instant>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PasswordHash {
    Bcrypt(Box<str>),
    Argon2(Box<str>),
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct HtpasswdError {
    line: usize,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NotUtf8,
    NoColon,
    NoUser,
    Twice(String),
    Hash { user: String, reason: String },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("it is not UTF-8"),
            Self::NoColon => f.write_str("it has no colon; a line is USER:HASH"),
            Self::NoUser => f.write_str("it has no user before the colon"),
            Self::Twice(user) => write!(f, "the user {user:?} is there twice; remove one of the lines"),
            Self::Hash { user, reason } => {
                write!(
                    f,
                    "the hash of {user:?} {reason}; `roadstead hash-password {user}` prints a line that can be used"
                )
            }
        }
    }
}

impl FromFiles<1> for Users {
    const NAME: &'static str = "htpasswd file";
    type Error = HtpasswdError;

    fn from_files([content]: [Vec<u8>; 1]) -> Result<Self, HtpasswdError> {
        let mut users = Self::default();
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            users.add_line(line).map_err(|problem| HtpasswdError { line: index + 1, problem })?;
        }
        Ok(users)
    }
}

impl Users {
    fn add_line(&mut self, line: &[u8]) -> Result<(), Problem> {
        let line = std::str::from_utf8(line).map_err(|_| Problem::NotUtf8)?.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (user, hash) = line.split_once(':').ok_or(Problem::NoColon)?;
        if user.is_empty() {
            return Err(Problem::NoUser);
        }
        let hash = PasswordHash::parse(hash)
            .map_err(|reason| Problem::Hash { user: user.to_owned(), reason: reason.to_owned() })?;
        match self.hashes.insert(user.into(), hash) {
            None => Ok(()),
            Some(_) => Err(Problem::Twice(user.to_owned())),
        }
    }

    /// Whether the password is the user's. Takes as long for a user that is not there as for one that is. Computes for
    /// a while: not for async threads.
    pub(super) fn verify(&self, user: &str, password: &[u8]) -> bool {
        let known = self.hashes.get(user);
        // Any hash will do to spend the same time on. An empty file has no users whose names could be found out.
        let Some(hash) = known.or_else(|| self.hashes.values().next()) else { return false };
        hash.matches(password) && known.is_some()
    }

    /// Whether the pair was verified a short while ago.
    pub(super) fn is_verified(&self, pair: &PairTag) -> bool {
        self.verified.lock().get(pair).is_some_and(|at| at.elapsed() < VERIFIED_FOR)
    }

    /// Remembers that the pair was verified.
    pub(super) fn remember(&self, pair: PairTag) {
        let mut verified = self.verified.lock();
        if verified.len() >= MAX_VERIFIED {
            verified.retain(|_, at| at.elapsed() < VERIFIED_FOR);
        }
        if verified.len() >= MAX_VERIFIED {
            // So many distinct pairs within the time are rarer than one that is hashed once more.
            verified.clear();
        }
        verified.insert(pair, Instant::now());
    }
}

impl PasswordHash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts = HashParts::from_str(text).map_err(|_| "is damaged")?;
            return if parts.get_cost() <= MAX_BCRYPT_COST {
                Ok(Self::Bcrypt(text.into()))
            } else {
                Err("has a cost above 14, which takes seconds for each login")
            };
        }
        if text.starts_with("$argon2") {
            return Self::parse_argon2(text);
        }
        Err("is neither bcrypt nor argon2id")
    }

    fn parse_argon2(text: &str) -> Result<Self, &'static str> {
        let hash = argon2::PasswordHash::new(text).map_err(|_| "is damaged")?;
        if Algorithm::try_from(hash.algorithm) != Ok(Algorithm::Argon2id) {
            return Err("is argon2, but not argon2id");
        }
        let params = Params::try_from(&hash).map_err(|_| "has parameters that argon2id does not have")?;
        if hash.hash.is_none() || hash.salt.is_none() {
            return Err("is damaged");
        }
        if params.m_cost() > MAX_ARGON2_KIB || params.t_cost() > MAX_ARGON2_PASSES {
            return Err("takes more than 64 MiB or 10 passes for each login");
        }
        Ok(Self::Argon2(text.into()))
    }

    fn matches(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2(hash) => argon2::PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of "secret" as `htpasswd -B -C 4` and the argon2 command print them.
    const BCRYPT: &str = "$2y$04$W4OUzLeZpH5JRVXbLxVZ6.8M0e1pYTbKoVi0RBvoBVzXRY8t1mBbi";

    fn users(text: &str) -> Result<Users, HtpasswdError> {
        Users::from_files([text.as_bytes().to_vec()])
    }

    fn argon2id() -> String {
        use argon2::PasswordHasher as _;
        use argon2::password_hash::SaltString;
        let salt = SaltString::encode_b64(b"sixteen bytes!!!").unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        argon2.hash_password(b"secret", &salt).unwrap().to_string()
    }

    #[test]
    fn the_right_password_of_a_known_user_is_verified() {
        let text = format!("# people\nann:{}\r\n\nbob:{}\n", bcrypt::hash("secret", 4).unwrap(), argon2id());
        let users = users(&text).unwrap();
        for (user, password, right) in [
            ("ann", "secret", true),
            ("bob", "secret", true),
            ("ann", "Secret", false),
            ("bob", "", false),
            ("eve", "secret", false),
            ("", "secret", false),
        ] {
            assert_eq!(users.verify(user, password.as_bytes()), right, "{user} {password}");
        }
        assert!(!Users::default().verify("ann", b"secret"), "nobody is in an empty file");
    }

    #[test]
    fn every_bcrypt_version_of_other_tools_is_verified() {
        let parts = bcrypt::hash_with_result("secret", 4).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoB, bcrypt::Version::TwoY] {
            let users = users(&format!("ann:{}", parts.format_for_version(version))).unwrap();
            assert!(users.verify("ann", b"secret"));
        }
    }

    #[test]
    fn each_line_that_cannot_be_used_is_named() {
        let argon2i = argon2id().replace("argon2id", "argon2i");
        let huge = argon2id().replace("m=64", "m=999999");
        let costly = BCRYPT.replace("$04$", "$15$");
        let refused = [
            "\nann",
            ":x",
            "ann:secret",
            "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
            "ann:$apr1$abc$def",
            "ann:$2y$04$tooshort",
            &format!("ann:{BCRYPT}\nann:{BCRYPT}"),
            &format!("ann:{costly}"),
            &format!("ann:{argon2i}"),
            &format!("ann:{huge}"),
            "ann:$argon2id$v=19$m=64,t=1,p=1",
        ]
        .map(|text| users(text).err().expect("the file is refused").to_string());
        insta::assert_snapshot!(refused.join("\n"), @r#"
        line 2: it has no colon; a line is USER:HASH
        line 1: it has no user before the colon
        line 1: the hash of "ann" is neither bcrypt nor argon2id; `roadstead hash-password ann` prints a line that can be used
        line 1: the hash of "ann" is neither bcrypt nor argon2id; `roadstead hash-password ann` prints a line that can be used
        line 1: the hash of "ann" is neither bcrypt nor argon2id; `roadstead hash-password ann` prints a line that can be used
        line 1: the hash of "ann" is damaged; `roadstead hash-password ann` prints a line that can be used
        line 2: the user "ann" is there twice; remove one of the lines
        line 1: the hash of "ann" has a cost above 14, which takes seconds for each login; `roadstead hash-password ann` prints a line that can be used
        line 1: the hash of "ann" is argon2, but not argon2id; `roadstead hash-password ann` prints a line that can be used
        line 1: the hash of "ann" takes more than 64 MiB or 10 passes for each login; `roadstead hash-password ann` prints a line that can be used
        line 1: the hash of "ann" is damaged; `roadstead hash-password ann` prints a line that can be used
        "#);
        assert_eq!(Users::from_files([b"a\xff".to_vec()]).err().unwrap().to_string(), "line 1: it is not UTF-8");
    }

    #[tokio::test(start_paused = true)]
    async fn verified_pairs_are_remembered_for_a_while_and_in_bounded_number() {
        let users = Users::default();
        users.remember([1; 32]);
        assert!(users.is_verified(&[1; 32]) && !users.is_verified(&[2; 32]));
        tokio::time::advance(VERIFIED_FOR).await;
        assert!(!users.is_verified(&[1; 32]));
        for number in 0..=MAX_VERIFIED as u64 {
            let mut pair = [0; 32];
            pair[..8].copy_from_slice(&number.to_be_bytes());
            users.remember(pair);
        }
        assert!(users.verified.lock().len() <= MAX_VERIFIED);
    }
}
