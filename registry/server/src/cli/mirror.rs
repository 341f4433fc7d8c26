//! The commands about the mirrors of a registry.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{JSON, admin_arguments, data, print};
use crate::admin;

const NAME: &str = "name";
const WRITES: &str = "writes";

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let Some((verb, matches)) = matches.subcommand() else {
        return print(&admin::mirrors(&data(matches)?, matches.get_flag(JSON))?);
    };
    let name = matches.get_one::<String>(NAME).map(String::as_str).unwrap_or_default();
    let (data, as_json) = (data(matches)?, matches.get_flag(JSON));
    print(&match verb {
        "token" => admin::mirror_token(&data, name, matches.get_flag(WRITES), as_json)?,
        _ => admin::dismiss_mirror(&data, name, as_json)?,
    })
}

pub(super) fn command() -> Command {
    let name =
        || Arg::new(NAME).value_name("NAME").required(true).help("What people call the mirror: a-z, 0-9, - and .");
    Command::new("mirror")
        .about("Lists who may follow this registry as a mirror, or changes that")
        .after_help(
            "A mirror is a registry that was started with `--upstream URL --upstream-token-file FILE`. It dials this one; \
             nothing need reach into it.",
        )
        .args(admin_arguments())
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("token")
                .about("Prints a new token for a mirror; the one that it had is not good any more")
                .arg(name())
                .arg(Arg::new(WRITES).long("writes").action(ArgAction::SetTrue).help(
                    "Lets it write what clients push there: what is pushed at the mirror is decided by this registry",
                ))
                .args(admin_arguments()),
        )
        .subcommand(Command::new("dismiss").about("Takes a mirror's token back").arg(name()).args(admin_arguments()))
}
