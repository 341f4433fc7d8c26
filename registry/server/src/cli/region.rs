//! The commands about which region is home.

use clap::builder::ArgAction;
use clap::{Arg, ArgMatches, Command};
use uuid::Uuid;

use super::{JSON, admin_arguments, data, print};
use crate::admin::{self, PromoteArguments};

const FORCE: &str = "force";
const YES: &str = "yes";
const EPOCH: &str = "epoch";
const HOME: &str = "home";
const CANCEL: &str = "cancel";

pub(super) fn promote(matches: &ArgMatches) -> anyhow::Result<()> {
    let arguments =
        PromoteArguments { force: matches.get_flag(FORCE), yes: matches.get_flag(YES), json: matches.get_flag(JSON) };
    print(&admin::promote(&data(matches)?, arguments)?)
}

pub(super) fn demote(matches: &ArgMatches) -> anyhow::Result<()> {
    if matches.get_flag(CANCEL) {
        return print(&admin::cancel_handover(&data(matches)?, matches.get_flag(JSON))?);
    }
    match (matches.get_one::<u64>(EPOCH), matches.get_one::<Uuid>(HOME)) {
        (Some(epoch), Some(home)) => print(&admin::demote(&data(matches)?, *epoch, *home, matches.get_flag(JSON))?),
        _ => unreachable!("clap asks for both"),
    }
}

pub(super) fn commands() -> [Command; 2] {
    let force = Arg::new(FORCE)
        .long(FORCE)
        .action(ArgAction::SetTrue)
        .help("Promotes without a handover, if none is to be had: what is said to be missing is lost here");
    let yes = Arg::new(YES).long(YES).action(ArgAction::SetTrue).help("Confirms without being asked");
    let promote = Command::new("promote")
        .about("Makes the mirror that runs the home of its registry; says what it costs, and asks first")
        .after_help(
            "If home answers, it is let take no more pushes, the mirror catches up with it, and takes over: nothing is lost. \
             If it does not, nothing is done without --force. At a home whose successor is lost for good, --force makes it \
             home again; before that one has taken over, use `roadstead demote --cancel`. Any replica can be asked.",
        )
        .args([force, yes])
        .args(admin_arguments());
    let epoch = Arg::new(EPOCH)
        .long(EPOCH)
        .value_name("N")
        .required_unless_present(CANCEL)
        .value_parser(clap::value_parser!(u64))
        .help("The epoch that has begun, as `roadstead promote` printed it");
    let home = Arg::new(HOME)
        .long(HOME)
        .value_name("CLUSTERID")
        .required_unless_present(CANCEL)
        .value_parser(clap::value_parser!(Uuid))
        .help("The cluster that is home in it");
    let cancel = Arg::new(CANCEL)
        .long(CANCEL)
        .action(ArgAction::SetTrue)
        .conflicts_with_all([EPOCH, HOME])
        .help("Takes a handover back: home goes on, if the mirror that was to take over has not");
    let demote = Command::new("demote")
        .about("Tells a home that was cut off that another region is home: it takes no pushes any more")
        .after_help(
            "A mirror that knows of it and dials this home tells it too. A home that stands still for a mirror which does not \
             come to take over is let go on with --cancel: that mirror cannot take over by the same handover then. One that cannot \
             reach this home and is promoted with --force does not know of that: of the two, the higher epoch stays home, and \
             what the other one acknowledged is kept aside.",
        )
        .args([epoch, home, cancel])
        .args(admin_arguments());
    [promote, demote]
}
