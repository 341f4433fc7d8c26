//! `roadstead aside`: what this region acknowledged as home and its successor does not have.

use std::path::Path;

use roadstead_domain::{Fault, Registry, rfc3339};
use roadstead_geo::{PushAgainError, PushedAgain, WriteError};
use roadstead_metadata::{AsideChange, ChangeKind, Position};
use roadstead_oci::Tag;
use serde::{Deserialize, Serialize};

use super::api::Admin;
use super::client::{Client, block_on};
use super::problem::{Code, Problem};
use super::region::following;
use super::table::table;

const ASIDE: &str = "/admin/v1/aside";
const PUSH: &str = "/admin/v1/aside/push";
const DISMISS: &str = "/admin/v1/aside/dismiss";

/// Changes in one answer: with 50 tags of 128 characters each, they are 700 KB.
const PAGE: usize = 100;

/// The answer of `GET /admin/v1/aside`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aside {
    /// In the order in which they happened.
    pub changes: Vec<AsideView>,
    /// Whether there are more, behind the last of these: `GET /admin/v1/aside?epoch=E&after=S`.
    pub more: bool,
}

/// A change that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AsideView {
    /// Its place in the feed that this region had as home.
    pub epoch: u64,
    pub sequence: u64,
    /// RFC 3339.
    pub time: String,
    /// `manifest-put`, `manifest-deleted` or `tag-deleted`.
    pub kind: String,
    pub repository: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whether the new home has it all the same, as far as this mirror of it knows.
    pub is_at_home: bool,
    /// Whether its manifest is kept, so that it can be pushed again: not, if it was deleted again.
    pub kept: bool,
}

/// The body of `POST /admin/v1/aside/push`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PushRequest {
    pub epoch: u64,
    pub sequence: u64,
    /// Also those of its tags that point elsewhere at home now.
    #[serde(default)]
    pub move_tags: bool,
    /// But not these, which a later change moved or deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_tags: Vec<Tag>,
}

/// Its answer. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pushed {
    pub repository: String,
    pub digest: String,
    /// Tags that point at it now.
    pub tags: Vec<String>,
    /// Tags that point elsewhere and were left alone. Then it is still kept aside.
    pub tags_left: Vec<String>,
}

/// The body of `POST /admin/v1/aside/dismiss`: one change, or all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DismissRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    #[serde(default)]
    pub all: bool,
}

/// Its answer. Fields are added, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DismissedAside {
    pub dismissed: u64,
}

pub(super) fn list(registry: &Registry, after: Option<Position>) -> Result<Aside, Problem> {
    let mut changes = registry.aside(after, PAGE + 1)?;
    let more = changes.len() > PAGE;
    changes.truncate(PAGE);
    Ok(Aside { changes: changes.into_iter().map(view).collect(), more })
}

fn view(change: AsideChange) -> AsideView {
    let AsideChange { position, at, kind, manifest, is_so } = change;
    let repository = kind.repository().to_string();
    let (kind, digest, tags) = match kind {
        ChangeKind::ManifestPut { digest, tags, .. } => ("manifest-put", Some(digest), tags),
        ChangeKind::ManifestDeleted { digest, .. } => ("manifest-deleted", Some(digest), Vec::new()),
        ChangeKind::TagDeleted { tag, .. } => ("tag-deleted", None, vec![tag]),
        ChangeKind::BlobLinked { digest, .. } => ("blob-linked", Some(digest), Vec::new()),
        ChangeKind::BlobUnlinked { digest, .. } => ("blob-unlinked", Some(digest), Vec::new()),
    };
    AsideView {
        epoch: position.epoch,
        sequence: position.sequence,
        time: rfc3339(&at),
        kind: kind.to_owned(),
        repository,
        digest: digest.map(|digest| digest.to_string()),
        tags: texts(&tags),
        is_at_home: is_so,
        kept: manifest.is_some(),
    }
}

pub(super) async fn push(admin: &Admin, request: PushRequest) -> Result<Pushed, Problem> {
    let PushRequest { epoch, sequence, move_tags, without_tags } = request;
    let mirror = following(admin)?;
    let PushedAgain { repository, digest, tags, left } =
        mirror.push_again(Position { epoch, sequence }, move_tags, &without_tags).await?;
    Ok(Pushed {
        repository: repository.to_string(),
        digest: digest.to_string(),
        tags: texts(&tags),
        tags_left: texts(&left),
    })
}

pub(super) async fn dismiss(registry: &Registry, request: DismissRequest) -> Result<DismissedAside, Problem> {
    let position = match request {
        DismissRequest { epoch: Some(epoch), sequence: Some(sequence), all: false } => {
            Some(Position { epoch, sequence })
        }
        DismissRequest { epoch: None, sequence: None, all: true } => None,
        _ => return Err(Problem::new(Code::BadRequest, "either an epoch and a sequence are named, or all")),
    };
    Ok(DismissedAside { dismissed: registry.dismiss_aside(position).await? })
}

fn texts(things: &[impl ToString]) -> Vec<String> {
    things.iter().map(ToString::to_string).collect()
}

impl From<PushAgainError> for Problem {
    fn from(error: PushAgainError) -> Self {
        match error {
            PushAgainError::Write(WriteError::Fault(fault)) => Fault::into(fault),
            PushAgainError::Write(WriteError::ReadOnly) => Self::new(
                Code::Unfit,
                "home does not let this mirror write: `roadstead mirror token --writes` there mints a token for that",
            ),
            PushAgainError::Write(
                WriteError::HomeAway(_) | WriteError::Unclear(_) | WriteError::NotShownYet | WriteError::NoRemote,
            ) => Self::new(Code::Unavailable, error),
            PushAgainError::Unknown
            | PushAgainError::Write(
                WriteError::BlobsUnknown(_)
                | WriteError::PreconditionFailed
                | WriteError::Unknown
                | WriteError::Invalid(_),
            ) => Self::new(Code::Unfit, error),
        }
    }
}

/// Which of those that are kept aside are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// The one with this sequence.
    One(u64),
    All,
}

/// Asks the registry on `data`, and gives what is to be printed.
pub(crate) fn run(data: &Path, as_json: bool) -> anyhow::Result<String> {
    let changes = block_on(async { all(&mut Client::connect(data).await?).await })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&Aside { changes, more: false })? + "\n");
    }
    if changes.is_empty() {
        return Ok("nothing is kept aside\n".to_owned());
    }
    Ok(text(&changes))
}

async fn all(client: &mut Client) -> anyhow::Result<Vec<AsideView>> {
    let mut page: Aside = client.get(ASIDE).await?;
    let mut changes = std::mem::take(&mut page.changes);
    while page.more
        && let Some(AsideView { epoch, sequence, .. }) = changes.last()
    {
        page = client.get(&format!("{ASIDE}?epoch={epoch}&after={sequence}")).await?;
        changes.append(&mut page.changes);
    }
    Ok(changes)
}

async fn chosen(client: &mut Client, which: Which) -> anyhow::Result<Vec<AsideView>> {
    let mut changes = all(client).await?;
    if let Which::One(wanted) = which {
        changes.retain(|change| change.sequence == wanted);
        anyhow::ensure!(!changes.is_empty(), "nothing is kept aside under {wanted}: `roadstead aside` lists what is");
    }
    Ok(changes)
}

fn text(changes: &[AsideView]) -> String {
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            let at_home = if change.is_at_home { "yes" } else { "no" };
            [
                change.sequence.to_string(),
                change.time.clone(),
                change.kind.clone(),
                change.repository.clone(),
                change.tags.join(","),
                change.digest.clone().unwrap_or_default(),
                at_home.to_owned(),
            ]
        })
        .collect();
    table(["SEQUENCE", "TIME", "CHANGE", "REPOSITORY", "TAGS", "DIGEST", "AT HOME"], &rows)
}

/// Pushes what is kept aside at home, the oldest first; gives what is to be printed.
pub(crate) fn run_push(data: &Path, which: Which, move_tags: bool, as_json: bool) -> anyhow::Result<String> {
    let pushed = block_on(async {
        let mut client = Client::connect(data).await?;
        let mut pushed = Vec::new();
        // Of what was deleted again, and of deletions, there is nothing to push.
        let one = matches!(which, Which::One(_));
        let changes = chosen(&mut client, which).await?;
        for (number, change) in changes.iter().enumerate().filter(|(_, change)| change.kept || one) {
            let without_tags = moved_later(change, changes.get(number + 1..).unwrap_or_default());
            let request = PushRequest { epoch: change.epoch, sequence: change.sequence, move_tags, without_tags };
            pushed.push(client.command_with::<Pushed>(PUSH, &request).await?);
        }
        Ok(pushed)
    })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&pushed)? + "\n");
    }
    if pushed.is_empty() {
        return Ok("there is nothing to push again\n".to_owned());
    }
    Ok(pushed.iter().map(pushed_text).collect())
}

/// The tags of a change that one of the later ones moved or deleted: where they are in the end, that one says.
fn moved_later(change: &AsideView, later: &[AsideView]) -> Vec<Tag> {
    let is_moved =
        |tag: &&String| later.iter().any(|later| later.repository == change.repository && later.tags.contains(tag));
    change.tags.iter().filter(is_moved).filter_map(|tag| tag.parse().ok()).collect()
}

fn pushed_text(pushed: &Pushed) -> String {
    let Pushed { repository, digest, tags, tags_left } = pushed;
    let tags = if tags.is_empty() { String::new() } else { format!(", as {}", tags.join(", ")) };
    let left = if tags_left.is_empty() {
        String::new()
    } else {
        let left = tags_left.join(", ");
        format!(
            "; {left} is another manifest at home and was left alone: `--move-tags` moves it, `aside dismiss` forgets it"
        )
    };
    format!("{repository} {digest} is at home{tags}{left}\n")
}

/// Forgets one, or all; gives what is to be printed.
pub(crate) fn run_dismiss(data: &Path, which: Which, as_json: bool) -> anyhow::Result<String> {
    let done: DismissedAside = block_on(async {
        let mut client = Client::connect(data).await?;
        if let Which::All = which {
            let request = DismissRequest { all: true, ..DismissRequest::default() };
            return client.command_with(DISMISS, &request).await;
        }
        let mut done = DismissedAside { dismissed: 0 };
        for AsideView { epoch, sequence, .. } in chosen(&mut client, which).await? {
            let request = DismissRequest { epoch: Some(epoch), sequence: Some(sequence), all: false };
            done.dismissed += client.command_with::<DismissedAside>(DISMISS, &request).await?.dismissed;
        }
        Ok(done)
    })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&done)? + "\n");
    }
    Ok(format!("{} changes are forgotten\n", done.dismissed))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn aside() -> Aside {
        let put = AsideView {
            epoch: 1,
            sequence: 301,
            time: "2026-07-01T12:00:00.000Z".to_owned(),
            kind: "manifest-put".to_owned(),
            repository: "team/app".to_owned(),
            digest: Some(format!("sha256:{}", "0".repeat(64))),
            tags: vec!["v1".to_owned()],
            is_at_home: false,
            kept: true,
        };
        let deleted = AsideView {
            sequence: 302,
            kind: "tag-deleted".to_owned(),
            digest: None,
            kept: false,
            is_at_home: true,
            ..put.clone()
        };
        Aside { changes: vec![put, deleted], more: false }
    }

    pub(crate) fn push_request() -> PushRequest {
        PushRequest { epoch: 1, sequence: 301, move_tags: true, without_tags: Vec::new() }
    }

    #[test]
    fn of_a_tag_that_was_moved_twice_the_last_place_is_pushed() {
        let first = aside().changes[0].clone();
        let second = AsideView { sequence: 303, tags: vec!["v1".to_owned(), "v2".to_owned()], ..first.clone() };
        let elsewhere = AsideView { repository: "other/app".to_owned(), ..second.clone() };
        assert_eq!(moved_later(&first, std::slice::from_ref(&second)), ["v1".parse().unwrap()]);
        assert_eq!(moved_later(&second, std::slice::from_ref(&first)), ["v1".parse().unwrap()]);
        assert!(moved_later(&first, &[elsewhere]).is_empty() && moved_later(&first, &[]).is_empty());
        let deleted = aside().changes[1].clone();
        assert_eq!(moved_later(&first, &[deleted]), ["v1".parse().unwrap()]);
    }

    pub(crate) fn pushed() -> Pushed {
        Pushed {
            repository: "team/app".to_owned(),
            digest: format!("sha256:{}", "0".repeat(64)),
            tags: vec!["v1".to_owned()],
            tags_left: vec!["latest".to_owned()],
        }
    }

    #[test]
    fn people_see_what_is_missing_at_the_new_home() {
        let text = text(&aside().changes);
        for words in ["SEQUENCE", "301", "manifest-put", "team/app", "v1", "no", "302", "tag-deleted"] {
            assert!(text.contains(words), "no {words:?} in:\n{text}");
        }
    }

    #[test]
    fn people_see_which_tags_were_left_alone() {
        let text = pushed_text(&pushed());
        assert!(text.contains("as v1") && text.contains("latest is another manifest"), "{text}");
        let text = pushed_text(&Pushed { tags_left: Vec::new(), ..pushed() });
        assert!(text.ends_with("is at home, as v1\n"), "{text}");
    }
}
