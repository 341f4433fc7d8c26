//! Random histories.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::invariants;
use roadstead_oci::Tag;

use crate::encoding::encode;
use crate::fixtures::{
    OWNER, Rows, World, digest, hash, key, multipart, new_manifest, open_upload, part, repository, rows, rows_of, tag,
    tail_key, upload, verified,
};
use crate::raft::rebuild::tests::count_entries;
use crate::state::{Export, State, Sync};
use crate::{
    AllocateNode, AnnounceLevel, BeginCompletion, BeginMultipart, CancelUpload, CheckpointUpload, ClaimUpload,
    CollectBlobs, Command, CommandId, CondemnKeys, DeleteManifest, DeleteTag, Envelope, Epoch, Examined, ExpireUploads,
    FinishUpload, ForgetKeys, Level, LinkBlob, LogEntry, LogTime, ManifestContent, MountBlob, NameFirstVolume,
    NewManifest, OpenUpload, Precondition, PutManifest, Rebuild, Referrer, ReserveKeys, SetQuarantine, ShowParts,
    TagManifest, Tail, TouchBlob, UnlinkBlob, Until, VolumeId,
};

fn keys() -> impl Strategy<Value = Vec<roadstead_oci::ObjectKey>> {
    vec(any_key(), 1..6)
}

fn any_key() -> impl Strategy<Value = roadstead_oci::ObjectKey> {
    (1..8_u8, any::<bool>()).prop_map(|(number, tail)| if tail { tail_key(number) } else { key(number) })
}

fn any_tail() -> impl Strategy<Value = Option<Tail>> {
    prop_oneof![
        1 => Just(None),
        3 => any_key().prop_map(|key| Some(Tail::Object { key, size: 5 })),
        1 => (1..4_u32).prop_map(|number| Some(Tail::FinalPart(part(number)))),
    ]
}

fn any_precondition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        4 => Just(Precondition::None),
        1 => Just(Precondition::Absent),
        1 => Just(Precondition::Exists),
        1 => (1..4_u8).prop_map(|number| Precondition::Match(vec![digest(number)])),
    ]
}

fn any_tags() -> impl Strategy<Value = Vec<Tag>> {
    proptest::sample::subsequence(vec![1, 2, 3], 0..=3).prop_map(|tags| tags.into_iter().map(tag).collect())
}

fn any_retag() -> impl Strategy<Value = TagManifest> {
    (1..4_u8, 1..3_u8, any_tags(), any_precondition(), any::<bool>()).prop_map(
        |(number, repo, tags, precondition, sparse)| TagManifest {
            repository: repository(repo),
            digest: digest(number),
            media_type: new_manifest(number).media_type,
            tags,
            precondition,
            sparse,
        },
    )
}

fn any_manifest() -> impl Strategy<Value = PutManifest> {
    let content = prop_oneof![
        3 => Just(None),
        1 => any_key().prop_map(Some),
    ];
    let referrer = proptest::option::of((1..4_u8).prop_map(|subject| Referrer {
        subject: digest(subject),
        artifact_type: None,
        annotations: Vec::new(),
    }));
    let blobs = proptest::sample::subsequence(vec![11, 12, 13], 0..=2);
    (1..4_u8, 1..3_u8, content, blobs, referrer, any_tags(), any_precondition(), any::<bool>()).prop_map(
        |(number, repo, content, blobs, referrer, tags, precondition, sparse)| {
            let manifest = NewManifest {
                repository: repository(repo),
                content: content.map_or(new_manifest(number).content, ManifestContent::Object),
                blobs: blobs.into_iter().map(digest).collect(),
                referrer,
                tags,
                precondition,
                sparse,
                ..new_manifest(number)
            };
            PutManifest::new(verified(number), manifest)
        },
    )
}

fn any_epoch() -> impl Strategy<Value = Epoch> + Clone {
    select(vec![1, 1, 1, 2]).prop_map(Epoch)
}

fn any_session_command() -> impl Strategy<Value = Command> {
    let step = (1..3_u8, any_epoch());
    let parts = (1..4_u32, select(vec![0, 0, 0, 1, 2]))
        .prop_map(|(first, count)| (first..first + count).map(part).collect::<Vec<_>>());
    prop_oneof![
        1 => (1..3_u8, 1..3_u8).prop_map(|(number, repo)| {
            let (upload, repository) = (upload(number), repository(repo));
            OpenUpload { upload, repository, owner: OWNER, sha512: false, hash: hash() }.into()
        }),
        1 => (1..3_u8).prop_map(|number| ClaimUpload { upload: upload(number), owner: OWNER }.into()),
        3 => (step.clone(), any_key(), parts.clone(), any_tail()).prop_map(|((number, epoch), key, parts, tail)| {
            BeginMultipart { upload: upload(number), epoch, key, multipart: multipart(number), parts, tail }.into()
        }),
        6 => (step.clone(), 0..40_u64, parts.clone(), any_tail()).prop_map(|((number, epoch), offset, parts, tail)| {
            CheckpointUpload { upload: upload(number), epoch, offset, parts, tail, hash: hash() }.into()
        }),
        2 => (step.clone(), parts.clone()).prop_map(|((number, epoch), parts)| {
            ShowParts { upload: upload(number), epoch, parts }.into()
        }),
        2 => (step.clone(), 11..14_u8, parts).prop_map(|((number, epoch), blob, parts)| {
            BeginCompletion::new(upload(number), epoch, verified(blob), 5, parts).into()
        }),
        2 => step.prop_map(|(number, epoch)| FinishUpload { upload: upload(number), epoch }.into()),
        1 => (1..3_u8, 1..3_u8).prop_map(|(number, repo)| CancelUpload {
            upload: upload(number),
            repository: repository(repo)
        }
        .into()),
        1 => (0..2_000_u64, 1..3_u32).prop_map(|(before, limit)| ExpireUploads { before: LogTime(before), limit }.into()),
    ]
}

fn any_examined() -> impl Strategy<Value = Examined> {
    let content = prop_oneof![3 => Just(None), 1 => any_key().prop_map(Some)];
    prop_oneof![
        (11..14_u8, 1..8_u8).prop_map(|(blob, number)| Examined::Blob { digest: digest(blob), key: key(number) }),
        (1..3_u8, 1..4_u8, content).prop_map(|(repo, number, content)| Examined::Manifest {
            repository: repository(repo),
            digest: digest(number),
            content: content.map_or(new_manifest(number).content, ManifestContent::Object),
        }),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let place = (1..3_u8, 11..14_u8);
    let session = proptest::option::of((1..3_u8, any_epoch()));
    prop_oneof![
        3 => keys().prop_map(|keys| ReserveKeys { keys }.into()),
        1 => keys().prop_map(|keys| CondemnKeys { keys }.into()),
        1 => keys().prop_map(|keys| ForgetKeys { keys }.into()),
        12 => any_session_command(),
        4 => (place.clone(), any_key(), session).prop_map(|((repo, blob), key, session)| {
            let session = session.map(|(number, epoch)| (upload(number), epoch));
            LinkBlob::new(repository(repo), verified(blob), 5, key, session).into()
        }),
        1 => (place.clone(), 1..3_u8).prop_map(|((repo, blob), from)| {
            MountBlob { repository: repository(repo), digest: digest(blob), from: repository(from) }.into()
        }),
        1 => place.prop_map(|(repo, blob)| UnlinkBlob { repository: repository(repo), digest: digest(blob) }.into()),
        1 => (1..3_u8, 11..14_u8)
            .prop_map(|(repo, blob)| TouchBlob { repository: repository(repo), digest: digest(blob) }.into()),
        2 => (0..2_000_u64, 1..3_u32)
            .prop_map(|(before, limit)| CollectBlobs { before: LogTime(before), limit }.into()),
        1 => (1..4_u128).prop_map(|volume| NameFirstVolume { volume: VolumeId(volume) }.into()),
        1 => (1..4_u128).prop_map(|volume| AllocateNode { volume: VolumeId(volume) }.into()),
        2 => (1..4_u64, 1..4_u32, btree_set(1..4_u64, 0..3))
            .prop_map(|(node, reads, members)| AnnounceLevel { node, reads: Level(reads), members }.into()),
        4 => any_manifest().prop_map(Command::from),
        2 => any_retag().prop_map(Command::from),
        3 => (any_examined(), select(vec![true, true, false]))
            .prop_map(|(examined, quarantined)| SetQuarantine { examined, quarantined }.into()),
        1 => (1..3_u8, 1..4_u8)
            .prop_map(|(repo, number)| DeleteManifest { repository: repository(repo), digest: digest(number) }.into()),
        1 => (1..3_u8, 1..4_u8).prop_map(|(repo, number)| DeleteTag { repository: repository(repo), tag: tag(number) }.into()),
    ]
}

/// Begins with what most commands need. Some come twice.
fn any_history() -> impl Strategy<Value = Vec<Envelope>> {
    let entry = (any_command(), 0..20_u64, select(vec![false, false, false, true]));
    vec(entry, 1..80).prop_map(|entries| {
        let keys = (1..8).flat_map(|number| [key(number), tail_key(number)]).collect();
        let first = [ReserveKeys { keys }.into(), open_upload(1).into(), open_upload(2).into()];
        let mut history: Vec<Envelope> = Vec::new();
        for (id, (command, later, again)) in
            (1..).zip(first.map(|command| (command, 0, false)).into_iter().chain(entries))
        {
            let at = LogTime(history.last().map_or(0, |last| last.at.0) + later);
            history.push(Envelope { id: CommandId(id), at, command });
            if again {
                history.extend(history.last().cloned());
            }
        }
        history
    })
}

fn without_consensus(mut rows: Rows) -> Rows {
    rows.retain(|key, _| key[2] != 0x02);
    rows
}

/// Without what a refused command may change: the results that are remembered, and the time.
fn facts(mut rows: Rows) -> Rows {
    rows.retain(|key, _| ![0x01, 0x60, 0x61].contains(&key[2]));
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_applied_the_rows_fit_together_and_a_refusal_changes_none(history in any_history()) {
        let world = World::new();
        let mut before = facts(world.rows());
        for envelope in history {
            let command = format!("{envelope:?}");
            let outcome = world.envelope(envelope);
            let after = facts(world.rows());
            prop_assert!(outcome.is_done() || after == before, "{command} was refused, and changed something");
            invariants::check(&world.state.read().unwrap());
            before = after;
        }
    }

    #[test]
    fn a_command_that_comes_twice_is_applied_once(history in any_history()) {
        let (twice, once) = (World::new(), World::new());
        let mut seen = std::collections::BTreeMap::new();
        for envelope in history {
            let outcome = twice.envelope(envelope.clone());
            let first = seen.entry(envelope.id).or_insert_with(|| once.envelope(envelope)).clone();
            prop_assert_eq!(outcome, first);
        }
        prop_assert_eq!(twice.rows(), once.rows());
    }

    #[test]
    fn a_restore_equals_the_original_at_every_sequence(history in any_history(), at in any::<Index>()) {
        let original = State::in_memory();
        let (mut entries, mut stages) = (Vec::new(), Vec::new());
        let mut snapshot = tempfile::tempfile().unwrap();
        let at = at.index(history.len());
        for (index, envelope) in (0..).zip(history) {
            let proposal = Some(encode(&envelope).into());
            entries.push(LogEntry { index, term: 1, proposal });
            let place = original.write(Sync::Deferred, |apply| {
                apply.apply(envelope)?;
                Ok((apply.position(), apply.time()))
            });
            stages.push((place.unwrap(), without_consensus(rows(&original))));
            if index == at as u64 {
                count_entries(&original, index + 1);
                Export::View(original.read().unwrap()).write_to(&mut snapshot).unwrap();
            }
        }
        let last = stages.last().unwrap().0.0.sequence;
        let folder = tempfile::tempdir().unwrap();
        for sequence in stages[at].0.0.sequence..=last {
            let mut rebuild = Rebuild::begin(&folder.path().join(sequence.to_string())).unwrap();
            rebuild.levels.reads = Level(u32::MAX);
            rebuild.load(snapshot.try_clone().unwrap()).unwrap();
            let all = rebuild.apply(&entries, Until::Sequence(sequence)).unwrap();
            let reached = stages.iter().rfind(|(place, _)| place.0.sequence <= sequence).unwrap();
            prop_assert_eq!(all, sequence == last);
            prop_assert_eq!((rebuild.position(), rebuild.time()), reached.0);
            prop_assert_eq!(&without_consensus(rows_of(rebuild.query().unwrap().into_rows())), &reached.1);
        }
    }

    #[test]
    fn replaying_the_log_equals_restoring_a_snapshot_and_the_rest(history in any_history(), at in any::<Index>()) {
        let replayed = State::in_memory();
        replayed.write(Sync::Deferred, |apply| history.iter().try_for_each(|entry| apply.apply(entry.clone()).map(drop)))
            .unwrap();

        let (before, after) = history.split_at(at.index(history.len()));
        let source = State::in_memory();
        for entry in before {
            source.write(Sync::Deferred, |apply| apply.apply(entry.clone())).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        Export::View(source.read().unwrap()).write_to(&mut file).unwrap();
        let restored = State::in_memory();
        restored.write(Sync::Deferred, |apply| apply.put_consensus(&vec![1])).unwrap();
        restored.replace(&Export::received(Box::new(file)).unwrap(), drop).unwrap();
        prop_assert_eq!(rows(&restored), rows(&source));
        for entry in after {
            restored.write(Sync::Deferred, |apply| apply.apply(entry.clone())).unwrap();
        }
        prop_assert_eq!(rows(&restored), rows(&replayed));
    }
}
