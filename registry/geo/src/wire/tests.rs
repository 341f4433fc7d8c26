//! Every line, as released: files that this and every later release must read, and that the present one writes.
//!
//! `ROADSTEAD_WRITE_GOLDEN=1 cargo test --workspace --lib wire` writes the files anew, and the difference is looked at in
//! review.

use std::fmt::Debug;
use std::path::Path;

use proptest::prelude::*;
use roadstead_oci::{Algorithm, Hasher};
use serde::de::DeserializeOwned;

use super::*;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, values: &[T]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/wire/v1").join(name);
    let text: String = values.iter().map(|value| String::from_utf8(line(value).unwrap()).unwrap()).collect();
    if std::env::var_os("ROADSTEAD_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(golden, text, "{name} is written otherwise");
    for (value, text) in values.iter().zip(golden.lines()) {
        assert_eq!(serde_json::from_str::<T>(text).unwrap(), *value, "{name} is read as another value");
    }
}

fn digest(content: &str) -> Digest {
    *Hasher::digest(Algorithm::Sha256, content.as_bytes()).get()
}

#[test]
fn golden_feed_lines() {
    let repository: RepositoryName = "team/app".parse().unwrap();
    let tag: Tag = "v1".parse().unwrap();
    let (one, two) = (digest("one"), digest("two"));
    let manifest = WireManifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        text: "{\n  \"schemaVersion\": 2, \"ü\": \"\\u0007\"\n}".to_owned(),
    };
    let repository = || repository.clone();
    let kinds = vec![
        WireKind::BlobLinked { repository: repository(), digest: one, size: 300 },
        WireKind::BlobUnlinked { repository: repository(), digest: one },
        WireKind::ManifestPut {
            repository: repository(),
            digest: two,
            tags: vec![tag.clone()],
            manifest: Some(manifest),
        },
        WireKind::ManifestPut { repository: repository(), digest: two, tags: Vec::new(), manifest: None },
        WireKind::ManifestDeleted { repository: repository(), digest: two },
        WireKind::TagDeleted { repository: repository(), tag },
    ];
    let home = HomeId(ClusterId(7));
    let newest = Position { epoch: 1, sequence: 300 };
    let time = LogTime(1_700_000_000_000);
    let watermark = FeedLine {
        home,
        newest,
        time,
        changes: Vec::new(),
        writes: false,
        region: None,
        reports: false,
        partial: false,
        uploads: None,
    };
    let page = kinds.into_iter().zip(295..).map(|(kind, sequence)| FeedLine {
        changes: vec![WireChange { position: Position { epoch: 1, sequence }, at: time, kind }],
        ..watermark.clone()
    });
    let writes = FeedLine { writes: true, ..watermark.clone() };
    let reports = FeedLine { reports: true, ..watermark.clone() };
    let partial = FeedLine { partial: true, ..watermark.clone() };
    check("feed-of-a-part", &[partial]);
    check("feed", &page.chain([watermark.clone(), writes, reports]).collect::<Vec<_>>());
    let upload = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
    let going_on = WireUpload { upload, repository: repository(), offset: 300, digest: None };
    let whole = WireUpload { digest: Some(one), ..going_on.clone() };
    let uploads = [vec![going_on], vec![whole], Vec::new()].map(Some);
    check("feed-uploads", &uploads.map(|uploads| FeedLine { uploads, ..watermark.clone() }));
}

/// A mirror of a release that knows nothing of them reads the line as it would without.
#[test]
fn a_line_without_uploads_is_written_as_before_there_were_any() {
    let home = HomeId(ClusterId(7));
    let (newest, time) = (Position { epoch: 1, sequence: 2 }, LogTime(5));
    let without = FeedLine {
        home,
        newest,
        time,
        changes: Vec::new(),
        writes: false,
        region: None,
        reports: false,
        partial: false,
        uploads: None,
    };
    let written = String::from_utf8(line(&without).unwrap()).unwrap();
    assert!(!written.contains("uploads"), "{written}");
}

#[test]
fn golden_snapshot_lines() {
    let repository: RepositoryName = "team/app".parse().unwrap();
    let (one, two) = (digest("one"), digest("two"));
    let position = Position { epoch: 1, sequence: 300 };
    let lines = [
        SnapshotLine::Begin { home: HomeId(ClusterId(7)), position, time: LogTime(1_700_000_000_000) },
        SnapshotLine::Blobs { repository: repository.clone(), blobs: vec![(one, 300)] },
        SnapshotLine::Manifests { repository: repository.clone(), digests: vec![two] },
        SnapshotLine::Tags { repository, tags: vec![("v1".parse().unwrap(), two)] },
        SnapshotLine::End,
    ];
    check("snapshot", &lines);
}

#[test]
fn what_a_later_release_adds_is_passed_over() {
    let line = r#"{"home":"7","newest":{"epoch":1,"sequence":2},"time":5,"more":true,"changes":[]}"#;
    let read: FeedLine = serde_json::from_str(line).unwrap();
    assert_eq!(read.home, HomeId(ClusterId(7)));
}

proptest! {
    /// The digest is of the bytes, so that not one of them may change on the way.
    #[test]
    fn a_manifest_comes_byte_for_byte(text in any::<String>()) {
        let manifest = WireManifest { media_type: String::new(), text };
        let written = line(&manifest).unwrap();
        prop_assert_eq!(written.iter().position(|byte| *byte == b'\n'), Some(written.len() - 1));
        prop_assert_eq!(serde_json::from_slice::<WireManifest>(&written).unwrap(), manifest);
    }
}

#[test]
fn golden_writes() {
    let (one, two) = (digest("one"), digest("two"));
    let position = Position { epoch: 1, sequence: 300 };
    let answers = [
        WriteAnswer::Done { position, digest: Some(one), subject: Some(two) },
        WriteAnswer::Done { position, digest: None, subject: None },
        WriteAnswer::BlobsUnknown { missing: vec![one, two] },
        WriteAnswer::PreconditionFailed,
        WriteAnswer::Unknown,
        WriteAnswer::NoRemote,
        WriteAnswer::Invalid { reason: "why".to_owned() },
    ];
    check("write-answers", &answers);
    let blobs =
        [BlobAnswer::Held, BlobAnswer::GoesOnAt { offset: 300 }, BlobAnswer::Invalid { reason: "why".to_owned() }];
    check("blob-answers", &blobs);
    check("claim", &[Claim { digests: vec![one, two] }]);
    check("lacking", &[Lacking { digests: vec![two] }]);
    check("standing", &[Standing { offset: 300 }]);
}
