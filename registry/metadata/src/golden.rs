//! Every persisted format, as released: files that this and every later release must read, and that the present format
//! writes byte by byte.
//!
//! A format that is not released yet may be changed: `ROADSTEAD_WRITE_GOLDEN=1 cargo test -p roadstead-metadata golden`
//! writes the files anew, and the difference is looked at in review.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use roadstead_oci::{Digest, ObjectKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::encoding::{decode, encode};
use crate::fixtures::{
    OWNER, digest, hash, key, multipart, new_manifest, open_upload, part, repository, tag, tail_key, upload, verified,
};
use crate::state::rows::{
    AnnouncedRow, AnnouncedTagRow, AsideRow, ChangeRow, CursorRow, DedupRow, Head, InboxRow, KeyRow, ManifestRow,
    MembershipRow, MirrorRow, ObjectRow, PartRow, Phase, Receiving, ReferrerRow, RegionRow, RepositoryRow, UploadRow,
    WantedRow,
};
use crate::{
    AdmitMirror, AdmitWriter, AdvanceInbox, AdvanceUploadRefused, Advanced, AllocateNode, Ancestor, AnnounceLevel,
    AnnounceLevelRefused, Arrival, BeginCompletion, BeginHistory, BeginMultipart, CancelUpload, CancelUploadRefused,
    ChangeKind, CheckpointUpload, ClaimUpload, ClaimUploadRefused, ClusterId, CollectBlobs, Collected, Command,
    CommandId, Comparison, CondemnKeys, DeleteManifest, DeleteManifestRefused, DeleteTag, DeleteTagRefused,
    DismissAside, DismissMirror, Envelope, Epoch, Examined, ExpireUploads, FenceRegion, FenceRegionRefused, Fenced,
    FinishUpload, FinishUploadRefused, ForgetKeys, ForsakeBlob, HandOverRegion, HandoverStep, History, KeepAside,
    KeepAsideRefused, KeptAside, LandBlob, LandBlobRefused, Level, LinkBlob, LinkBlobRefused, Linked, LogTime,
    ManifestContent, ManifestPut, MendManifest, MountBlob, MountBlobRefused, MovedTag, Multipart, NameFirstVolume,
    NewManifest, NoteRemote, OpenUploadRefused, Outcome, Position, Precondition, PromoteRegion, PromoteRegionRefused,
    Promotion, PutManifest, PutManifestRefused, ReceiveChanges, ReceiveChangesRefused, ReceiveChosen, ReceiveSnapshot,
    ReceiveSnapshotRefused, ReceivedChange, Referrer, RegionEpoch, RemoteProgress, ReserveKeys, ReserveKeysRefused,
    ResolveManifest, ResolveManifestRefused, SetQuarantine, ShowParts, SnapshotStep, TagManifest, TagManifestRefused,
    Tail, TouchBlob, TouchBlobRefused, UnlinkBlob, UnlinkBlobRefused, VolumeId,
};

/// Compares values with the file of this name, which they are also read from.
pub(crate) fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, values: &[(&str, T)]) {
    let written: Vec<_> = values.iter().map(|(name, value)| (*name, encode(value))).collect();
    let golden = check_bytes(name, &written);
    for (name, value) in values {
        assert_eq!(decode::<T>(&golden[*name]).as_ref(), Ok(value), "{name} is read as another value");
    }
}

/// Compares bytes with the file of this name: a line each, their name and the bytes in hexadecimal.
pub(crate) fn check_bytes(name: &str, values: &[(&str, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1").join(name);
    if std::env::var_os("ROADSTEAD_WRITE_GOLDEN").is_some() {
        let lines = values.iter().map(|(name, bytes)| format!("{name} {}\n", hex(bytes)));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, lines.collect::<String>()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let golden: BTreeMap<String, Vec<u8>> = golden
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, bytes)| (name.to_owned(), unhex(bytes)))
        .collect();
    assert_eq!(golden.len(), values.len(), "{}: a value without a line, or the reverse", path.display());
    for (name, bytes) in values {
        assert_eq!(golden.get(*name).map(|golden| hex(golden)), Some(hex(bytes)), "{name} is written otherwise");
    }
    golden
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn manifest_key() -> ObjectKey {
    ObjectKey::manifest(digest(1), Uuid::from_u128(1))
}

fn referrer() -> Referrer {
    Referrer {
        subject: digest(2),
        artifact_type: Some("application/example".to_owned()),
        annotations: vec![("org.example".to_owned(), "value".to_owned())],
    }
}

fn step() -> (roadstead_oci::UploadId, Epoch) {
    (upload(1), Epoch(2))
}

/// Those that no client asks for.
fn commands_of_the_registry_itself() -> Vec<(&'static str, Command)> {
    vec![
        ("allocate-node", AllocateNode { volume: VolumeId(9) }.into()),
        ("name-first-volume", NameFirstVolume { volume: VolumeId(9) }.into()),
        ("announce-level", AnnounceLevel { node: 300, reads: Level(2), members: BTreeSet::from([1, 300]) }.into()),
        ("begin-history", BeginHistory { history: Uuid::from_u128(1), storage: Uuid::from_u128(2) }.into()),
    ]
}

fn put_manifest_commands() -> Vec<(&'static str, Command)> {
    let plain = PutManifest::new(verified(1), new_manifest(1));
    let full = NewManifest {
        content: ManifestContent::Object(manifest_key()),
        blobs: vec![digest(3), digest(4)],
        referrer: Some(referrer()),
        tags: vec![tag(1), tag(2)],
        precondition: Precondition::Match(vec![digest(5)]),
        sparse: true,
        ..new_manifest(1)
    };
    let absent = NewManifest { precondition: Precondition::Absent, ..new_manifest(1) };
    let exists = NewManifest { precondition: Precondition::Exists, ..new_manifest(1) };
    vec![
        ("put-manifest", plain.into()),
        ("put-manifest-full", PutManifest::new(verified(1), full).into()),
        ("put-manifest-absent", PutManifest::new(verified(1), absent).into()),
        ("put-manifest-exists", PutManifest::new(verified(1), exists).into()),
    ]
}

#[test]
fn golden_commands() {
    let (upload, epoch) = step();
    let tail = Some(Tail::Object { key: tail_key(1), size: 5 });
    let commands: Vec<(&str, Command)> = vec![
        ("reserve-keys", ReserveKeys { keys: vec![key(1), tail_key(2), manifest_key()] }.into()),
        ("open-upload", open_upload(1).into()),
        ("claim-upload", ClaimUpload { upload, owner: OWNER }.into()),
        (
            "begin-multipart",
            BeginMultipart {
                upload,
                epoch,
                key: key(1),
                multipart: multipart(1),
                parts: vec![part(1)],
                tail: tail.clone(),
            }
            .into(),
        ),
        (
            "checkpoint-upload",
            CheckpointUpload { upload, epoch, offset: 300, parts: vec![part(1), part(2)], tail, hash: hash() }.into(),
        ),
        (
            "checkpoint-upload-final-part",
            CheckpointUpload {
                upload,
                epoch,
                offset: 300,
                parts: Vec::new(),
                tail: Some(Tail::FinalPart(part(3))),
                hash: hash(),
            }
            .into(),
        ),
        ("show-parts", ShowParts { upload, epoch, parts: vec![part(1), part(2)] }.into()),
        ("begin-completion", BeginCompletion::new(upload, epoch, verified(1), 300, vec![part(3)]).into()),
        ("finish-upload", FinishUpload { upload, epoch }.into()),
        ("link-blob", LinkBlob::new(repository(1), verified(1), 300, key(1), None).into()),
        ("link-blob-of-upload", LinkBlob::new(repository(1), verified(1), 300, key(1), Some((upload, epoch))).into()),
        ("cancel-upload", CancelUpload { upload, repository: repository(1) }.into()),
        ("expire-uploads", ExpireUploads { before: LogTime(1_000), limit: 10 }.into()),
        ("condemn-keys", CondemnKeys { keys: vec![key(1)] }.into()),
        ("forget-keys", ForgetKeys { keys: vec![key(1)] }.into()),
        ("mount-blob", MountBlob { repository: repository(1), digest: digest(1), from: repository(2) }.into()),
        ("unlink-blob", UnlinkBlob { repository: repository(1), digest: digest(1) }.into()),
    ];
    let others = vec![
        ("delete-manifest", DeleteManifest { repository: repository(1), digest: digest(1) }.into()),
        ("touch-blob", TouchBlob { repository: repository(1), digest: digest(1) }.into()),
        ("collect-blobs", CollectBlobs { before: LogTime(1_000), limit: 10 }.into()),
    ];
    let manifests = put_manifest_commands();
    let rest = [
        others,
        commands_of_the_registry_itself(),
        quarantine_commands(),
        tag_commands(),
        mirror_commands(),
        region_commands(),
    ]
    .concat();
    let commands: Vec<_> = [commands, manifests, rest].concat();
    let named: BTreeSet<_> = commands.iter().map(|(_, command)| command.name()).collect();
    assert_eq!(named, Command::NAMES.iter().copied().collect(), "every operation has a line");
    let envelopes = commands.into_iter().map(|(name, command)| {
        (name, Envelope { id: CommandId(0x0123_4567_89ab_cdef), at: LogTime(1_700_000_000_000), command })
    });
    check("commands", &envelopes.collect::<Vec<_>>());
}

fn mirror_commands() -> Vec<(&'static str, Command)> {
    let home = ClusterId(8);
    let (after, position) = (Position { epoch: 1, sequence: 299 }, Position { epoch: 1, sequence: 300 });
    let at = LogTime(1_700_000_000_000);
    let put = PutManifest::new(verified(1), NewManifest { tags: vec![tag(1)], sparse: true, ..new_manifest(1) });
    let kind = ChangeKind::ManifestPut { repository: repository(1), digest: digest(1), tags: vec![tag(1)] };
    let sent = ReceivedChange { position, at, kind: kind.clone(), manifest: Some(put.clone()) };
    let bare = ReceivedChange { position, at, kind, manifest: None };
    let arrival = Arrival(300);
    let resolve = |manifest| ResolveManifest { repository: repository(1), arrival, manifest };
    let snapshot = |step| ReceiveSnapshot { home, comparison: Comparison(9), step }.into();
    vec![
        ("receive-changes", ReceiveChanges { home, after, changes: vec![sent] }.into()),
        ("receive-snapshot-begins", snapshot(SnapshotStep::Begins)),
        ("receive-snapshot-forgets", snapshot(SnapshotStep::Forgets)),
        ("receive-snapshot-changes", snapshot(SnapshotStep::Changes(vec![bare]))),
        ("receive-snapshot-ends", snapshot(SnapshotStep::Ends(position))),
        ("resolve-manifest", resolve(Some(put)).into()),
        ("resolve-manifest-gone", resolve(None).into()),
        ("forsake-blob", ForsakeBlob { repository: repository(1), digest: digest(1), arrival }.into()),
        ("advance-inbox", AdvanceInbox { repository: repository(1) }.into()),
        ("admit-mirror", AdmitMirror { name: "eu".to_owned(), token: digest(1) }.into()),
        ("dismiss-mirror", DismissMirror { name: "eu".to_owned() }.into()),
        ("mend-manifest", MendManifest { manifest: PutManifest::new(verified(1), new_manifest(1)) }.into()),
        ("land-blob", LandBlob { repository: repository(1), digest: digest(1) }.into()),
        ("admit-writer", AdmitWriter { name: "eu".to_owned(), token: digest(1) }.into()),
        (
            "receive-chosen",
            ReceiveChosen { home, filter: digest(5), after, until: position, changes: Vec::new() }.into(),
        ),
        ("receive-snapshot-chooses", snapshot(SnapshotStep::Chooses(Some(digest(5))))),
        ("receive-snapshot-chooses-all", snapshot(SnapshotStep::Chooses(None))),
    ]
}

fn region_epoch() -> RegionEpoch {
    RegionEpoch { number: 2, home: ClusterId(9) }
}

fn promotion() -> Promotion {
    let position = Position { epoch: 1, sequence: 300 };
    Promotion { at: LogTime(1_700_000_000_000), from: ClusterId(8), fork: position, given_up: 2, before: position }
}

fn region_commands() -> Vec<(&'static str, Command)> {
    let (epoch, origin) = (region_epoch(), ClusterId(8));
    let last = Position { epoch: 1, sequence: 300 };
    vec![
        ("fence-region", FenceRegion { by: epoch, origin, own: origin }.into()),
        ("keep-aside", KeepAside { after: last, limit: 256 }.into()),
        ("dismiss-aside", DismissAside { position: Some(last), limit: 1 }.into()),
        ("note-remote", note_remote().into()),
        ("hand-over-begins", hand_over(HandoverStep::Begins)),
        ("hand-over-ends", hand_over(HandoverStep::Ends)),
        ("hand-over-taken-back", hand_over(HandoverStep::TakenBack)),
        ("promote-region", PromoteRegion { epoch, handed_over: None }.into()),
        ("promote-region-handed-over", PromoteRegion { epoch, handed_over: Some(last) }.into()),
    ]
}

fn region_outcomes() -> Vec<(&'static str, Outcome)> {
    let (known, cursor) = (region_epoch(), Position { epoch: 1, sequence: 300 });
    let not_fenced = |refused| Outcome::FenceRegion(Err(refused));
    let not_promoted = |refused| Outcome::PromoteRegion(Err(refused));
    vec![
        ("fence-region", Outcome::FenceRegion(Ok(Fenced { last: cursor }))),
        ("fenced", not_fenced(FenceRegionRefused::IsFenced { by: known })),
        ("fence-region-not-higher", not_fenced(FenceRegionRefused::NotHigher { known })),
        ("fence-region-other-origin", not_fenced(FenceRegionRefused::OtherOrigin { origin: ClusterId(8) })),
        ("keep-aside", Outcome::KeepAside(Ok(KeptAside { kept: 2, more: true }))),
        ("keep-aside-not-fenced", Outcome::KeepAside(Err(KeepAsideRefused::NotFenced))),
        ("keep-aside-trimmed", Outcome::KeepAside(Err(KeepAsideRefused::Trimmed { oldest: cursor }))),
        ("dismiss-aside", Outcome::DismissAside(Ok(300))),
        ("note-remote", Outcome::NoteRemote(Ok(()))),
        ("hand-over", Outcome::HandOverRegion(Ok(Fenced { last: cursor }))),
        ("hand-over-refused", Outcome::HandOverRegion(Err(FenceRegionRefused::NotHandingOver))),
        ("promote-region", Outcome::PromoteRegion(Ok(promotion()))),
        ("promote-region-is-home", not_promoted(PromoteRegionRefused::IsHome { epoch: known })),
        ("promote-region-not-higher", not_promoted(PromoteRegionRefused::NotHigher { known })),
        ("promote-region-not-level", not_promoted(PromoteRegionRefused::NotLevel { cursor, waiting: 2, wanted: 300 })),
    ]
}

fn hand_over(step: HandoverStep) -> Command {
    let origin = ClusterId(8);
    HandOverRegion { to: region_epoch(), origin, own: origin, step }.into()
}

fn note_remote() -> NoteRemote {
    let progress = RemoteProgress { received: Position { epoch: 1, sequence: 300 }, waiting: vec![2, 297] };
    NoteRemote { mirror: "eu".to_owned(), progress }
}

fn put_row() -> ManifestRow {
    let NewManifest { media_type, content, .. } = new_manifest(1);
    ManifestRow { media_type, size: 300, content, blobs: vec![digest(1), digest(2)], subject: None }
}

#[test]
fn golden_rows_of_regions() {
    let (epoch, origin) = (region_epoch(), ClusterId(8));
    let row = |is_home, promotion| RegionRow { epoch, origin, is_home, promotion };
    let (at, manifest) = (LogTime(1_700_000_000_000), put_row());
    let kind = ChangeKind::ManifestPut { repository: repository(1), digest: digest(1), tags: vec![tag(1)] };
    check("aside", &[("put", AsideRow { at, kind, manifest: Some(manifest) })]);
    check("remote", &[("remote", note_remote())]);
    check("handover", &[("handover", region_epoch())]);
    check("region", &[("fenced", row(false, None)), ("promoted", row(true, Some(promotion())))]);
}

fn mirror_outcomes() -> Vec<(&'static str, Outcome)> {
    let advanced = Advanced { published: 2, more: true };
    let position = Position { epoch: 1, sequence: 300 };
    let not_received = |refused| Outcome::ReceiveChanges(Err(refused));
    let not_resolved = |refused| Outcome::ResolveManifest(Err(refused));
    vec![
        ("receive-changes", Outcome::ReceiveChanges(Ok(advanced))),
        ("receive-changes-not-next", not_received(ReceiveChangesRefused::NotNext { cursor: position })),
        ("receive-changes-gap", not_received(ReceiveChangesRefused::Gap { after: position })),
        ("receive-changes-other-home", not_received(ReceiveChangesRefused::OtherHome { home: ClusterId(8) })),
        ("receive-changes-other-filter", not_received(ReceiveChangesRefused::OtherFilter)),
        ("receive-chosen", Outcome::ReceiveChosen(Ok(advanced))),
        ("receive-snapshot", Outcome::ReceiveSnapshot(Ok(advanced))),
        ("receive-snapshot-superseded", Outcome::ReceiveSnapshot(Err(ReceiveSnapshotRefused::Superseded))),
        ("receive-snapshot-not-forgotten", Outcome::ReceiveSnapshot(Err(ReceiveSnapshotRefused::NotForgotten))),
        ("receive-snapshot-not-kept-aside", Outcome::ReceiveSnapshot(Err(ReceiveSnapshotRefused::NotKeptAside))),
        ("resolve-manifest", Outcome::ResolveManifest(Ok(advanced))),
        ("resolve-manifest-not-waiting", not_resolved(ResolveManifestRefused::NotWaiting)),
        ("resolve-manifest-incomplete", not_resolved(ResolveManifestRefused::Incomplete(vec![digest(1)]))),
        ("resolve-manifest-key", not_resolved(ResolveManifestRefused::KeyNotReserved)),
        ("forsake-blob", Outcome::ForsakeBlob(Ok(advanced))),
        ("advance-inbox", Outcome::AdvanceInbox(Ok(advanced))),
        ("admit-mirror", Outcome::AdmitMirror(Ok(()))),
        ("dismiss-mirror", Outcome::DismissMirror(Ok(true))),
        ("mend-manifest", Outcome::MendManifest(Ok(true))),
        ("land-blob", Outcome::LandBlob(Ok(()))),
        ("land-blob-unknown", Outcome::LandBlob(Err(LandBlobRefused::BlobUnknown))),
        ("admit-writer", Outcome::AdmitWriter(Ok(()))),
    ]
}

#[test]
fn golden_rows_of_mirrors() {
    let (at, position, arrival) = (LogTime(1_700_000_000_000), Position { epoch: 1, sequence: 300 }, Arrival(300));
    let cursor = CursorRow {
        home: ClusterId(8),
        position,
        comparison: Some(Comparison(9)),
        forgetting: true,
        arrivals: 300,
        waiting: 2,
        wanted_blobs: 3,
        wanted_bytes: 400,
    };
    check("cursor", &[("cursor", cursor)]);
    let kind = ChangeKind::ManifestPut { repository: repository(1), digest: digest(1), tags: vec![tag(1)] };
    let put = PutManifest::new(verified(1), new_manifest(1));
    let row = |manifest| InboxRow { position, at, kind: kind.clone(), manifest };
    check("inbox", &[("sent", row(Some(put))), ("bare", row(None))]);
    check("wanted", &[("wanted", WantedRow { size: 300, arrival })]);
    let announced = |digest| AnnouncedTagRow { arrival, digest };
    check("announced-tag", &[("at", announced(Some(digest(1)))), ("gone", announced(None))]);
    check("announced-manifest", &[("announced", AnnouncedRow { arrival, exists: true })]);
    check("mirror", &[("mirror", MirrorRow { name: "eu".to_owned(), admitted: at })]);
}

fn tag_commands() -> Vec<(&'static str, Command)> {
    let tag_manifest = TagManifest {
        repository: repository(1),
        digest: digest(1),
        media_type: new_manifest(1).media_type,
        tags: vec![tag(1), tag(2)],
        precondition: Precondition::Match(vec![digest(2)]),
        sparse: true,
    };
    vec![
        ("delete-tag", DeleteTag { repository: repository(1), tag: tag(1) }.into()),
        ("tag-manifest", tag_manifest.into()),
    ]
}

fn quarantine_commands() -> Vec<(&'static str, Command)> {
    let blob = Examined::Blob { digest: digest(1), key: key(1) };
    let content = ManifestContent::Object(manifest_key());
    let manifest = Examined::Manifest { repository: repository(1), digest: digest(1), content };
    vec![
        ("quarantine-blob", SetQuarantine { examined: blob, quarantined: true }.into()),
        ("release-manifest", SetQuarantine { examined: manifest, quarantined: false }.into()),
    ]
}

#[test]
fn golden_outcomes() {
    let linked = Linked { deduplicated: true };
    let put = ManifestPut { created: true, moved: vec![MovedTag { tag: tag(1), previous: Some(digest(1)) }] };
    let outcomes = [
        ("reserve-keys", Outcome::ReserveKeys(Ok(()))),
        ("reserve-keys-taken", Outcome::ReserveKeys(Err(ReserveKeysRefused::KeyTaken(key(1))))),
        ("open-upload", Outcome::OpenUpload(Ok(()))),
        ("open-upload-exists", Outcome::OpenUpload(Err(OpenUploadRefused::UploadExists))),
        ("claim-upload", Outcome::ClaimUpload(Ok(Epoch(2)))),
        ("claim-upload-unknown", Outcome::ClaimUpload(Err(ClaimUploadRefused::UploadUnknown))),
        (
            "claim-upload-finished",
            Outcome::ClaimUpload(Err(ClaimUploadRefused::Finished { digest: digest(1), size: 5 })),
        ),
        ("begin-multipart", Outcome::BeginMultipart(Ok(()))),
        ("begin-multipart-unknown", Outcome::BeginMultipart(Err(AdvanceUploadRefused::UploadUnknown))),
        ("begin-multipart-fenced", Outcome::BeginMultipart(Err(AdvanceUploadRefused::Fenced))),
        ("begin-multipart-key", Outcome::BeginMultipart(Err(AdvanceUploadRefused::KeyNotReserved))),
        ("checkpoint-upload", Outcome::CheckpointUpload(Err(AdvanceUploadRefused::NotReceiving))),
        ("show-parts", Outcome::ShowParts(Ok(()))),
        ("show-parts-fenced", Outcome::ShowParts(Err(AdvanceUploadRefused::Fenced))),
        ("begin-completion", Outcome::BeginCompletion(Err(AdvanceUploadRefused::NoMultipart))),
        ("finish-upload", Outcome::FinishUpload(Ok(linked))),
        ("finish-upload-unknown", Outcome::FinishUpload(Err(FinishUploadRefused::UploadUnknown))),
        ("finish-upload-fenced", Outcome::FinishUpload(Err(FinishUploadRefused::Fenced))),
        ("finish-upload-not-completing", Outcome::FinishUpload(Err(FinishUploadRefused::NotCompleting))),
        ("link-blob", Outcome::LinkBlob(Ok(linked))),
        ("link-blob-unknown", Outcome::LinkBlob(Err(LinkBlobRefused::UploadUnknown))),
        ("link-blob-fenced", Outcome::LinkBlob(Err(LinkBlobRefused::Fenced))),
        ("link-blob-not-receiving", Outcome::LinkBlob(Err(LinkBlobRefused::NotReceiving))),
        ("link-blob-key", Outcome::LinkBlob(Err(LinkBlobRefused::KeyNotReserved))),
        ("cancel-upload", Outcome::CancelUpload(Err(CancelUploadRefused::UploadUnknown))),
        ("expire-uploads", Outcome::ExpireUploads(Ok(3))),
        ("condemn-keys", Outcome::CondemnKeys(Ok(3))),
        ("forget-keys", Outcome::ForgetKeys(Ok(3))),
        ("mount-blob", Outcome::MountBlob(Err(MountBlobRefused::BlobUnknown))),
        ("unlink-blob", Outcome::UnlinkBlob(Err(UnlinkBlobRefused::BlobUnknown))),
        ("put-manifest", Outcome::PutManifest(Ok(put.clone()))),
        ("put-manifest-blobs", Outcome::PutManifest(Err(PutManifestRefused::BlobsUnknown(vec![digest(1)])))),
        (
            "put-manifest-precondition",
            Outcome::PutManifest(Err(PutManifestRefused::PreconditionFailed { current: None })),
        ),
        ("put-manifest-key", Outcome::PutManifest(Err(PutManifestRefused::KeyNotReserved))),
        ("delete-manifest", Outcome::DeleteManifest(Ok(3))),
        ("delete-manifest-unknown", Outcome::DeleteManifest(Err(DeleteManifestRefused::ManifestUnknown))),
        ("delete-tag", Outcome::DeleteTag(Ok(()))),
        ("delete-tag-unknown", Outcome::DeleteTag(Err(DeleteTagRefused::TagUnknown))),
        ("tag-manifest", Outcome::TagManifest(Ok(put.clone()))),
        ("tag-manifest-unknown", Outcome::TagManifest(Err(TagManifestRefused::ManifestUnknown))),
        ("tag-manifest-blobs", Outcome::TagManifest(Err(TagManifestRefused::BlobsUnknown(vec![digest(1)])))),
        (
            "tag-manifest-precondition",
            Outcome::TagManifest(Err(TagManifestRefused::PreconditionFailed { current: None })),
        ),
        ("touch-blob", Outcome::TouchBlob(Err(TouchBlobRefused::BlobUnknown))),
        ("collect-blobs", Outcome::CollectBlobs(Ok(Collected { unlinked: 2, condemned: 300 }))),
        ("allocate-node", Outcome::AllocateNode(Ok(300))),
        ("name-first-volume", Outcome::NameFirstVolume(Ok(()))),
        ("begin-history", Outcome::BeginHistory(Ok(history()))),
        ("announce-level", Outcome::AnnounceLevel(Ok(Level(2)))),
        ("announce-level-less", Outcome::AnnounceLevel(Err(AnnounceLevelRefused::ReadsLess(Level(300))))),
        ("set-quarantine", Outcome::SetQuarantine(Ok(true))),
    ];
    let outcomes = [outcomes.to_vec(), mirror_outcomes(), region_outcomes()].concat();
    let named: BTreeSet<_> = outcomes.iter().map(|(_, outcome)| outcome.name()).collect();
    assert_eq!(named, Command::NAMES.iter().copied().collect(), "every operation has a line");
    check("outcomes", &outcomes);
}

#[test]
fn golden_rows() {
    let time = LogTime(1_700_000_000_000);
    let multi = || Multipart { key: key(1), id: multipart(1) };
    let position = Position { epoch: 1, sequence: 300 };
    check("head", &[("head", Head { position, time, uploads_open: 2, dedup_since: LogTime(5) })]);
    check("repository", &[("repository", RepositoryRow { manifests: 1, tags: 2, blobs: 300 })]);
    check("level", &[("level", Level(300))]);
    check::<Digest>("tag", &[("tag", digest(1))]);
    let ManifestContent::Inline(bytes) = new_manifest(1).content else { unreachable!() };
    let manifest = |content, subject| ManifestRow {
        media_type: new_manifest(1).media_type,
        size: 300,
        content,
        blobs: vec![digest(1), digest(2)],
        subject,
    };
    let manifests = [
        ("inline", manifest(ManifestContent::Inline(bytes), None)),
        ("object", manifest(ManifestContent::Object(manifest_key()), Some(digest(3)))),
    ];
    check("manifest", &manifests);
    let Referrer { artifact_type, annotations, .. } = referrer();
    let media_type = new_manifest(1).media_type;
    check("referrer", &[("referrer", ReferrerRow { media_type, size: 300, artifact_type, annotations })]);
    check("membership", &[("membership", MembershipRow { held: true, manifests: 2, leased: time })]);
    let object = |memberships, unreferenced| ObjectRow { size: 300, key: key(1), memberships, unreferenced };
    check("object", &[("held", object(2, None)), ("unreferenced", object(0, Some(time)))]);
    let keys = [
        ("reserved", KeyRow::Reserved { since: time }),
        ("held", KeyRow::Held { upload: upload(1) }),
        ("linked", KeyRow::Linked),
        ("condemned", KeyRow::Condemned { due: time, multipart: Some(multipart(1)) }),
        ("retired", KeyRow::Retired { since: time }),
    ];
    check("key", &keys);
    check("history", &[("restored", history()), ("first", History { incarnation: 1, parent: None, ..history() })]);
    let session = |phase| UploadRow {
        repository: repository(1),
        owner: OWNER,
        epoch: Epoch(2),
        sha512: true,
        touched: time,
        phase,
    };
    let tail = Some(Tail::FinalPart(part(2)));
    let uploads = [
        ("receiving", Phase::Receiving(Receiving { offset: 300, hash: hash(), multipart: Some(multi()), tail })),
        ("completing", Phase::Completing { digest: digest(1), size: 300, multipart: multi() }),
        ("finished", Phase::Finished { digest: digest(1), size: 300, deduplicated: true }),
    ];
    check("upload", &uploads.map(|(name, phase)| (name, session(phase))));
    check("part", &[("part", PartRow { size: 300, etag: "etag".to_owned() })]);
    let outcome = Outcome::OpenUpload(Ok(()));
    check("result", &[("result", DedupRow { at: time, outcome })]);
}

fn history() -> History {
    let parent = Ancestor { history: Uuid::from_u128(3), entries: 300, position: Position { epoch: 1, sequence: 200 } };
    History {
        id: Uuid::from_u128(1),
        storage: Uuid::from_u128(2),
        incarnation: 2,
        parent: Some(parent),
        begun: LogTime(1_700_000_000_000),
    }
}

#[test]
fn golden_changes() {
    let (repository, digest, at) = (repository(1), digest(1), LogTime(1_700_000_000_000));
    let changes = [
        ("blob-linked", ChangeKind::BlobLinked { repository: repository.clone(), digest, size: 300 }),
        ("blob-unlinked", ChangeKind::BlobUnlinked { repository: repository.clone(), digest }),
        (
            "manifest-put",
            ChangeKind::ManifestPut { repository: repository.clone(), digest, tags: vec![tag(1), tag(2)] },
        ),
        ("manifest-deleted", ChangeKind::ManifestDeleted { repository: repository.clone(), digest }),
        ("tag-deleted", ChangeKind::TagDeleted { repository, tag: tag(1) }),
    ];
    check("change", &changes.map(|(name, kind)| (name, ChangeRow { at, kind })));
}
