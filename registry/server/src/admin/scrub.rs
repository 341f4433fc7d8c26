//! `roadstead scrub`: a pass right now, and what it finds.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use roadstead_domain::{Finding, Tally};
use serde::{Deserialize, Serialize};

use super::client::{Client, block_on};
use super::table::{bytes, columns};
use crate::failure::Failure;
use crate::scrub::Event;

/// What the process ends with if something is not as it should be. 1 is that of a scrub that could not be made, 2 that
/// of a wrong command line.
const EXIT_DAMAGE: u8 = 3;

/// What `POST /admin/v1/scrub` takes. Fields are added, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Bytes a second, 0 for as many as come; that of the settings if it is not said.
    pub rate: Option<u64>,
    pub orphan_age_seconds: u64,
    pub delete_orphans: bool,
}

/// A line of the answer. The last one is a report or a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Found(Found),
    Progress(Report),
    Report(Report),
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// `damaged`, `missing`, `unreadable`, `miscounted`, `released` or `orphan`.
    pub kind: String,
    pub digest: Option<String>,
    /// Of a manifest.
    pub repository: Option<String>,
    pub object: Option<String>,
    pub reason: String,
}

/// See [`Tally`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub percent: u8,
    pub contents: u64,
    pub bytes: u64,
    pub damaged: u64,
    pub missing: u64,
    pub unreadable: u64,
    pub miscounted: u64,
    pub released: u64,
    pub orphans: u64,
    pub orphan_bytes: u64,
    pub condemned: u64,
    pub multiparts: u64,
    /// Whether everything is there and as it should be.
    pub sound: bool,
}

impl From<Event> for Line {
    fn from(event: Event) -> Self {
        match event {
            Event::Found(finding) => Self::Found(finding.into()),
            Event::Progress(tally) => Self::Progress(tally.into()),
            Event::Ended(Ok(tally)) => Self::Report(tally.into()),
            Event::Ended(Err(fault)) => Self::Failed(fault.to_string()),
        }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        let Finding { kind, digest, repository, key, reason } = finding;
        Self {
            kind: kind.as_str().to_owned(),
            digest: digest.map(|digest| digest.to_string()),
            repository: repository.map(|repository| repository.to_string()),
            object: key.map(|key| key.to_string()),
            reason,
        }
    }
}

impl From<Tally> for Report {
    fn from(tally: Tally) -> Self {
        Self {
            percent: tally.percent,
            contents: tally.contents,
            bytes: tally.bytes,
            damaged: tally.damaged,
            missing: tally.missing,
            unreadable: tally.unreadable,
            miscounted: tally.miscounted,
            released: tally.released,
            orphans: tally.orphans,
            orphan_bytes: tally.orphan_bytes,
            condemned: tally.condemned,
            multiparts: tally.multiparts,
            sound: tally.is_sound(),
        }
    }
}

/// Lets the registry on `data` make a pass, and prints what it finds as it finds it.
pub(crate) fn run(data: &Path, request: Request, as_json: bool) -> anyhow::Result<ExitCode> {
    let report = block_on(async {
        let mut client = Client::connect(data).await?;
        let mut lines = client.post("/admin/v1/scrub", &request).await?;
        let mut shown = Shown { as_json, terminal: io::stderr().is_terminal() };
        while let Some(line) = lines.next().await? {
            match line {
                Line::Found(found) => shown.found(&found)?,
                Line::Progress(progress) => shown.progress(&progress),
                Line::Report(report) => {
                    shown.report(&report)?;
                    return Ok(report);
                }
                Line::Failed(reason) => {
                    let next = "look at the registry's log and at its blob store, then scrub again";
                    return Err(Failure::new("the scrub could not go on", next).because(anyhow::Error::msg(reason)));
                }
            }
        }
        let cause = anyhow::Error::msg("its answer ended without a report");
        Err(Failure::new("the registry stopped before the scrub was over", "start it, and scrub again").because(cause))
    })?;
    Ok(if report.sound { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGE) })
}

/// What a person, or a program, is shown.
struct Shown {
    as_json: bool,
    /// Whether there is one that shows progress.
    terminal: bool,
}

/// Back to the beginning of the line, and away with what is there.
const CLEAR_LINE: &str = "\r\x1b[2K";

impl Shown {
    fn found(&self, found: &Found) -> anyhow::Result<()> {
        self.clear();
        if self.as_json {
            return print(&(serde_json::to_string(&Line::Found(found.clone()))? + "\n"));
        }
        print(&text(found))
    }

    fn progress(&self, progress: &Report) {
        if self.terminal {
            let Report { percent, contents, .. } = progress;
            let read = bytes(progress.bytes);
            // Whoever cannot be shown this misses nothing.
            let _ =
                write!(io::stderr(), "{CLEAR_LINE}scrubbing: {percent} % of the blobs, {contents} contents, {read}");
        }
    }

    fn report(&mut self, report: &Report) -> anyhow::Result<()> {
        self.clear();
        if self.as_json {
            return print(&(serde_json::to_string(&Line::Report(report.clone()))? + "\n"));
        }
        print(&table(report))
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "{CLEAR_LINE}");
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn text(found: &Found) -> String {
    let Found { kind, digest, repository, object, reason } = found;
    let what = match (digest, repository) {
        (Some(digest), Some(repository)) => format!("manifest {repository}@{digest}"),
        (Some(digest), None) => format!("blob {digest}"),
        (None, _) => "object".to_owned(),
    };
    let object = object.as_ref().map(|object| format!(" ({object})")).unwrap_or_default();
    format!("{kind}: {what}{object}: {reason}\n")
}

fn table(report: &Report) -> String {
    let orphans = match (report.orphans, report.condemned) {
        (0, _) => "0".to_owned(),
        (orphans, 0) => format!("{orphans}, {} in all: delete them with --delete-orphans", bytes(report.orphan_bytes)),
        (orphans, condemned) => {
            format!("{orphans}, {} in all; {condemned} are being deleted", bytes(report.orphan_bytes))
        }
    };
    let mut rows = vec![
        ("examined", format!("{} blobs and manifests, {}", report.contents, bytes(report.bytes))),
        ("damaged", report.damaged.to_string()),
        ("missing", report.missing.to_string()),
        ("unreadable", report.unreadable.to_string()),
        ("miscounted", report.miscounted.to_string()),
        ("released", report.released.to_string()),
        ("orphans", orphans),
        ("left-over uploads", report.multiparts.to_string()),
    ];
    if report.damaged + report.missing > 0 {
        rows.push(("next", "push again what is damaged or missing: it is set aside until then".to_owned()));
    }
    if report.unreadable > 0 {
        rows.push(("next", "look at the disk or bucket, and scrub again: what is unreadable may be sound".to_owned()));
    }
    if report.miscounted > 0 {
        rows.push(("next", "report the miscounted blobs as a bug; nothing is lost yet".to_owned()));
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_it_so() {
        let digest = Some("sha256:ab".to_owned());
        let blob = Found {
            kind: "damaged".to_owned(),
            digest: digest.clone(),
            repository: None,
            object: Some("blobs/1".to_owned()),
            reason: "its bytes have the digest sha256:cd".to_owned(),
        };
        let manifest = Found { repository: Some("team/app".to_owned()), object: None, ..blob.clone() };
        let reason = "no fact knows this object".to_owned();
        let orphan = Found { kind: "orphan".to_owned(), digest: None, reason, ..blob.clone() };
        let report = Report {
            contents: 12,
            bytes: 5 << 30,
            damaged: 2,
            orphans: 1,
            orphan_bytes: 1_000,
            sound: false,
            ..Report::default()
        };
        let shown = [text(&blob), text(&manifest), text(&orphan), table(&report)].concat();
        insta::assert_snapshot!(shown, @r"
        damaged: blob sha256:ab (blobs/1): its bytes have the digest sha256:cd
        damaged: manifest team/app@sha256:ab: its bytes have the digest sha256:cd
        orphan: object (blobs/1): no fact knows this object
        examined           12 blobs and manifests, 5.0 GiB
        damaged            2
        missing            0
        unreadable         0
        miscounted         0
        released           0
        orphans            1, 1000 B in all: delete them with --delete-orphans
        left-over uploads  0
        next               push again what is damaged or missing: it is set aside until then
        ");
    }

    #[test]
    fn the_lines_are_these() {
        let found = Found {
            kind: "missing".to_owned(),
            digest: Some("sha256:ab".to_owned()),
            repository: None,
            object: Some("blobs/1".to_owned()),
            reason: "its object is not in the store".to_owned(),
        };
        let lines = [
            Line::Found(found),
            Line::Report(Tally { percent: 100, contents: 1, missing: 1, ..Tally::default() }.into()),
            Line::Failed("the blob store is away".to_owned()),
        ];
        let lines = lines.map(|line| serde_json::to_string(&line).unwrap()).join("\n");
        insta::assert_snapshot!(lines, @r#"
        {"found":{"kind":"missing","digest":"sha256:ab","repository":null,"object":"blobs/1","reason":"its object is not in the store"}}
        {"report":{"percent":100,"contents":1,"bytes":0,"damaged":0,"missing":1,"unreadable":0,"miscounted":0,"released":0,"orphans":0,"orphan_bytes":0,"condemned":0,"multiparts":0,"sound":false}}
        {"failed":"the blob store is away"}
        "#);
    }
}
