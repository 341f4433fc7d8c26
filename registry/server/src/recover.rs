//! `roadstead recover`: the one replica that is left goes on, when most voters are lost for good.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, Write as _};
use std::path::Path;

use roadstead_blobs::BlobStore;
use roadstead_domain::{Place, claim_store, kept, rfc3339, store_owner};
use roadstead_metadata::{
    Ancestor, ClusterId, History, Holding, Identity, LogTime, QueryError, Survivor, SurvivorError,
};
use tokio::runtime::Builder;
use uuid::Uuid;

use crate::boot;
use crate::failure::Failure;
use crate::settings::Settings;

/// The longest line that is read as a confirmation: a UUID has 36 characters.
const MAX_CONFIRMATION: u64 = 1024;

/// What the blob store says of the history that the replica has.
enum Backup {
    /// It does not answer, or cannot be read.
    Unknown(String),
    /// It has none of that history.
    None,
    /// It has it up to here, at least.
    UpTo(Place),
}

/// Shows what the replica in the data folder has; if that is `confirmed`, or a person types it, makes it the only voter.
pub(crate) fn run(settings: &Settings, confirmed: Option<&str>) -> anyhow::Result<String> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(recover(settings, confirmed));
    runtime.shutdown_background();
    result
}

async fn recover(settings: &Settings, confirmed: Option<&str>) -> anyhow::Result<String> {
    let folder = settings.data.join("metadata");
    let survivor = match Survivor::open(&folder).await {
        // It was interrupted after it had done it, or whoever asks has not seen its end, and asks again.
        Err(SurvivorError::Alone(Identity { node, cluster })) if is_another(cluster, confirmed) => {
            return Ok(format!(
                "node {node} is the only voter already, of the cluster {}: nothing is to do\n",
                uuid(cluster)
            ));
        }
        opened => opened.map_err(|error| unusable(&folder, error))?,
    };
    let store = boot::open_store(settings).await?;
    let holding = survivor.holding().clone();
    check_store(&*store, &holding).await?;
    let backup = backup(&*store, &holding).await;
    let cluster = uuid(holding.identity.cluster);
    confirm(&explanation(&holding, &backup, &folder), &cluster, confirmed)?;

    let ports = boot::ports();
    let history = next_history(&holding, ports.wall().max(holding.time));
    let next = ClusterId(boot::fresh_uuid().as_u128());
    let identity = survivor.go_on_alone(next, &history).await.map_err(|error| unusable(&folder, error))?;
    let claimed = claim_store(&*store, &history).await.map_err(|error| error.to_string());
    Ok(result(&holding, identity.cluster, claimed))
}

/// Whether the cluster that was to be given up is one that a replica has left behind.
fn is_another(own: ClusterId, given_up: Option<&str>) -> bool {
    given_up.is_some_and(|given_up| given_up != uuid(own))
}

/// What the facts go on as. Those of a cluster that never came to name its history begin one.
fn next_history(holding: &Holding, begun: LogTime) -> History {
    let id = boot::fresh_uuid();
    let Some(former) = &holding.history else {
        return History { id, storage: boot::fresh_uuid(), incarnation: 1, parent: None, begun };
    };
    History {
        id,
        storage: former.storage,
        incarnation: former.incarnation + 1,
        parent: Some(Ancestor { history: former.id, entries: holding.last_index + 1, position: holding.position }),
        begun,
    }
}

/// Refuses where another history has the store already: the replica would find nothing of its own there.
async fn check_store(store: &dyn BlobStore, holding: &Holding) -> anyhow::Result<()> {
    let ours = holding.history.as_ref();
    match store_owner(store).await {
        Ok(Some(owner)) if ours.is_none_or(|ours| owner.id != ours.id && owner.incarnation >= ours.incarnation) => {
            let named = ours.map_or_else(|| "none".to_owned(), |ours| ours.id.to_string());
            let why = format!("its marker names the history {}, and this data folder has {named}", owner.id);
            let next =
                "the cluster goes on elsewhere since a restore or another recovery: let an empty data folder join it";
            Err(Failure::new("the blob store belongs to another history", next).because(anyhow::Error::msg(why)))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// How far the backup is, for whoever has to choose.
async fn backup(store: &dyn BlobStore, holding: &Holding) -> Backup {
    let Some(ours) = &holding.history else { return Backup::None };
    match kept(store).await {
        Ok(histories) => {
            let ours = histories.into_iter().find(|history| history.id == ours.id);
            ours.and_then(|history| history.last).map_or(Backup::None, Backup::UpTo)
        }
        Err(error) => Backup::Unknown(error.to_string()),
    }
}

fn unusable(folder: &Path, error: SurvivorError) -> anyhow::Error {
    let next = match error {
        SurvivorError::Open(error) => return boot::not_opened(folder, error),
        SurvivorError::Nothing(_) | SurvivorError::NoMember(_) => {
            "say with --data or --config where the replica that is left has its data"
        }
        SurvivorError::Alone(_) => "start it: it needs nobody's vote but its own",
        SurvivorError::Learner(_) => "recover a replica that has a vote, or run `roadstead restore`",
        SurvivorError::State(QueryError::Later(_)) => "recover it with the release that wrote it, or a later one",
        SurvivorError::State(_) | SurvivorError::Log(_) => {
            "recover another replica, or run `roadstead restore`, which needs the blob store alone"
        }
    };
    Failure::new(format!("the replica in {} cannot go on alone", folder.display()), next).because(error)
}

/// Ends with an error unless the cluster's id was given, or is typed now.
fn confirm(explanation: &str, cluster: &str, confirmed: Option<&str>) -> anyhow::Result<()> {
    let refused = |what: String| {
        let next = format!("type the cluster's id, or give `--yes-i-lose {cluster}`");
        Err(Failure::new("nothing was changed", next).because(anyhow::Error::msg(what)))
    };
    let mut out = io::stderr().lock();
    out.write_all(explanation.as_bytes())?;
    if let Some(given) = confirmed {
        let is_so = given == cluster;
        return if is_so { Ok(()) } else { refused(format!("{given} is not the id of this replica's cluster")) };
    }
    write!(out, "\nTo do that, type the cluster's id ({cluster}): ")?;
    out.flush()?;
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), MAX_CONFIRMATION).read_line(&mut line)?;
    match line.trim() {
        typed if typed == cluster => Ok(()),
        "" => refused("it was not confirmed".to_owned()),
        typed => refused(format!("{typed:?} is not the id of this replica's cluster")),
    }
}

fn explanation(holding: &Holding, backup: &Backup, folder: &Path) -> String {
    let Holding { identity, voters, last_index, last_term, position, time, committed_index, .. } = holding;
    let (node, cluster) = (identity.node, uuid(identity.cluster));
    let lost = || holding.voters.iter().filter(|(id, _)| **id != node);
    let places = lost().map(named).collect::<Vec<_>>().join(" and ");
    let others = lost().map(|(id, _)| format!("node {id}")).collect::<Vec<_>>().join(" and ");
    let needed = voters.len() / 2 + 1;
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = write!(
        text,
        "This is node {node} of the cluster {cluster}, in {folder}.\n\
         The cluster has {count} voters, of which {needed} must agree: {places}, and this one.\n\
         This replica has every entry up to {last_index}, of term {last_term}: change {sequence} of {time}. It knows that the\n\
         cluster agreed on them up to entry {committed_index}; what is behind that is kept as well.\n",
        folder = folder.display(),
        count = voters.len(),
        sequence = position.sequence,
        time = rfc3339(time),
    );
    let _ = match backup {
        Backup::Unknown(why) => writeln!(text, "How far the backup in the blob store is, is not known: {why}."),
        Backup::None => writeln!(text, "There is no backup of these facts in the blob store."),
        Backup::UpTo(place) if place.position.sequence > position.sequence => writeln!(
            text,
            "The backup in the blob store goes further, to change {} of {} at least: `roadstead restore` loses less.",
            place.position.sequence,
            rfc3339(&place.time)
        ),
        Backup::UpTo(place) => writeln!(
            text,
            "The backup in the blob store goes to change {}, which this replica has as well.",
            place.position.sequence
        ),
    };
    let _ = write!(
        text,
        "\nWhat will be done: node {node} becomes the only voter, with what it has, under a new id of the cluster. It then\n\
         starts and serves alone, and replicas with empty data folders can join it.\n\
         \nWhat may be lost, for good: every push and deletion that the others acknowledged without this replica. Blobs of such\n\
         pushes stay in the blob store as orphans; nothing is deleted from it for as long as `backup-retention`.\n\
         \nWhat must be so: {others} lost, or stopped for good. Their data folders hold another history from now on: empty\n\
         them before they join again. Started as they are, they find that the blob store is another history's, and end.\n\
         If more than half of the voters can be started, start them, and leave this.\n",
    );
    text
}

fn named((node, address): (&u64, &String)) -> String {
    if address.is_empty() { format!("node {node}") } else { format!("node {node} ({address})") }
}

fn result(holding: &Holding, cluster: ClusterId, claimed: Result<(), String>) -> String {
    let (node, former, cluster) = (holding.identity.node, uuid(holding.identity.cluster), uuid(cluster));
    let store = match claimed {
        Ok(()) => String::new(),
        Err(why) => format!(
            "the blob store could not be marked as this history's ({why}); the start of this replica does it: until then\n\
             replicas of the former cluster are not stopped by it\n"
        ),
    };
    format!(
        "node {node} is the only voter now; the cluster's id is {cluster}, and was {former}\n{store}\
         next: start it with the settings that it had; then let replicas with empty data folders join it (`--join`),\n\
         push again what was lost, and run `roadstead scrub`, which tells of objects that are missing\n"
    )
}

fn uuid(ClusterId(id): ClusterId) -> String {
    Uuid::from_u128(id).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use roadstead_metadata::{Identity, Position, VolumeId};

    use super::*;

    fn holding() -> Holding {
        let address = |node: u64| (node, format!("10.0.0.{node}:5001"));
        Holding {
            identity: Identity { cluster: ClusterId(7), node: 3 },
            volume: VolumeId(9),
            voters: BTreeMap::from([1, 2, 3].map(address)),
            learners: BTreeMap::new(),
            committed_index: 118,
            last_index: 120,
            last_term: 4,
            position: Position { epoch: 1, sequence: 57 },
            time: LogTime(1_782_907_200_000),
            history: None,
        }
    }

    #[test]
    fn people_are_told_what_they_lose() {
        insta::assert_snapshot!(explanation(&holding(), &Backup::None, Path::new("/data/metadata")), @r"
        This is node 3 of the cluster 00000000-0000-0000-0000-000000000007, in /data/metadata.
        The cluster has 3 voters, of which 2 must agree: node 1 (10.0.0.1:5001) and node 2 (10.0.0.2:5001), and this one.
        This replica has every entry up to 120, of term 4: change 57 of 2026-07-01T12:00:00.000Z. It knows that the
        cluster agreed on them up to entry 118; what is behind that is kept as well.
        There is no backup of these facts in the blob store.

        What will be done: node 3 becomes the only voter, with what it has, under a new id of the cluster. It then
        starts and serves alone, and replicas with empty data folders can join it.

        What may be lost, for good: every push and deletion that the others acknowledged without this replica. Blobs of such
        pushes stay in the blob store as orphans; nothing is deleted from it for as long as `backup-retention`.

        What must be so: node 1 and node 2 lost, or stopped for good. Their data folders hold another history from now on: empty
        them before they join again. Started as they are, they find that the blob store is another history's, and end.
        If more than half of the voters can be started, start them, and leave this.
        ");
        let place = |sequence| Place { position: Position { epoch: 1, sequence }, time: LogTime(1_782_907_260_000) };
        let further = explanation(&holding(), &Backup::UpTo(place(60)), Path::new("/data/metadata"));
        assert!(further.contains("to change 60") && further.contains("`roadstead restore` loses less"), "{further}");
        let behind = explanation(&holding(), &Backup::UpTo(place(50)), Path::new("/data/metadata"));
        assert!(!behind.contains("loses less"), "{behind}");
    }

    #[test]
    fn another_cluster_is_no_confirmation() {
        let id = uuid(ClusterId(7));
        confirm("", &id, Some(&id)).unwrap();
        let refused = confirm("", &id, Some("roadstead")).unwrap_err();
        assert_eq!(refused.to_string(), "nothing was changed");
    }
}
