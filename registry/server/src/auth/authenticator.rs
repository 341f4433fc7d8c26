//! Takes the credentials of a request and says who it is.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use prometheus::IntCounterVec;
use roadstead_domain::{Entropy, Identity};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::htpasswd::{PairTag, Users};
use crate::watched::Watched;

/// Logins that may wait for their hash to be computed. At 50 ms each on two cores the last one waits 6 s, less than the
/// 15 s after which `docker login` gives up; more are told to come back.
const MAX_WAITING: usize = 256;

/// Why a request is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// The header is not one `Basic` credential.
    #[error("the Authorization header is not one Basic credential")]
    Malformed,
    /// There is no such user, or the password is another one: which of the two is not told.
    #[error("the user or the password is wrong")]
    WrongPassword,
    /// Too many logins at once: come back soon.
    #[error("too many logins at once")]
    Overloaded,
}

impl AuthError {
    /// In metrics.
    const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongPassword => "wrong",
            Self::Overloaded => "overloaded",
        }
    }
}

/// Knows the users, if there are any.
pub(crate) struct Authenticator {
    users: Option<Arc<Watched<Users, 1>>>,
    /// Requests that were nobody's, by why.
    failures: IntCounterVec,
    /// Under which pairs are hashed for the cache, so that the process' memory holds nothing from which a password
    /// could be computed on another machine without this key.
    key: [u8; 32],
    waiting: Semaphore,
    /// One hash for each core at once.
    computing: Arc<Semaphore>,
}

impl Authenticator {
    /// With no users, everybody is anonymous.
    pub(crate) fn new(users: Option<Arc<Watched<Users, 1>>>, failures: IntCounterVec, entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (waiting, computing) = (Semaphore::new(MAX_WAITING), Arc::new(Semaphore::new(cores)));
        Self { users, failures, key, waiting, computing }
    }

    /// What a 401 answer asks for.
    #[expect(clippy::unused_self, reason = "what is asked for is the authenticator's to say: tokens will be")]
    pub(crate) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static("Basic realm=\"Roadstead\", charset=\"UTF-8\"")
    }

    /// Who sent a request with these headers.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        let identity = self.identify(headers).await;
        if let Err(error) = &identity {
            self.failures.with_label_values(&[error.label()]).inc();
        }
        identity
    }

    async fn identify(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        let Some(users) = &self.users else { return Ok(Identity::Anonymous) };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (credentials, others) = (given.next(), given.next());
        let Some(credentials) = credentials else { return Ok(Identity::Anonymous) };
        if others.is_some() {
            return Err(AuthError::Malformed);
        }
        let (user, password) = parse_basic(credentials).ok_or(AuthError::Malformed)?;
        let pair = self.tag(&user, &password);
        let users = users.current();
        if !users.is_verified(&pair) {
            self.verify(&users, &user, password).await?;
            users.remember(pair);
        }
        Ok(Identity::User(user))
    }

    async fn verify(&self, users: &Arc<Users>, user: &str, password: Box<[u8]>) -> Result<(), AuthError> {
        let _place = self.waiting.try_acquire().map_err(|_| AuthError::Overloaded)?;
        let core = Arc::clone(&self.computing).acquire_owned().await.map_err(|_| AuthError::Overloaded)?;
        let (users, user) = (Arc::clone(users), Box::<str>::from(user));
        // The permit goes with the computation, which outlives a request that is given up.
        let verified = tokio::task::spawn_blocking(move || {
            let _core = core;
            users.verify(&user, &password)
        });
        match verified.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(AuthError::WrongPassword),
            Err(_) => Err(AuthError::Overloaded),
        }
    }

    fn tag(&self, user: &str, password: &[u8]) -> PairTag {
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        hasher.update((user.len() as u64).to_be_bytes());
        hasher.update(user);
        hasher.update(password);
        hasher.finalize().into()
    }
}

/// The user and password of `Basic base64(user:password)` (RFC 7617).
fn parse_basic(value: &HeaderValue) -> Option<(Box<str>, Box<[u8]>)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at(colon);
    let user = std::str::from_utf8(user).ok()?;
    Some((user.into(), password.get(1..)?.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use prometheus::Opts;

    use super::*;

    struct Fixed;

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    fn failures() -> IntCounterVec {
        IntCounterVec::new(Opts::new("failures", "help"), &["reason"]).unwrap()
    }

    /// An authenticator with the user `ann`, whose password is `secret:1`.
    fn authenticator() -> Authenticator {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        fs::write(&path, format!("ann:{}", bcrypt::hash("secret:1", 4).unwrap())).unwrap();
        Authenticator::new(Some(Arc::new(Watched::open([path]).unwrap())), failures(), &Fixed)
    }

    #[tokio::test]
    async fn credentials_are_verified() {
        let authenticator = authenticator();
        let user = |name: &str| Ok(Identity::User(name.into()));
        for (values, expected) in [
            (vec![], Ok(Identity::Anonymous)),
            (vec![basic("ann:secret:1")], user("ann")),
            (vec![basic("ann:secret:1").replace("Basic", "bASIC")], user("ann")),
            (vec![basic("ann:secret")], Err(AuthError::WrongPassword)),
            (vec![basic("ann:")], Err(AuthError::WrongPassword)),
            (vec![basic("eve:secret:1")], Err(AuthError::WrongPassword)),
            (vec![basic("annsecret")], Err(AuthError::Malformed)),
            (vec!["Basic %%%".to_owned()], Err(AuthError::Malformed)),
            (vec!["Basic".to_owned()], Err(AuthError::Malformed)),
            (vec!["Bearer abc".to_owned()], Err(AuthError::Malformed)),
            (vec![basic("ann:secret:1"), basic("ann:secret:1")], Err(AuthError::Malformed)),
        ] {
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            assert_eq!(authenticator.authenticate(&headers(&values)).await, expected, "{values:?}");
        }
        let counted = ["wrong", "malformed", "overloaded"]
            .map(|reason| authenticator.failures.with_label_values(&[reason]).get());
        assert_eq!(counted, [3, 5, 0], "each that was not taken, and nobody who gave none");
    }

    #[tokio::test]
    async fn a_verified_pair_is_not_hashed_again() {
        let authenticator = authenticator();
        let headers = headers(&[&basic("ann:secret:1")]);
        authenticator.authenticate(&headers).await.unwrap();
        authenticator.computing.close();
        assert_eq!(authenticator.authenticate(&headers).await, Ok(Identity::User("ann".into())));
    }

    #[tokio::test]
    async fn too_many_logins_at_once_are_sent_away() {
        let authenticator = authenticator();
        let _all = authenticator.waiting.acquire_many(u32::try_from(MAX_WAITING).unwrap()).await.unwrap();
        let answer = authenticator.authenticate(&headers(&[&basic("ann:secret:1")])).await;
        assert_eq!(answer, Err(AuthError::Overloaded));
    }

    #[tokio::test]
    async fn without_users_everybody_is_anonymous() {
        let open = Authenticator::new(None, failures(), &Fixed);
        assert_eq!(open.authenticate(&headers(&[&basic("ann:x")])).await, Ok(Identity::Anonymous));
    }
}
