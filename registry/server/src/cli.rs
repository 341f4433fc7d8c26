//! The command line: what is run, and how failures are told to people.

mod aside;
mod cluster;
mod mirror;
mod region;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::ArgAction;
use clap::{Arg, ArgMatches, Command};

use roadstead_domain::{ClaimError, parse_rfc3339};
use roadstead_metadata::{LogTime, Until};
use uuid::Uuid;

use crate::admin::{self, ScrubRequest};
use crate::cluster::Removed;
use crate::failure::{Failure, report};
use crate::restore::{self, Wanted};
use crate::settings::{self, Kind, Listed, Preset, Section, Settings, SettingsError, Size, Sources, Span};
use crate::tasks::{TaskFailed, TaskKind};
use crate::{auth, dev, scrub, serve};

/// What `clap` exits with on a wrong command line, and we on settings that cannot be used.
const EXIT_USAGE: u8 = 2;

/// What a replica exits with that was taken out of its cluster: whoever starts it again may give it another volume.
const EXIT_REMOVED: u8 = 4;

/// What a registry exits with whose blob store belongs to another one: starting it again does not help.
const EXIT_STORE_TAKEN: u8 = 5;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let result = match matches.subcommand() {
        None => serve_command(&matches),
        Some(("serve", matches)) => serve_command(matches),
        Some(("dev", matches)) => dev_command(matches),
        Some(("scrub", matches)) => return end(scrub_command(matches)),
        Some(("status", matches)) => {
            data(matches).and_then(|data| print(&admin::status(&data, matches.get_flag(JSON))?))
        }
        Some((verb @ ("members" | "leadership" | "drain" | "snapshot" | "recover"), matches)) => {
            cluster::run(verb, matches)
        }
        Some(("mirror", matches)) => mirror::run(matches),
        Some(("aside", matches)) => aside::run(matches),
        Some(("promote", matches)) => region::promote(matches),
        Some(("demote", matches)) => region::demote(matches),
        Some(("backup", matches)) => backup_command(matches),
        Some(("restore", matches)) => restore_command(matches),
        Some(("config", _)) => print(&settings::example_file()),
        Some(("version", _)) => print(&format!("roadstead {}\n", env!("CARGO_PKG_VERSION"))),
        Some(("hash-password", matches)) => hash_password(matches),
        Some((other, _)) => unreachable!("clap knows no command {other}"),
    };
    end(result.map(|()| ExitCode::SUCCESS))
}

fn end(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            match () {
                () if error.is::<SettingsError>() => ExitCode::from(EXIT_USAGE),
                () if error.downcast_ref::<Removed>().is_some() => ExitCode::from(EXIT_REMOVED),
                () if is_store_taken(&error) => ExitCode::from(EXIT_STORE_TAKEN),
                () => ExitCode::FAILURE,
            }
        }
    }
}

/// Whether it was found at the start, or later, that the blob store is another registry's.
fn is_store_taken(error: &anyhow::Error) -> bool {
    let at_start = error.downcast_ref::<ClaimError>().is_some_and(|error| !matches!(error, ClaimError::Fault(_)));
    let later = error.downcast_ref::<TaskFailed>().is_some_and(|failed| failed.kind == TaskKind::StoreWatch);
    at_start || later
}

fn serve_command(matches: &ArgMatches) -> anyhow::Result<()> {
    serve::serve(Settings::read(&sources(matches)?)?)
}

fn dev_command(matches: &ArgMatches) -> anyhow::Result<()> {
    let listen = matches.get_one::<SocketAddr>(DEV_LISTEN).copied();
    let data = matches.get_one::<PathBuf>(DEV_DATA).cloned();
    match (listen, data) {
        (Some(listen), Some(data)) => dev::dev(listen, &data),
        _ => unreachable!("both have a default"),
    }
}

fn scrub_command(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let request = ScrubRequest {
        rate: matches.get_one::<u64>(RATE).copied(),
        orphan_age_seconds: matches.get_one::<Duration>(ORPHAN_AGE).copied().unwrap_or(scrub::ORPHAN_AGE).as_secs(),
        delete_orphans: matches.get_flag(DELETE_ORPHANS),
    };
    admin::scrub(&data(matches)?, request, matches.get_flag(JSON))
}

fn backup_command(matches: &ArgMatches) -> anyhow::Result<()> {
    let (run, matches): (fn(&Settings, bool) -> _, _) = match matches.subcommand() {
        Some((_, matches)) => (restore::list, matches),
        None => (restore::backup, matches),
    };
    let text: anyhow::Result<String> = run(&Settings::read(&sources(matches)?)?, matches.get_flag(JSON));
    print(&text?)
}

fn restore_command(matches: &ArgMatches) -> anyhow::Result<()> {
    let until = match (matches.get_one::<u64>(SEQUENCE), matches.get_one::<LogTime>(TIME)) {
        (Some(sequence), _) => Until::Sequence(*sequence),
        (None, Some(time)) => Until::Time(*time),
        (None, None) => Until::End,
    };
    let wanted = if matches.get_flag(RECOVER) {
        Wanted::Recovery
    } else {
        let (history, if_empty) = (matches.get_one(HISTORY).copied(), matches.get_flag(IF_EMPTY));
        Wanted::Backup { history, until, if_empty }
    };
    print(&restore::run(&Settings::read(&sources(matches)?)?, wanted)?)
}

/// The data folder of the registry that a subcommand is about.
fn data(matches: &ArgMatches) -> anyhow::Result<PathBuf> {
    Ok(Settings::read_data(&sources(matches)?)?)
}

fn sources(matches: &ArgMatches) -> Result<Sources, SettingsError> {
    let config = matches.get_one::<PathBuf>(CONFIG).cloned();
    Sources::gather(flags(matches), std::env::vars_os(), config)
}

fn hash_password(matches: &ArgMatches) -> anyhow::Result<()> {
    let user = matches.get_one::<String>("user").map(String::as_str).unwrap_or_default();
    let line = auth::htpasswd_line(user, &auth::read_password()?)
        .map_err(|error| Failure::new("no line can be made", "choose another name or password").because(error))?;
    print(&format!("{line}\n"))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads, `head` for one, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

const CONFIG: &str = "config";
const DEV_LISTEN: &str = "listen";
const DEV_DATA: &str = "data";
const JSON: &str = "json";
const RATE: &str = "rate";
const ORPHAN_AGE: &str = "orphan-age";
const DELETE_ORPHANS: &str = "delete-orphans";
const SEQUENCE: &str = "sequence";
const TIME: &str = "time";
const HISTORY: &str = "history";
const RECOVER: &str = "recover";
const IF_EMPTY: &str = "if-empty";

fn command() -> Command {
    Command::new("roadstead")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An OCI and Docker registry")
        .after_help("Without a command it serves. `roadstead serve --help` lists every setting.")
        .args_conflicts_with_subcommands(true)
        .args(arguments().map(|argument| argument.hide(true)))
        .subcommand(
            Command::new("serve")
                .about("Runs the registry")
                .after_help("A flag wins over its environment variable, that over the file, that over the default.")
                .args(arguments()),
        )
        .subcommand(
            Command::new("dev")
                .about("Runs three replicas behind one port and a mirror of them on this machine, to try things out")
                .args(dev_arguments()),
        )
        .subcommand(
            Command::new("status")
                .about("Says what the registry that runs on the data folder is doing")
                .args(admin_arguments()),
        )
        .subcommand(
            Command::new("scrub")
                .about("Compares everything that the running registry has with its digests, now")
                .after_help(
                    "Ends with 0 if everything is as it should be, 3 if something is damaged, missing or unreadable, 1 if \
                     it could not be made. Nothing is deleted but orphans, if so asked.",
                )
                .args(scrub_arguments())
                .args(admin_arguments()),
        )
        .subcommands(cluster::commands())
        .subcommand(mirror::command())
        .subcommands(region::commands())
        .subcommand(aside::command())
        .subcommand(backup())
        .subcommand(restore_arguments())
        .subcommand(Command::new("config").about("Prints a configuration file with every setting, commented"))
        .subcommand(Command::new("version").about("Prints the version"))
        .subcommand(
            Command::new("hash-password")
                .about("Reads a password and prints the line of an htpasswd file for it")
                .arg(Arg::new("user").value_name("USER").required(true).help("The name to log in with")),
        )
}

fn backup() -> Command {
    let list = Command::new("list").about("Lists what can be restored").args(storage_arguments()).arg(json_argument());
    Command::new("backup")
        .about("Writes all facts to where the blobs are, now: by the registry that runs, or by itself if none does")
        .args(storage_arguments())
        .arg(json_argument())
        .args_conflicts_with_subcommands(true)
        .subcommand(list)
}

fn restore_arguments() -> Command {
    let sequence = Arg::new(SEQUENCE)
        .long(SEQUENCE)
        .value_name("N")
        .value_parser(clap::value_parser!(u64))
        .help("Goes back to this change of the registry");
    let time = Arg::new(TIME)
        .long(TIME)
        .value_name("RFC3339")
        .value_parser(|text: &str| parse_rfc3339(text).ok_or("a time such as 2026-07-01T12:00:00Z is wanted"))
        .conflicts_with(SEQUENCE)
        .help("Goes back to this time, such as 2026-07-01T12:00:00Z");
    let history = Arg::new(HISTORY)
        .long(HISTORY)
        .value_name("ID")
        .value_parser(clap::value_parser!(Uuid))
        .help("Takes this history of those that `roadstead backup list` shows, not the one that went on last");
    let recover =
        Arg::new(RECOVER).long(RECOVER).action(ArgAction::SetTrue).conflicts_with_all([SEQUENCE, TIME, HISTORY]).help(
            "Needs no backup: hashes every object and puts it into the repository `recovered`, without names and tags",
        );
    let if_empty =
        Arg::new(IF_EMPTY).long(IF_EMPTY).action(ArgAction::SetTrue).conflicts_with(RECOVER).help(
            "Does nothing, and ends well, where the data folder has facts already: for what runs it again and again",
        );
    Command::new("restore")
        .about("Makes the metadata of a new data folder out of what is in the blob store")
        .args([sequence, time, history, recover, if_empty])
        .args(storage_arguments())
}

/// The flags, out of the table of settings.
fn arguments() -> impl Iterator<Item = Arg> {
    std::iter::once(config_argument()).chain(settings::ALL.iter().map(|setting| argument(*setting)))
}

fn dev_arguments() -> [Arg; 2] {
    [
        Arg::new(DEV_LISTEN)
            .long(DEV_LISTEN)
            .value_name("ADDR:PORT")
            .default_value("127.0.0.1:5000")
            .value_parser(clap::value_parser!(SocketAddr))
            .help("Where clients connect; the replicas take the ports 1-3 and 11-13 above it, the mirror the port 4 above it"),
        Arg::new(DEV_DATA)
            .long(DEV_DATA)
            .value_name("DIR")
            .default_value("roadstead-dev")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Keeps everything in this folder"),
    ]
}

/// The flags of whatever asks the running registry.
fn admin_arguments() -> [Arg; 3] {
    [json_argument(), argument(&settings::DATA), config_argument()]
}

fn json_argument() -> Arg {
    Arg::new(JSON).long(JSON).action(ArgAction::SetTrue).help("Prints JSON, for programs")
}

/// The flags that say where facts and blobs are.
fn storage_arguments() -> impl Iterator<Item = Arg> {
    let stored = settings::ALL.iter().filter(|setting| setting.about().section == Section::Storage);
    let stored = stored.map(|setting| argument(*setting));
    [config_argument(), argument(&settings::DATA)].into_iter().chain(stored)
}

fn scrub_arguments() -> [Arg; 3] {
    const RATES: Size = Size { least: 0, most: u64::MAX };
    const AGES: Span = Span { least: Duration::ZERO, most: Duration::from_hours(24 * 365) };
    [
        Arg::new(RATE)
            .long(RATE)
            .value_name("SIZE")
            .value_parser(|text: &str| accepted(&RATES, text))
            .help("Reads so many bytes a second, as many as come with 0B [default: the registry's scrub-rate]"),
        Arg::new(ORPHAN_AGE)
            .long(ORPHAN_AGE)
            .value_name("TIME")
            .value_parser(|text: &str| accepted(&AGES, text))
            .help("Tells of objects that no fact knows when they are so old [default: 24h]"),
        Arg::new(DELETE_ORPHANS).long(DELETE_ORPHANS).action(ArgAction::SetTrue).help("Deletes those objects"),
    ]
}

/// A flag's value, written as a setting's of this kind would be.
fn accepted<K: Kind>(kind: &K, text: &str) -> Result<K::Value, String> {
    kind.parse(text).ok_or_else(|| format!("accepted: {}", kind.accepted()))
}

fn config_argument() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!("Reads settings from this TOML file [env: {}]", settings::CONFIG_VARIABLE))
}

fn argument(setting: &dyn Listed) -> Arg {
    let about = setting.about();
    let default = match about.default {
        Preset::Text(text) => format!(" [default: {text}]"),
        Preset::Unset { .. } => String::new(),
    };
    let argument = Arg::new(about.key)
        .long(about.key)
        .value_name(about.placeholder)
        .help(format!("{}{default} [env: {}]", about.help, about.variable()))
        .help_heading(about.section.title())
        .action(if about.repeatable { ArgAction::Append } else { ArgAction::Set });
    if setting.is_switch() {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
    }
}

/// The flags that were given, by key. Not every command knows all of them.
fn flags(matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let given = |key| Some(matches.try_get_many::<String>(key).ok()??.cloned().collect());
    let keys = settings::ALL.iter().map(|setting| setting.about().key);
    keys.filter_map(|key| Some((key.to_owned(), given(key)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn given(words: &[&str]) -> BTreeMap<String, Vec<String>> {
        let words = std::iter::once("roadstead").chain(words.iter().copied()).map(OsString::from);
        let matches = command().try_get_matches_from(words).unwrap();
        flags(matches.subcommand().map_or(&matches, |(_, matches)| matches))
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn serving_needs_no_word() {
        assert_eq!(given(&["serve", "--listen", "x"]), given(&["--listen", "x"]));
        assert_eq!(given(&[]), BTreeMap::new());
    }

    #[test]
    fn switches_need_no_value_and_lists_take_several() {
        let flags = given(&["serve", "--insecure-http", "--s3-path-style=false", "--tls-name", "a", "--tls-name", "b"]);
        assert_eq!(flags["insecure-http"], ["true"]);
        assert_eq!(flags["s3-path-style"], ["false"]);
        assert_eq!(flags["tls-name"], ["a", "b"]);
    }
}
