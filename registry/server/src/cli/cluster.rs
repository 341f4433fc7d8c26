//! The commands about the replicas of a cluster.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::{JSON, accepted, admin_arguments, data, print, sources, storage_arguments};
use crate::admin::{self, MemberChange};
use crate::recover;
use crate::settings::{Settings, Span};

const NODE: &str = "node";
const TO: &str = "to";
const LINGER: &str = "linger";
const YES: &str = "yes-i-lose";

pub(super) fn run(verb: &str, matches: &ArgMatches) -> anyhow::Result<()> {
    match verb {
        "members" => members_command(matches),
        "leadership" => leadership_command(matches),
        "drain" => drain_command(matches),
        "snapshot" => print(&admin::snapshot(&data(matches)?, matches.get_flag(JSON))?),
        _ => recover_command(matches),
    }
}

fn members_command(matches: &ArgMatches) -> anyhow::Result<()> {
    let Some((verb, matches)) = matches.subcommand() else {
        return print(&admin::members(&data(matches)?, matches.get_flag(JSON))?);
    };
    let node = matches.get_one::<u64>(NODE).copied().unwrap_or_default();
    let change = if verb == "promote" { MemberChange::Promote(node) } else { MemberChange::Remove(node) };
    print(&admin::change_member(&data(matches)?, change, matches.get_flag(JSON))?)
}

fn leadership_command(matches: &ArgMatches) -> anyhow::Result<()> {
    let Some((_, matches)) = matches.subcommand() else { unreachable!("clap asks for one") };
    let to = matches.get_one::<u64>(TO).copied();
    print(&admin::transfer_leadership(&data(matches)?, to, matches.get_flag(JSON))?)
}

fn drain_command(matches: &ArgMatches) -> anyhow::Result<()> {
    let linger = matches.get_one::<Duration>(LINGER).copied().unwrap_or_default();
    print(&admin::drain(&data(matches)?, linger, matches.get_flag(JSON))?)
}

fn recover_command(matches: &ArgMatches) -> anyhow::Result<()> {
    let confirmed = matches.get_one::<String>(YES).map(String::as_str);
    print(&recover::run(&Settings::read(&sources(matches)?)?, confirmed)?)
}

pub(super) fn commands() -> [Command; 5] {
    [members(), leadership(), drain(), snapshot(), recover()]
}

fn members() -> Command {
    let node = || {
        Arg::new(NODE)
            .value_name("ID")
            .required(true)
            .value_parser(clap::value_parser!(u64))
            .help("The node's id, as `roadstead members` shows it")
    };
    Command::new("members")
        .about("Lists the replicas of the cluster: votes, lag, contact, addresses; or changes them")
        .after_help(
            "Any replica can be asked: it asks the leader. A voter's acknowledgement counts when a change is agreed on, a \
             learner follows without one. A replica that joins becomes a learner by itself, and a voter unless it was \
             started with `--join-as learner`.",
        )
        .args(admin_arguments())
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("promote")
                .about("Gives a learner that has caught up a vote")
                .arg(node())
                .args(admin_arguments()),
        )
        .subcommand(
            Command::new("remove")
                .about("Takes a replica out of the cluster, for good")
                .after_help(
                    "Refused for the leader (transfer its leadership first), for the last voter, and where the voters \
                     that are left and in contact would be too few to agree. A node that was removed does not come back: \
                     stop its process; to take part again, it needs an empty data folder.",
                )
                .arg(node())
                .args(admin_arguments()),
        )
}

fn leadership() -> Command {
    let to = Arg::new(TO)
        .long(TO)
        .value_name("ID")
        .value_parser(clap::value_parser!(u64))
        .help("The voter that is to lead [default: the one that is nearest to the leader's log]");
    Command::new("leadership")
        .about("Hands leadership over to another replica")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("transfer")
                .about("Lets another voter lead, without an election that clients notice")
                .arg(to)
                .args(admin_arguments()),
        )
}

fn drain() -> Command {
    const TIMES: Span = Span { least: Duration::ZERO, most: Duration::from_hours(1) };
    let linger = Arg::new(LINGER)
        .long(LINGER)
        .value_name("TIME")
        .value_parser(|text: &str| accepted(&TIMES, text))
        .help("Ends so much later, so that load balancers notice before the process is stopped [default: 0s]");
    Command::new("drain")
        .about("Prepares the running replica for its end: not ready any more, and another one leads")
        .after_help(
            "Ends when another replica leads. What clients send meanwhile is answered as ever; then stop the process \
             (SIGTERM), which lets requests in flight finish. It cannot be taken back but by a restart. With one replica, \
             it only says that it is not ready any more.",
        )
        .arg(linger)
        .args(admin_arguments())
}

fn snapshot() -> Command {
    Command::new("snapshot")
        .about("Makes the running replica's state durable now, so that it starts again at once")
        .after_help("This is of its own disk alone. `roadstead backup` writes what a lost disk is restored from.")
        .args(admin_arguments())
}

fn recover() -> Command {
    let yes = Arg::new(YES)
        .long(YES)
        .value_name("CLUSTERID")
        .help("Confirms without being asked, by the id of the cluster that is given up");
    Command::new("recover")
        .about("Lets a stopped replica go on alone when most voters are lost for good; explains, and asks first")
        .after_help(
            "For a cluster that cannot agree on anything any more, since more than half of its voters are lost for good \
             with their data folders. Run it on one replica that is left, the one with the newest facts, with its settings \
             and while its process is stopped. It shows what that replica has and what may be lost, and changes nothing \
             before it is confirmed. If a majority can be started, start it instead; if none is left, `roadstead restore`.",
        )
        .arg(yes)
        .args(storage_arguments())
}
