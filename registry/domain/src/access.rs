//! Who may do what: one decision that every route passes through.
//!
//! ```text
//! Route --Right needed--> decide(policy, identity, route) --> Allow | Challenge | Hide | Deny
//! ```
//!
//! Promise P11: to somebody who may not pull from a repository, it looks as if it did not exist.

use roadstead_oci::{Action, RepositoryName, Route};

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody who has said who they are.
    Anonymous,
    /// Somebody who proved it.
    User(Box<str>),
}

/// What one may do in one repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// See it and read from it.
    pub pull: bool,
    /// Write to it.
    pub push: bool,
    /// Delete from it.
    pub delete: bool,
}

impl Rights {
    const NONE: Self = Self { pull: false, push: false, delete: false };
    const PULL: Self = Self { pull: true, push: false, delete: false };
    const ALL: Self = Self { pull: true, push: true, delete: true };
}

/// The rules of one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessPolicy {
    /// Everybody may do everything: there is no login.
    Open,
    /// Whoever logs in may do everything; others may pull, if `anonymous_pull` says so.
    Login {
        /// Whether pulling needs no login.
        anonymous_pull: bool,
    },
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is done.
    Allow,
    /// It has to come back with credentials: 401.
    Challenge,
    /// It is answered as if what it names did not exist: 404.
    Hide,
    /// What it names may be seen, but this may not be done to it: 403.
    Deny,
}

impl AccessPolicy {
    /// What `identity` may do in `repository`. Asked again for each repository that an answer would show: entries of
    /// the catalog, sources of a mount.
    pub fn rights(self, identity: &Identity, _repository: &RepositoryName) -> Rights {
        match (self, identity) {
            (Self::Open, _) | (Self::Login { .. }, Identity::User(_)) => Rights::ALL,
            (Self::Login { anonymous_pull: true }, Identity::Anonymous) => Rights::PULL,
            (Self::Login { anonymous_pull: false }, Identity::Anonymous) => Rights::NONE,
        }
    }

    /// Whether `identity` gets past the door without naming a repository. `docker login` checks here, so that it must
    /// be challenged wherever there is a login at all.
    const fn may_enter(self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::Open, _) | (Self::Login { .. }, Identity::User(_)) => true,
            (Self::Login { .. }, Identity::Anonymous) => false,
        }
    }
}

/// Decides whether a request may be done.
pub fn decide(policy: AccessPolicy, identity: &Identity, route: &Route) -> Decision {
    let (Some(repository), action) = (route.repository(), route.action()) else {
        return if policy.may_enter(identity) { Decision::Allow } else { Decision::Challenge };
    };
    let rights = policy.rights(identity, repository);
    let granted = match action {
        Action::Pull => rights.pull,
        Action::Push => rights.push,
        Action::Delete => rights.delete,
        Action::Ping | Action::Catalog => policy.may_enter(identity),
    };
    match (granted, identity) {
        (true, _) => Decision::Allow,
        (false, Identity::Anonymous) => Decision::Challenge,
        (false, Identity::User(_)) if rights.pull => Decision::Deny,
        (false, Identity::User(_)) => Decision::Hide,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str) -> Route {
        Route::parse(method, path, None).expect("a route")
    }

    /// One route of each action.
    fn routes() -> [(Action, Route); 5] {
        let digest = format!("sha256:{}", "0".repeat(64));
        [
            (Action::Ping, route("GET", "/v2/")),
            (Action::Catalog, route("GET", "/v2/_catalog")),
            (Action::Pull, route("GET", "/v2/app/manifests/v1")),
            (Action::Push, route("POST", "/v2/app/blobs/uploads/")),
            (Action::Delete, route("DELETE", &format!("/v2/app/blobs/{digest}"))),
        ]
    }

    #[test]
    fn an_open_registry_allows_everything() {
        for (action, route) in routes() {
            assert_eq!(route.action(), action);
            assert_eq!(decide(AccessPolicy::Open, &Identity::Anonymous, &route), Decision::Allow);
        }
    }

    #[test]
    fn p11_without_a_login_everything_is_challenged_but_pulls_where_they_are_anonymous() {
        for anonymous_pull in [false, true] {
            let policy = AccessPolicy::Login { anonymous_pull };
            for (action, route) in routes() {
                let expected =
                    if anonymous_pull && action == Action::Pull { Decision::Allow } else { Decision::Challenge };
                assert_eq!(decide(policy, &Identity::Anonymous, &route), expected, "{action:?}");
                assert_eq!(decide(policy, &Identity::User("alice".into()), &route), Decision::Allow);
            }
        }
    }
}
