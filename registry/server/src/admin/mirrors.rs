//! `roadstead mirror`: who may follow this registry.

use std::path::Path;

use roadstead_domain::{Fault, Registry, rfc3339};
use roadstead_metadata::AdmittedMirror;
use serde::{Deserialize, Serialize};

use super::client::{Client, block_on};
use super::problem::{Code, Problem};
use super::table::table;

/// The longest name of a mirror.
const MAX_NAME: usize = 63;

/// The answer of `GET /admin/v1/mirrors`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mirrors {
    /// By name.
    pub mirrors: Vec<Admitted>,
}

/// Somebody who may follow this registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the contract")]
pub(super) struct Admitted {
    pub name: String,
    /// Since when the token is good: RFC 3339.
    pub admitted: String,
    /// Whether it may write what clients push there.
    #[serde(default)]
    pub writes: bool,
}

/// The answer of `POST /admin/v1/mirrors/{name}/token`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Minted {
    pub name: String,
    /// Told once: the registry keeps its hash. A token that the mirror had before is not good any more.
    pub token: String,
}

/// The body of `POST /admin/v1/mirrors/{name}/token`, which may be left out. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mint {
    /// Whether the mirror may write what clients push there.
    #[serde(default)]
    pub writes: bool,
}

/// The answer of `POST /admin/v1/mirrors/{name}/dismiss`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dismissed {
    pub name: String,
    /// Whether it had a token.
    pub dismissed: bool,
}

pub(super) fn list(registry: &Registry) -> Result<Mirrors, Fault> {
    let admitted = registry.metadata().query()?.admitted_mirrors()?;
    let mirrors = admitted.into_iter().map(|AdmittedMirror { name, admitted, writes }| Admitted {
        name,
        admitted: rfc3339(&admitted),
        writes,
    });
    Ok(Mirrors { mirrors: mirrors.collect() })
}

pub(super) async fn mint(registry: &Registry, name: String, writes: bool) -> Result<Minted, Problem> {
    check(&name)?;
    let token = registry.admit_mirror(&name, writes).await?;
    Ok(Minted { name, token })
}

pub(super) async fn dismiss(registry: &Registry, name: String) -> Result<Dismissed, Problem> {
    check(&name)?;
    let dismissed = registry.dismiss_mirror(&name).await?;
    Ok(Dismissed { name, dismissed })
}

/// It stands in paths, logs and labels.
fn check(name: &str) -> Result<(), Problem> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        let why = format!("{name:?} is no name of a mirror: those are 1 to {MAX_NAME} of a-z, 0-9, - and .");
        return Err(Problem::new(Code::BadRequest, why));
    }
    Ok(())
}

/// Asks the registry on `data`, and gives what is to be printed.
pub(crate) fn run(data: &Path, as_json: bool) -> anyhow::Result<String> {
    let mirrors: Mirrors = block_on(async { Client::connect(data).await?.get("/admin/v1/mirrors").await })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&mirrors)? + "\n");
    }
    if mirrors.mirrors.is_empty() {
        return Ok("no mirror has a token of this registry\n".to_owned());
    }
    let rows: Vec<_> = mirrors
        .mirrors
        .into_iter()
        .map(|Admitted { name, admitted, writes }| [name, admitted, if writes { "yes" } else { "no" }.to_owned()])
        .collect();
    Ok(table(["MIRROR", "ADMITTED", "WRITES"], &rows))
}

/// Mints a token, and gives it for printing: alone, so that it can go into a file.
pub(crate) fn token(data: &Path, name: &str, writes: bool, as_json: bool) -> anyhow::Result<String> {
    let path = format!("/admin/v1/mirrors/{name}/token");
    let mint = Mint { writes };
    let minted: Minted = block_on(async { Client::connect(data).await?.command_with(&path, &mint).await })?;
    if as_json { Ok(serde_json::to_string_pretty(&minted)? + "\n") } else { Ok(minted.token + "\n") }
}

/// Takes a mirror's token back.
pub(crate) fn dismiss_by_name(data: &Path, name: &str, as_json: bool) -> anyhow::Result<String> {
    let path = format!("/admin/v1/mirrors/{name}/dismiss");
    let done: Dismissed = block_on(async { Client::connect(data).await?.command(&path).await })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&done)? + "\n");
    }
    Ok(if done.dismissed {
        format!("{name} may not follow this registry any more\n")
    } else {
        format!("{name} had no token\n")
    })
}
