//! The two kinds of replicas.

use serde_json::{Value, json};

/// Which replicas of a registry are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those with a vote and a volume.
    Voter,
    /// Those without either.
    Frontend,
}

impl Part {
    /// In labels.
    pub(crate) const fn component(self) -> &'static str {
        match self {
            Self::Voter => "replica",
            Self::Frontend => "frontend",
        }
    }

    /// The StatefulSet, and what the names of its pods begin with.
    pub(crate) fn workload(self, registry: &str) -> String {
        match self {
            Self::Voter => registry.to_owned(),
            Self::Frontend => format!("{registry}-frontend"),
        }
    }

    /// The headless Service that gives each a name.
    pub(crate) fn peers(self, registry: &str) -> String {
        match self {
            Self::Voter => format!("{registry}-peers"),
            Self::Frontend => format!("{registry}-frontends"),
        }
    }

    /// Which pods they are.
    pub(crate) fn selector(self, registry: &str) -> Value {
        json!({
            "app.kubernetes.io/name": "roadstead",
            "app.kubernetes.io/instance": registry,
            "app.kubernetes.io/component": self.component(),
        })
    }
}
