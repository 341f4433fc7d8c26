//! Home's side of a comparison: everything that it has at one moment.

use roadstead_domain::{Fault, Registry};
use roadstead_metadata::Query;
use roadstead_oci::{Digest, RepositoryName, Tag};

use crate::limits::SNAPSHOT_PAGE;
use crate::wire::{HomeId, SnapshotLine, line};

/// The lines of a snapshot, made one by one. The view of the facts is held as long as this is.
pub struct SnapshotLines {
    query: Query,
    begin: Option<SnapshotLine>,
    repository: Option<RepositoryName>,
    stage: Stage,
}

enum Stage {
    Blobs(Option<Digest>),
    Manifests(Option<Digest>),
    Tags(Option<Tag>),
    NextRepository,
    Ended,
}

/// Everything that this registry has.
pub fn snapshot_lines(registry: &Registry) -> Result<SnapshotLines, Fault> {
    let metadata = registry.metadata();
    let query = metadata.query()?;
    let home = HomeId(metadata.identity().cluster);
    let begin = SnapshotLine::Begin { home, position: query.position()?, time: query.time()? };
    Ok(SnapshotLines { query, begin: Some(begin), repository: None, stage: Stage::NextRepository })
}

impl SnapshotLines {
    /// The next line; `None` after the last.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(begin) = self.begin.take() {
            return line(&begin).map(Some);
        }
        loop {
            if let Some(next) = self.step()? {
                return line(&next).map(Some);
            }
            if matches!(self.stage, Stage::Ended) {
                return Ok(None);
            }
        }
    }

    fn step(&mut self) -> Result<Option<SnapshotLine>, Fault> {
        let Some(repository) = self.repository.clone() else { return self.next_repository() };
        match &self.stage {
            Stage::Blobs(after) => {
                // What is damaged here is held all the same: mirrors that have it sound keep it.
                let blobs = self.query.held_blobs(&repository, after.as_ref(), SNAPSHOT_PAGE)?;
                let Some((last, _)) = blobs.last() else {
                    self.stage = Stage::Manifests(None);
                    return Ok(None);
                };
                self.stage = Stage::Blobs(Some(*last));
                Ok(Some(SnapshotLine::Blobs { repository, blobs }))
            }
            Stage::Manifests(after) => {
                let digests = self.query.held_manifests(&repository, after.as_ref(), SNAPSHOT_PAGE)?;
                let Some(last) = digests.last() else {
                    self.stage = Stage::Tags(None);
                    return Ok(None);
                };
                self.stage = Stage::Manifests(Some(*last));
                Ok(Some(SnapshotLine::Manifests { repository, digests }))
            }
            Stage::Tags(after) => {
                let names = self.query.tags(&repository, after.as_ref().map(Tag::as_str), SNAPSHOT_PAGE)?;
                let Some(last) = names.last().cloned() else {
                    self.stage = Stage::NextRepository;
                    return self.next_repository();
                };
                let mut tags = Vec::with_capacity(names.len());
                for name in names {
                    if let Some(digest) = self.query.tag(&repository, &name)? {
                        tags.push((name, digest));
                    }
                }
                self.stage = Stage::Tags(Some(last));
                Ok(Some(SnapshotLine::Tags { repository, tags }))
            }
            Stage::NextRepository => self.next_repository(),
            Stage::Ended => Ok(None),
        }
    }

    fn next_repository(&mut self) -> Result<Option<SnapshotLine>, Fault> {
        if matches!(self.stage, Stage::Ended) {
            return Ok(None);
        }
        let after = self.repository.as_ref().map(RepositoryName::as_str);
        let Some(next) = self.query.repositories(after, 1)?.pop() else {
            self.stage = Stage::Ended;
            return Ok(Some(SnapshotLine::End));
        };
        self.repository = Some(next);
        self.stage = Stage::Blobs(None);
        Ok(None)
    }
}
