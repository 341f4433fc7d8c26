//! Every setting, once.
//!
//! ```text
//!  table: key, kind, default, help ----> flags, `roadstead config`, examples/roadstead.toml, README
//!            |
//!  flag > environment > file > default   (sources)
//!            |
//!  Reader: typed values, every problem noted with key, origin, value and what is accepted
//!            |
//!  Settings: what depends on each other is one enum, so that nothing has to be checked again
//! ```

mod document;
mod file;
mod kind;
mod problem;
mod reader;
mod sources;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use document::example_file;
pub(crate) use kind::{Kind, Size, Span};
pub(crate) use problem::SettingsError;
use reader::{Noted, Reader};
use roadstead_domain::Acknowledge;
use roadstead_geo::{Filter, MAX_FILTER_RULES, Window};
pub(crate) use sources::{CONFIG_VARIABLE, Sources};
use table::{
    ACK, ACK_TIMEOUT, ANONYMOUS_PULL, AckChoice, BACKUP, BACKUP_INTERVAL, BACKUP_RETENTION, BLOB_SERVING, BLOBS,
    BODY_IDLE_TIMEOUT, CLUSTER_CA, CLUSTER_CERTIFICATE, CLUSTER_KEY, CLUSTER_SECRET_FILE, DISK_RESERVE, GC_GRACE,
    HTPASSWD, INSECURE_HTTP, JOIN, JOIN_AS, LISTEN, LOG_FORMAT, LOG_LEVEL, MAX_STALENESS, MAX_UPLOADS, MEMORY_BUDGET,
    PART_SIZE, PEER_ADDRESS, PEER_LISTEN, REDIRECT_EXPIRY, S3_BUCKET, S3_CA_FILE, S3_ENDPOINT, S3_PATH_STYLE,
    S3_PREFIX, S3_PUBLIC_ENDPOINT, S3_REGION, SCRUB_INTERVAL, SCRUB_RATE, SHUTDOWN_GRACE, SPARSE_MANIFESTS, STORAGE,
    ServingChoice, StorageChoice, TLS, TLS_CERTIFICATE, TLS_KEY, TLS_NAME, TlsChoice, UPLOAD_EXPIRY, UPSTREAM,
    UPSTREAM_CA_FILE, UPSTREAM_FILTER, UPSTREAM_PLATFORM, UPSTREAM_RATE, UPSTREAM_TOKEN_FILE, UPSTREAM_WINDOW,
};
pub(crate) use table::{ALL, DATA, JoinAs, Listed, LogFormat, Preset, Section};

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub listen: SocketAddr,
    pub data: PathBuf,
    pub storage: Storage,
    pub serving: BlobServing,
    /// In bytes.
    pub part_size: u64,
    /// In bytes; at least [`PARTS_IN_BUDGET`] parts.
    pub memory_budget: u64,
    /// In bytes.
    pub disk_reserve: u64,
    pub tls: Tls,
    pub login: Login,
    pub gc_grace: Duration,
    /// Bytes a second; 0 for never.
    pub scrub_rate: u64,
    pub scrub_interval: Duration,
    /// How old the facts may be that are shown without a leader.
    pub max_staleness: Duration,
    /// How it speaks with other replicas, if it does.
    pub cluster: Option<Cluster>,
    /// Which registry it mirrors, if it does.
    pub upstream: Option<Upstream>,
    pub sparse_manifests: bool,
    pub ack: Acknowledge,
    pub upload_expiry: Duration,
    pub max_uploads: u32,
    pub body_idle_timeout: Duration,
    pub shutdown_grace: Duration,
    pub backup: Backup,
    pub logs: Logs,
}

/// Where blobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    Filesystem {
        /// Where.
        folder: PathBuf,
    },
    S3(S3),
}

/// The bucket and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3 {
    pub bucket: String,
    pub prefix: Option<String>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub path_style: bool,
    pub ca_file: Option<PathBuf>,
}

/// Who sends large blobs to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlobServing {
    Inline,
    Redirect {
        expiry: Duration,
        /// The S3 server as clients reach it.
        endpoint: String,
    },
}

/// How the socket is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Plain HTTP: on loopback, or because it was asked for.
    Off,
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// For these host names and IP addresses.
    SelfSigned {
        names: Vec<String>,
    },
}

/// Who may do something without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// Everybody may do everything.
    None,
    Htpasswd {
        file: PathBuf,
        anonymous_pull: bool,
    },
}

/// Whether what changes is shipped to the blob store, how often it is written as a whole, and how far back a restore can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backup {
    pub ships: bool,
    pub interval: Duration,
    pub retention: Duration,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logs {
    pub format: LogFormat,
    pub filter: String,
}

/// An upload holds a part that fills and one that is being written, and another one must be able to go on beside it.
const PARTS_IN_BUDGET: u64 = 4;

/// What a self-signed certificate is for unless it is said.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How a replica speaks with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub listen: SocketAddr,
    /// What the others call it by.
    pub address: String,
    /// Whom it asks to be taken in, if its folder is empty.
    pub seeds: Vec<String>,
    pub join_as: JoinAs,
    pub credentials: ClusterCredentials,
}

/// The registry that this one mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// As it was given.
    pub url: String,
    /// A name, or an address; of IPv6 in brackets.
    pub host: String,
    pub port: u16,
    pub is_https: bool,
    pub token: PathBuf,
    pub ca_file: Option<PathBuf>,
    /// Bytes a second; any number, without.
    pub rate: Option<u64>,
    /// When large blobs are copied ahead; always, without one.
    pub windows: Vec<Window>,
    /// What is copied.
    pub filter: Filter,
}

/// What makes a replica one of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterCredentials {
    /// The file of the secret that makes the CA.
    Secret(PathBuf),
    /// What somebody else's CA has issued.
    Files { certificate: PathBuf, key: PathBuf, ca: PathBuf },
}

impl Settings {
    /// Reads and checks what was given.
    pub(crate) fn read(sources: &Sources) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(sources);
        let settings = Self::read_all(&mut reader);
        match (settings, reader.into_problems()) {
            (Ok(settings), problems) if problems.is_empty() => Ok(settings),
            (_, problems) => Err(SettingsError::Problems(problems)),
        }
    }

    /// The data folder alone, for those who only look for the registry that runs on it.
    pub(crate) fn read_data(sources: &Sources) -> Result<PathBuf, SettingsError> {
        let mut reader = Reader::new(sources);
        reader.one(&DATA).map_err(|Noted| SettingsError::Problems(reader.into_problems()))
    }

    fn read_all(reader: &mut Reader<'_>) -> Result<Self, Noted> {
        // Each is read before the first `?`, so that every problem is noted.
        let data = reader.one(&DATA);
        let storage = storage(reader);
        let serving = serving(reader);
        let sizes = sizes(reader);
        let tls = tls(reader);
        let listen = listen(reader, tls.as_ref().ok());
        let login = login(reader);
        let disk_reserve = reader.one(&DISK_RESERVE);
        let cluster = cluster(reader);
        let upstream = upstream(reader);
        let max_staleness = reader.one(&MAX_STALENESS);
        let gc_grace = reader.one(&GC_GRACE);
        let scrub_rate = reader.one(&SCRUB_RATE);
        let scrub_interval = reader.one(&SCRUB_INTERVAL);
        let sparse_manifests = reader.one(&SPARSE_MANIFESTS);
        let ack = acknowledge(reader);
        let upload_expiry = reader.one(&UPLOAD_EXPIRY);
        let max_uploads = reader.one(&MAX_UPLOADS);
        let body_idle_timeout = reader.one(&BODY_IDLE_TIMEOUT);
        let shutdown_grace = reader.one(&SHUTDOWN_GRACE);
        let backup = backup(reader);
        let logs = logs(reader);
        let (part_size, memory_budget) = sizes?;
        Ok(Self {
            listen: listen?,
            data: data?,
            storage: storage?,
            serving: serving?,
            part_size,
            memory_budget,
            disk_reserve: disk_reserve?,
            tls: tls?,
            login: login?,
            cluster: cluster?,
            upstream: upstream?,
            max_staleness: max_staleness?,
            gc_grace: gc_grace?,
            scrub_rate: scrub_rate?,
            scrub_interval: scrub_interval?,
            sparse_manifests: sparse_manifests?,
            ack: ack?,
            upload_expiry: upload_expiry?,
            max_uploads: max_uploads?,
            body_idle_timeout: body_idle_timeout?,
            shutdown_grace: shutdown_grace?,
            backup: backup?,
            logs: logs?,
        })
    }
}

fn storage(reader: &mut Reader<'_>) -> Result<Storage, Noted> {
    let choice = reader.one(&STORAGE);
    let data = reader.one(&DATA);
    let folder = reader.optional(&BLOBS);
    let bucket = reader.optional(&S3_BUCKET);
    let prefix = reader.optional(&S3_PREFIX);
    let region = reader.optional(&S3_REGION);
    let endpoint = reader.optional(&S3_ENDPOINT);
    let path_style = reader.one(&S3_PATH_STYLE);
    let ca_file = reader.optional(&S3_CA_FILE);
    let folder = folder?;
    match (choice?, bucket?) {
        (StorageChoice::S3, _) if folder.is_some() => {
            reader.refuse_but(&BLOBS, "`storage` is `s3`", "none, or a folder with `storage` = \"filesystem\"");
            Err(Noted)
        }
        (StorageChoice::Filesystem, None) => {
            let data = data?;
            Ok(Storage::Filesystem { folder: folder.unwrap_or_else(|| data.join("blobs")) })
        }
        (StorageChoice::Filesystem, Some(_)) => {
            // Pushing to a local disk what was meant for a bucket would be found out too late.
            reader.refuse_but(&S3_BUCKET, "`storage` is not `s3`", "none, or `storage` = \"s3\" with it");
            Err(Noted)
        }
        (StorageChoice::S3, None) => {
            reader.refuse_but(&STORAGE, "there is no `s3-bucket`", "\"s3\" with an `s3-bucket`, or \"filesystem\"");
            Err(Noted)
        }
        (StorageChoice::S3, Some(bucket)) => Ok(Storage::S3(S3 {
            bucket,
            prefix: prefix?,
            region: region?,
            endpoint: endpoint?,
            path_style: path_style?,
            ca_file: ca_file?,
        })),
    }
}

fn serving(reader: &mut Reader<'_>) -> Result<BlobServing, Noted> {
    let choice = reader.one(&BLOB_SERVING);
    let expiry = reader.one(&REDIRECT_EXPIRY);
    match choice? {
        ServingChoice::Inline => Ok(BlobServing::Inline),
        ServingChoice::Redirect if reader.one(&STORAGE)? == StorageChoice::Filesystem => {
            let reason = "files have no address that clients could be sent to";
            reader.refuse_but(&BLOB_SERVING, reason, "\"inline\", or \"redirect\" with `storage` = \"s3\"");
            Err(Noted)
        }
        ServingChoice::Redirect => Ok(BlobServing::Redirect { expiry: expiry?, endpoint: redirect_endpoint(reader)? }),
    }
}

/// Where clients are sent: the first of these that is set.
fn redirect_endpoint(reader: &mut Reader<'_>) -> Result<String, Noted> {
    let public = reader.optional(&S3_PUBLIC_ENDPOINT);
    let own = reader.optional(&S3_ENDPOINT);
    let amazon = reader.optional(&S3_REGION)?.map(|region| format!("https://s3.{region}.amazonaws.com"));
    public?.or(own?).or(amazon).ok_or_else(|| {
        let accepted = "\"inline\", or \"redirect\" with `s3-public-endpoint`, `s3-endpoint` or `s3-region`";
        reader.refuse_but(&BLOB_SERVING, "it is not said where clients reach the bucket", accepted);
        Noted
    })
}

/// The part size and the memory budget.
fn sizes(reader: &mut Reader<'_>) -> Result<(u64, u64), Noted> {
    let part_size = reader.one(&PART_SIZE);
    let budget = reader.one(&MEMORY_BUDGET);
    let (part_size, budget) = (part_size?, budget?);
    let least = part_size * PARTS_IN_BUDGET;
    if budget < least {
        let reason = format!("it holds less than {PARTS_IN_BUDGET} parts of `part-size` {}", kind::in_words(part_size));
        reader.refuse_but(&MEMORY_BUDGET, &reason, &format!("{} or more", kind::in_words(least)));
        return Err(Noted);
    }
    Ok((part_size, budget))
}

fn tls(reader: &mut Reader<'_>) -> Result<Tls, Noted> {
    let certificate = reader.optional(&TLS_CERTIFICATE);
    let key = reader.optional(&TLS_KEY);
    let choice = reader.optional(&TLS);
    let names = reader.many(&TLS_NAME);
    let both = "both `tls-certificate` and `tls-key`, or neither";
    match (certificate?, key?, choice?, names?) {
        (None, None, None, names) if names.is_empty() => Ok(Tls::Off),
        (None, None, None, _) => {
            reader.refuse_but(&TLS_NAME, "no certificate is made", "names, with `tls` = \"self-signed\"");
            Err(Noted)
        }
        (Some(certificate), Some(key), None, names) if names.is_empty() => Ok(Tls::Files { certificate, key }),
        (Some(_), Some(_), None, _) => {
            reader.refuse_but(
                &TLS_NAME,
                "the given certificate has its own names",
                "names, with `tls` = \"self-signed\"",
            );
            Err(Noted)
        }
        (Some(_), None, _, _) => {
            reader.refuse_but(&TLS_CERTIFICATE, "there is no `tls-key`", both);
            Err(Noted)
        }
        (None, Some(_), _, _) => {
            reader.refuse_but(&TLS_KEY, "there is no `tls-certificate`", both);
            Err(Noted)
        }
        (Some(_), Some(_), Some(TlsChoice::SelfSigned), _) => {
            reader.refuse_but(&TLS, "there is a `tls-certificate` too", "one of the two");
            Err(Noted)
        }
        (None, None, Some(TlsChoice::SelfSigned), names) if names.is_empty() => {
            Ok(Tls::SelfSigned { names: LOOPBACK_NAMES.map(str::to_owned).to_vec() })
        }
        (None, None, Some(TlsChoice::SelfSigned), names) => Ok(Tls::SelfSigned { names }),
    }
}

fn listen(reader: &mut Reader<'_>, tls: Option<&Tls>) -> Result<SocketAddr, Noted> {
    let insecure = reader.one(&INSECURE_HTTP);
    let listen = reader.one(&LISTEN)?;
    if tls == Some(&Tls::Off) && !listen.ip().is_loopback() && !insecure? {
        let reason = "other machines could reach it, and passwords and images would travel unprotected";
        let accepted = "a loopback address such as 127.0.0.1:5000; or any, with `tls-certificate` and `tls-key`, with \
                        `tls` = \"self-signed\", or with `insecure-http` = true where something else protects the way";
        reader.refuse_but(&LISTEN, reason, accepted);
        return Err(Noted);
    }
    Ok(listen)
}

fn login(reader: &mut Reader<'_>) -> Result<Login, Noted> {
    let file = reader.optional(&HTPASSWD);
    let anonymous_pull = reader.one(&ANONYMOUS_PULL);
    match (file?, anonymous_pull?) {
        (Some(file), anonymous_pull) => Ok(Login::Htpasswd { file, anonymous_pull }),
        (None, false) => Ok(Login::None),
        (None, true) => {
            let reason = "there is no `htpasswd`, so that everybody may pull and push";
            reader.refuse_but(&ANONYMOUS_PULL, reason, "false, or true with an `htpasswd`");
            Err(Noted)
        }
    }
}

fn cluster(reader: &mut Reader<'_>) -> Result<Option<Cluster>, Noted> {
    let listen = reader.optional(&PEER_LISTEN);
    let address = reader.optional(&PEER_ADDRESS);
    let seeds = reader.many(&JOIN);
    let join_as = reader.one(&JOIN_AS);
    let credentials = cluster_credentials(reader);
    let (listen, address, seeds, credentials) = (listen?, address?, seeds?, credentials?);
    let Some(listen) = listen else {
        if !seeds.is_empty() {
            reader.refuse_but(&JOIN, "there is no `peer-listen`", "none, or some with a `peer-listen`");
            return Err(Noted);
        }
        return Ok(None);
    };
    let Some(credentials) = credentials else {
        let reason = "there is neither `cluster-secret-file` nor `cluster-certificate`, so that anybody could join";
        reader.refuse_but(&PEER_LISTEN, reason, "none, or an address and one of the two");
        return Err(Noted);
    };
    let address = match address {
        Some(address) => address,
        None if !listen.ip().is_unspecified() && listen.port() != 0 => listen.to_string(),
        None => {
            let reason = "it is no address that the other replicas can use, and there is no `peer-address`";
            reader.refuse_but(
                &PEER_LISTEN,
                reason,
                "an address of this machine with a port, or any with `peer-address`",
            );
            return Err(Noted);
        }
    };
    Ok(Some(Cluster { listen, address, seeds, join_as: join_as?, credentials }))
}

fn cluster_credentials(reader: &mut Reader<'_>) -> Result<Option<ClusterCredentials>, Noted> {
    let secret = reader.optional(&CLUSTER_SECRET_FILE);
    let certificate = reader.optional(&CLUSTER_CERTIFICATE);
    let key = reader.optional(&CLUSTER_KEY);
    let ca = reader.optional(&CLUSTER_CA);
    match (secret?, certificate?, key?, ca?) {
        (None, None, None, None) => Ok(None),
        (Some(secret), None, None, None) => Ok(Some(ClusterCredentials::Secret(secret))),
        (None, Some(certificate), Some(key), Some(ca)) => Ok(Some(ClusterCredentials::Files { certificate, key, ca })),
        (Some(_), ..) => {
            let reason = "there is a `cluster-certificate`, `cluster-key` or `cluster-ca` too";
            reader.refuse_but(&CLUSTER_SECRET_FILE, reason, "a secret alone, or the three others");
            Err(Noted)
        }
        (None, ..) => {
            let reason = "`cluster-certificate`, `cluster-key` and `cluster-ca` belong together";
            reader.refuse_but(&CLUSTER_CERTIFICATE, reason, "all three, or a `cluster-secret-file` alone");
            Err(Noted)
        }
    }
}

fn acknowledge(reader: &mut Reader<'_>) -> Result<Acknowledge, Noted> {
    let choice = reader.one(&ACK);
    let within = reader.one(&ACK_TIMEOUT);
    let (choice, within) = (choice?, within?);
    Ok(match choice {
        AckChoice::Local => Acknowledge::Local,
        AckChoice::OneRemote => Acknowledge::OneRemote { within },
    })
}

fn upstream(reader: &mut Reader<'_>) -> Result<Option<Upstream>, Noted> {
    let url = reader.optional(&UPSTREAM);
    let token = reader.optional(&UPSTREAM_TOKEN_FILE);
    let ca_file = reader.optional(&UPSTREAM_CA_FILE);
    let rate = reader.one(&UPSTREAM_RATE);
    let windows = reader.many(&UPSTREAM_WINDOW);
    let filter = filter(reader);
    let (url, token, ca_file) = (url?, token?, ca_file?);
    let rate = Some(rate?).filter(|rate| *rate > 0);
    let (windows, filter) = (windows?, filter?);
    let Some(url) = url else {
        let together = "none, or one with an `upstream`";
        if token.is_some() {
            reader.refuse_but(&UPSTREAM_TOKEN_FILE, "there is no `upstream`", together);
            return Err(Noted);
        }
        if ca_file.is_some() {
            reader.refuse_but(&UPSTREAM_CA_FILE, "there is no `upstream`", together);
            return Err(Noted);
        }
        return Ok(None);
    };
    let Some(token) = token else {
        let reason = "there is no `upstream-token-file`, and that registry lets nobody follow it without a token";
        reader.refuse_but(&UPSTREAM, reason, "a URL with an `upstream-token-file`");
        return Err(Noted);
    };
    let uri: Option<http::Uri> = url.parse().ok();
    let is_https = url.starts_with("https://");
    let root = uri.filter(|uri| matches!(uri.path(), "" | "/"));
    let Some((host, port)) =
        root.and_then(|uri| Some((uri.host()?.to_owned(), uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }))))
    else {
        reader.refuse_but(&UPSTREAM, "it has a path", "a URL such as https://registry.example.com:5000");
        return Err(Noted);
    };
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_https && !is_loopback {
        let reason = "the token and all images would travel unprotected";
        reader.refuse_but(&UPSTREAM, reason, "an https URL, or http to this machine itself");
        return Err(Noted);
    }
    Ok(Some(Upstream { url, host, port, is_https, token, ca_file, rate, windows, filter }))
}

fn filter(reader: &mut Reader<'_>) -> Result<Filter, Noted> {
    let (rules, platforms) = (reader.many(&UPSTREAM_FILTER), reader.many(&UPSTREAM_PLATFORM));
    let filter = Filter { rules: rules?, platforms: platforms? };
    let most = format!("at most {MAX_FILTER_RULES} of them");
    if filter.rules.len() > MAX_FILTER_RULES {
        reader.refuse_but(&UPSTREAM_FILTER, "there are too many", &most);
        return Err(Noted);
    }
    if filter.platforms.len() > MAX_FILTER_RULES {
        reader.refuse_but(&UPSTREAM_PLATFORM, "there are too many", &most);
        return Err(Noted);
    }
    Ok(filter)
}

fn backup(reader: &mut Reader<'_>) -> Result<Backup, Noted> {
    let ships = reader.one(&BACKUP);
    let interval = reader.one(&BACKUP_INTERVAL);
    let retention = reader.one(&BACKUP_RETENTION);
    Ok(Backup { ships: ships?, interval: interval?, retention: retention? })
}

fn logs(reader: &mut Reader<'_>) -> Result<Logs, Noted> {
    let format = reader.one(&LOG_FORMAT);
    let filter = reader.one(&LOG_LEVEL);
    Ok(Logs { format: format?, filter: filter? })
}

#[cfg(test)]
mod tests;
