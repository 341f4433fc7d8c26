//! The commands about what is kept aside.

use clap::builder::ArgAction;
use clap::{Arg, ArgMatches, Command};

use super::{JSON, admin_arguments, data, print};
use crate::admin::{self, AsideWhich};

const SEQUENCE: &str = "sequence";
const ALL: &str = "all";
const MOVE_TAGS: &str = "move-tags";

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    match matches.subcommand() {
        Some(("push", matches)) => {
            let move_tags = matches.get_flag(MOVE_TAGS);
            print(&admin::push_aside(&data(matches)?, which(matches), move_tags, matches.get_flag(JSON))?)
        }
        Some((_, matches)) => print(&admin::dismiss_aside(&data(matches)?, which(matches), matches.get_flag(JSON))?),
        None => print(&admin::aside(&data(matches)?, matches.get_flag(JSON))?),
    }
}

fn which(matches: &ArgMatches) -> AsideWhich {
    matches.get_one::<u64>(SEQUENCE).map_or(AsideWhich::All, |sequence| AsideWhich::One(*sequence))
}

pub(super) fn command() -> Command {
    let sequence = Arg::new(SEQUENCE)
        .value_name("SEQUENCE")
        .value_parser(clap::value_parser!(u64))
        .required_unless_present(ALL)
        .help("The change, as `roadstead aside` lists it");
    let all = Arg::new(ALL)
        .long(ALL)
        .action(ArgAction::SetTrue)
        .conflicts_with(SEQUENCE)
        .help("Everything that is kept aside");
    let move_tags = Arg::new(MOVE_TAGS)
        .long(MOVE_TAGS)
        .action(ArgAction::SetTrue)
        .help("Also moves those of its tags that are another manifest at home now");
    Command::new("aside")
        .about("Lists what was acknowledged here before another region became home, and is missing there")
        .after_help(
            "It is kept with all that it names, and neither served nor collected, until it is pushed again at the new home \
             or dismissed.",
        )
        .args(admin_arguments())
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("push")
                .about("Pushes it again at the new home, the oldest first, and then forgets it here")
                .after_help(
                    "Tags that home does not have are made, as they were last; those that are another manifest there are left alone and named. \
                     The mirror's token must be one that may write.",
                )
                .args([sequence.clone(), all.clone(), move_tags])
                .args(admin_arguments()),
        )
        .subcommand(
            Command::new("dismiss")
                .about("Forgets what is kept aside, so that its content is collected")
                .args([sequence, all])
                .args(admin_arguments()),
        )
}
