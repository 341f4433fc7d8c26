//! The one table of all settings. Flags, environment names, file keys, help, defaults, the commented example file and
//! the README's table are made from it.

use std::time::Duration;

use super::kind::{
    Address, Choice, Count, Endpoint, File, Followed, HostAndPort, HostName, Kind, LogFilter, RunsOn, Size, Span,
    Switch, WeekWindow, Word,
};

/// A setting whose text becomes a `K::Value`.
pub(crate) struct Setting<K> {
    pub about: About,
    pub kind: K,
}

/// What people are told about a setting.
pub(crate) struct About {
    /// The key in the file; `--key` on the command line, `ROADSTEAD_KEY` in the environment.
    pub key: &'static str,
    pub section: Section,
    pub placeholder: &'static str,
    pub default: Preset,
    /// Whether it may be given several times (in the environment: separated by commas).
    pub repeatable: bool,
    /// One or more sentences.
    pub help: &'static str,
}

/// What holds when a setting is not given.
#[derive(Clone, Copy)]
pub(crate) enum Preset {
    /// This text.
    Text(&'static str),
    /// Nothing; a sensible value is shown in the example file.
    Unset { example: &'static str },
}

/// The headings under which settings are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Serving,
    Storage,
    Tls,
    Login,
    Limits,
    Scrub,
    Backup,
    Cluster,
    Mirror,
    Logs,
}

impl Section {
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Serving => "Where it serves and keeps its data",
            Self::Storage => "Where blobs are kept and how they are served",
            Self::Tls => "TLS",
            Self::Login => "Login",
            Self::Limits => "Uploads and limits",
            Self::Scrub => "Scrub",
            Self::Cluster => "Several replicas",
            Self::Mirror => "Mirror of another registry",
            Self::Backup => "Backup",
            Self::Logs => "Logs",
        }
    }
}

/// A setting without the type of its value.
pub(crate) trait Listed: Sync {
    fn about(&self) -> &About;
    fn accepted(&self) -> String;
    /// Whether the text is accepted.
    #[cfg(test)]
    fn accepts(&self, text: &str) -> bool;
    /// Whether the flag alone means `true`.
    fn is_switch(&self) -> bool {
        matches!(self.about().default, Preset::Text("true" | "false"))
    }
}

impl<K: Kind> Listed for Setting<K> {
    fn about(&self) -> &About {
        &self.about
    }

    fn accepted(&self) -> String {
        self.kind.accepted()
    }

    #[cfg(test)]
    fn accepts(&self, text: &str) -> bool {
        self.kind.parse(text).is_some()
    }
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("ROADSTEAD_{}", key.to_ascii_uppercase().replace('-', "_"))
}

impl About {
    /// The name of its environment variable.
    pub(crate) fn variable(&self) -> String {
        variable(self.key)
    }

    const fn new(
        key: &'static str,
        section: Section,
        placeholder: &'static str,
        default: Preset,
        help: &'static str,
    ) -> Self {
        Self { key, section, placeholder, default, repeatable: false, help }
    }
}

/// Where blobs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageChoice {
    Filesystem,
    S3,
}

/// Who sends large blobs to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServingChoice {
    Inline,
    Redirect,
}

/// When a push is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckChoice {
    Local,
    OneRemote,
}

/// What a replica is that joins a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinAs {
    Voter,
    Learner,
}

/// How certificates are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsChoice {
    SelfSigned,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const DAY: u64 = 86_400;

pub(crate) static LISTEN: Setting<Address> = Setting {
    kind: Address,
    about: About::new(
        "listen",
        Section::Serving,
        "ADDR:PORT",
        Preset::Text("127.0.0.1:5000"),
        "The address and port to serve on. Port 0 takes any free one.",
    ),
};

pub(crate) static DATA: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "data",
        Section::Serving,
        "DIR",
        Preset::Text("./roadstead-data"),
        "The folder for tags, upload sessions and the made CA, and for blobs unless they are on S3. Created if missing.",
    ),
};

pub(crate) static STORAGE: Setting<Choice<StorageChoice>> = Setting {
    kind: Choice(&[("filesystem", StorageChoice::Filesystem), ("s3", StorageChoice::S3)]),
    about: About::new(
        "storage",
        Section::Storage,
        "KIND",
        Preset::Text("filesystem"),
        "Where blobs are kept: in the folder `blobs` under `data`, or in an S3 bucket.",
    ),
};

pub(crate) static BLOBS: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "blobs",
        Section::Storage,
        "DIR",
        Preset::Unset { example: "/srv/roadstead/blobs" },
        "Another folder for blobs than `blobs` under `data`. The replicas of a cluster share one, on a disk that all of \
         them reach.",
    ),
};

pub(crate) static S3_BUCKET: Setting<Word> = Setting {
    kind: Word,
    about: About::new(
        "s3-bucket",
        Section::Storage,
        "NAME",
        Preset::Unset { example: "my-registry" },
        "The bucket. Credentials are found as by every AWS tool: environment, profile, instance or pod identity.",
    ),
};

pub(crate) static S3_PREFIX: Setting<Word> = Setting {
    kind: Word,
    about: About::new(
        "s3-prefix",
        Section::Storage,
        "PREFIX",
        Preset::Unset { example: "production" },
        "Keeps all objects under this prefix. Two registries must not share a bucket and prefix.",
    ),
};

pub(crate) static S3_REGION: Setting<Word> = Setting {
    kind: Word,
    about: About::new(
        "s3-region",
        Section::Storage,
        "REGION",
        Preset::Unset { example: "eu-central-1" },
        "The bucket's region, if the environment or profile does not name it.",
    ),
};

pub(crate) static S3_ENDPOINT: Setting<Endpoint> = Setting {
    kind: Endpoint,
    about: About::new(
        "s3-endpoint",
        Section::Storage,
        "URL",
        Preset::Unset { example: "https://minio.example.com:9000" },
        "The S3 server, if it is not AWS.",
    ),
};

pub(crate) static S3_PUBLIC_ENDPOINT: Setting<Endpoint> = Setting {
    kind: Endpoint,
    about: About::new(
        "s3-public-endpoint",
        Section::Storage,
        "URL",
        Preset::Unset { example: "https://blobs.example.com" },
        "The S3 server as clients reach it, for redirects, if they cannot reach `s3-endpoint`.",
    ),
};

pub(crate) static S3_PATH_STYLE: Setting<Switch> = Setting {
    kind: Switch,
    about: About::new(
        "s3-path-style",
        Section::Storage,
        "BOOL",
        Preset::Text("false"),
        "Addresses the bucket in the path rather than in the host name. Most servers other than AWS want it.",
    ),
};

pub(crate) static S3_CA_FILE: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "s3-ca-file",
        Section::Storage,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/s3-ca.pem" },
        "Trusts the authorities in this PEM file for the S3 server, beside the system's.",
    ),
};

pub(crate) static BLOB_SERVING: Setting<Choice<ServingChoice>> = Setting {
    kind: Choice(&[("inline", ServingChoice::Inline), ("redirect", ServingChoice::Redirect)]),
    about: About::new(
        "blob-serving",
        Section::Storage,
        "KIND",
        Preset::Text("inline"),
        "Streams blobs through this process, or redirects clients to the bucket for large ones.",
    ),
};

pub(crate) static REDIRECT_EXPIRY: Setting<Span> = Setting {
    // A collected object stays for two hours after the last fact that named it, so no link may be good for longer.
    kind: Span { least: seconds(1), most: seconds(3_600) },
    about: About::new(
        "redirect-expiry",
        Section::Storage,
        "TIME",
        Preset::Text("20m"),
        "How long a redirect's link can be used.",
    ),
};

pub(crate) static PART_SIZE: Setting<Size> = Setting {
    // S3 takes no part below 5 MiB but the last; above 512 MiB an upload's buffer would outgrow any sensible budget.
    kind: Size { least: 5 * MIB, most: 512 * MIB },
    about: About::new(
        "part-size",
        Section::Storage,
        "SIZE",
        Preset::Text("8MiB"),
        "Blobs are written in parts of this size. The largest blob is 10,000 parts: 78 GiB of 8 MiB each.",
    ),
};

pub(crate) static MEMORY_BUDGET: Setting<Size> = Setting {
    kind: Size { least: 20 * MIB, most: TIB },
    about: About::new(
        "memory-budget",
        Section::Storage,
        "SIZE",
        Preset::Text("128MiB"),
        "The memory for content in transit, whatever the number of pushes; at least four parts. Clients wait when it is used up.",
    ),
};

pub(crate) static DISK_RESERVE: Setting<Size> = Setting {
    kind: Size { least: MIB, most: TIB },
    about: About::new(
        "disk-reserve",
        Section::Storage,
        "SIZE",
        Preset::Text("256MiB"),
        "The room on the disk of `data` that pushes leave, so that deleting and collecting goes on. With less, pushes get 503.",
    ),
};

pub(crate) static TLS_CERTIFICATE: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "tls-certificate",
        Section::Tls,
        "FILE",
        Preset::Unset { example: "/etc/letsencrypt/live/registry.example.com/fullchain.pem" },
        "Serves HTTPS with this certificate chain (PEM). Read again when it changes.",
    ),
};

pub(crate) static TLS_KEY: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "tls-key",
        Section::Tls,
        "FILE",
        Preset::Unset { example: "/etc/letsencrypt/live/registry.example.com/privkey.pem" },
        "The certificate's private key (PEM). Read again when it changes.",
    ),
};

pub(crate) static TLS: Setting<Choice<TlsChoice>> = Setting {
    kind: Choice(&[("self-signed", TlsChoice::SelfSigned)]),
    about: About::new(
        "tls",
        Section::Tls,
        "KIND",
        Preset::Unset { example: "self-signed" },
        "Serves HTTPS with a certificate of an own CA, kept under `data`; the log says how clients trust it.",
    ),
};

pub(crate) static TLS_NAME: Setting<HostName> = Setting {
    kind: HostName,
    about: About {
        repeatable: true,
        ..About::new(
            "tls-name",
            Section::Tls,
            "NAME",
            Preset::Unset { example: "registry.example.com" },
            "A host name or IP address that the self-signed certificate is for. If none is given: localhost, 127.0.0.1 and ::1.",
        )
    },
};

pub(crate) static INSECURE_HTTP: Setting<Switch> = Setting {
    kind: Switch,
    about: About::new(
        "insecure-http",
        Section::Tls,
        "BOOL",
        Preset::Text("false"),
        "Allows plain HTTP on an address that other machines reach. Passwords and images can then be read and changed on the way.",
    ),
};

pub(crate) static HTPASSWD: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "htpasswd",
        Section::Login,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/htpasswd" },
        "Users and their passwords' hashes (bcrypt or argon2id; see `roadstead hash-password`). Read again when it changes. Without it everybody may pull and push.",
    ),
};

pub(crate) static ANONYMOUS_PULL: Setting<Switch> = Setting {
    kind: Switch,
    about: About::new(
        "anonymous-pull",
        Section::Login,
        "BOOL",
        Preset::Text("false"),
        "Lets everybody pull without login; pushing still needs one.",
    ),
};

pub(crate) static GC_GRACE: Setting<Span> = Setting {
    kind: Span { least: seconds(1), most: seconds(365 * DAY) },
    about: About::new(
        "gc-grace",
        Section::Limits,
        "TIME",
        Preset::Text("24h"),
        "Blobs that no manifest names are let go after so long, and their bytes deleted after as long again. Longer than \
         a push takes from its first layer to its manifest.",
    ),
};

pub(crate) static PEER_LISTEN: Setting<Address> = Setting {
    kind: Address,
    about: About::new(
        "peer-listen",
        Section::Cluster,
        "ADDR:PORT",
        Preset::Unset { example: "0.0.0.0:5001" },
        "The address and port where other replicas reach this one. Without it, the registry has one replica.",
    ),
};

pub(crate) static PEER_ADDRESS: Setting<HostAndPort> = Setting {
    kind: HostAndPort,
    about: About::new(
        "peer-address",
        Section::Cluster,
        "HOST:PORT",
        Preset::Unset { example: "registry-0.example.com:5001" },
        "What the other replicas call it by. `peer-listen`, if that is one address.",
    ),
};

pub(crate) static JOIN: Setting<HostAndPort> = Setting {
    kind: HostAndPort,
    about: About {
        repeatable: true,
        ..About::new(
            "join",
            Section::Cluster,
            "HOST:PORT",
            Preset::Unset { example: "registry-0.example.com:5001" },
            "Replicas of a cluster that an empty data folder joins, asked one after the other until one answers. Without \
             any, it begins a cluster of its own. A folder that has been in a cluster goes on there.",
        )
    },
};

pub(crate) static JOIN_AS: Setting<Choice<JoinAs>> = Setting {
    kind: Choice(&[("voter", JoinAs::Voter), ("learner", JoinAs::Learner)]),
    about: About::new(
        "join-as",
        Section::Cluster,
        "ROLE",
        Preset::Text("voter"),
        "Whether a replica that joins asks for a vote once it has caught up, or learns until somebody gives it one.",
    ),
};

pub(crate) static CLUSTER_SECRET_FILE: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "cluster-secret-file",
        Section::Cluster,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/cluster-secret" },
        "A file with the same 32 random bytes or more for every replica, which makes the CA of the cluster. Whoever has \
         it can join.",
    ),
};

pub(crate) static CLUSTER_CERTIFICATE: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "cluster-certificate",
        Section::Cluster,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/cluster/tls.crt" },
        "In place of a secret: this replica's certificate, for the host of `peer-address`, good for servers and clients, \
         with its chain, in PEM. Read again when it changes.",
    ),
};

pub(crate) static CLUSTER_KEY: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "cluster-key",
        Section::Cluster,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/cluster/tls.key" },
        "The key of `cluster-certificate`, in PEM.",
    ),
};

pub(crate) static CLUSTER_CA: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "cluster-ca",
        Section::Cluster,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/cluster/ca.crt" },
        "The CAs whose certificates belong to this cluster and to nobody else, in PEM. Read again when it changes.",
    ),
};

pub(crate) static MAX_STALENESS: Setting<Span> = Setting {
    kind: Span { least: seconds(0), most: seconds(365 * DAY) },
    about: About::new(
        "max-staleness",
        Section::Cluster,
        "TIME",
        Preset::Text("24h"),
        "Without a leader, pulls by tag are answered from what this replica knows, marked with `Registry-Stale: SECONDS`, \
         for so long; then with 503.",
    ),
};

pub(crate) static UPSTREAM: Setting<Endpoint> = Setting {
    kind: Endpoint,
    about: About::new(
        "upstream",
        Section::Mirror,
        "URL",
        Preset::Unset { example: "https://registry.example.com" },
        "Makes this a mirror of the Roadstead at this URL: what is pushed there is copied here, and can be pulled here at \
         once. Pushes are decided by that one, if its token lets this one write. http only to this machine itself.",
    ),
};

pub(crate) static UPSTREAM_TOKEN_FILE: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "upstream-token-file",
        Section::Mirror,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/upstream-token" },
        "A file with the token that `roadstead mirror token` has printed there. Read again when it changes.",
    ),
};

pub(crate) static UPSTREAM_CA_FILE: Setting<File> = Setting {
    kind: File,
    about: About::new(
        "upstream-ca-file",
        Section::Mirror,
        "FILE",
        Preset::Unset { example: "/etc/roadstead/upstream-ca.pem" },
        "Trusts the authorities in this PEM file for the upstream, and no others. Without it, those of the system. Read \
         again when it changes.",
    ),
};

pub(crate) static UPSTREAM_RATE: Setting<Size> = Setting {
    kind: Size { least: 0, most: TIB },
    about: About::new(
        "upstream-rate",
        Section::Mirror,
        "SIZE",
        Preset::Text("0B"),
        "The most bytes of blobs a second that this replica takes from the upstream; 0B for as many as come. Pulls that \
         wait for something go before what is copied ahead.",
    ),
};

pub(crate) static ACK: Setting<Choice<AckChoice>> = Setting {
    kind: Choice(&[("local", AckChoice::Local), ("one-remote", AckChoice::OneRemote)]),
    about: About::new(
        "ack",
        Section::Mirror,
        "WHEN",
        Preset::Text("local"),
        "When a push is acknowledged: `local` when this region has it, `one-remote` when a mirror has it too, whole and \
         durable, so that no acknowledged push is lost with this region. Without a mirror, other than one with a \
         filter, pushes are answered with 503.",
    ),
};

pub(crate) static ACK_TIMEOUT: Setting<Span> = Setting {
    // Above a minute, proxies on the way have given up.
    kind: Span { least: seconds(1), most: seconds(600) },
    about: About::new(
        "ack-timeout",
        Section::Mirror,
        "TIME",
        Preset::Text("30s"),
        "With `ack` `one-remote`: how long a push waits for a mirror, before it is answered with 503 and may be pushed again.",
    ),
};

pub(crate) static UPSTREAM_FILTER: Setting<Followed> = Setting {
    kind: Followed,
    about: About {
        repeatable: true,
        ..About::new(
            "upstream-filter",
            Section::Mirror,
            "PATTERN",
            Preset::Unset { example: "team/**" },
            "Copies only what one of these names, with its signatures; everything, if none is given. All else is pulled from the \
             upstream each time, and answered with 503 while that is away. Listings show what is copied.",
        )
    },
};

pub(crate) static UPSTREAM_PLATFORM: Setting<RunsOn> = Setting {
    kind: RunsOn,
    about: About {
        repeatable: true,
        ..About::new(
            "upstream-platform",
            Section::Mirror,
            "PLATFORM",
            Preset::Unset { example: "linux/amd64" },
            "Of an index, copies only the images for these; all, if none is given. The others are pulled from the upstream each \
             time.",
        )
    },
};

pub(crate) static UPSTREAM_WINDOW: Setting<WeekWindow> = Setting {
    kind: WeekWindow,
    about: About {
        repeatable: true,
        ..About::new(
            "upstream-window",
            Section::Mirror,
            "WINDOW",
            Preset::Unset { example: "mon-fri 20:00-06:30" },
            "When blobs above 8 MiB are copied ahead, in UTC; at any time, if none is given. Tags whose blobs wait move when those \
             have come; pulls bring what they need at any time.",
        )
    },
};

pub(crate) static SPARSE_MANIFESTS: Setting<Switch> = Setting {
    kind: Switch,
    about: About::new(
        "sparse-manifests",
        Section::Limits,
        "BOOL",
        Preset::Text("false"),
        "Accepts image manifests whose blobs are not here. Otherwise they are refused, so that what was pushed can be \
         pulled. The manifests that an index names may be missing in any case.",
    ),
};

pub(crate) static UPLOAD_EXPIRY: Setting<Span> = Setting {
    kind: Span { least: seconds(60), most: seconds(36_500 * DAY) },
    about: About::new(
        "upload-expiry",
        Section::Limits,
        "TIME",
        Preset::Text("24h"),
        "Upload sessions that nobody has touched for so long are ended and their bytes deleted.",
    ),
};

pub(crate) static MAX_UPLOADS: Setting<Count> = Setting {
    kind: Count { least: 1, most: 1_000_000 },
    about: About::new(
        "max-uploads",
        Section::Limits,
        "COUNT",
        Preset::Text("10000"),
        "The most upload sessions open at once. More are refused with 429 until one ends.",
    ),
};

pub(crate) static BODY_IDLE_TIMEOUT: Setting<Span> = Setting {
    kind: Span { least: seconds(1), most: seconds(3_600) },
    about: About::new(
        "body-idle-timeout",
        Section::Limits,
        "TIME",
        Preset::Text("60s"),
        "Ends a request whose client sends, or takes, nothing for so long. The upload session stays and can be resumed.",
    ),
};

pub(crate) static SHUTDOWN_GRACE: Setting<Span> = Setting {
    kind: Span { least: Duration::ZERO, most: seconds(3_600) },
    about: About::new(
        "shutdown-grace",
        Section::Limits,
        "TIME",
        Preset::Text("30s"),
        "How long requests in flight may go on after SIGTERM or SIGINT. A second signal ends them at once.",
    ),
};

pub(crate) static SCRUB_RATE: Setting<Size> = Setting {
    kind: Size { least: 0, most: TIB },
    about: About::new(
        "scrub-rate",
        Section::Scrub,
        "SIZE",
        Preset::Text("16MiB"),
        "Bytes a second that are read in the background to compare everything with its digest; 0B for never. 16 MiB is a \
         tenth of what one disk reads, and 9 TiB in a week.",
    ),
};

pub(crate) static SCRUB_INTERVAL: Setting<Span> = Setting {
    kind: Span { least: seconds(1), most: seconds(365 * DAY) },
    about: About::new(
        "scrub-interval",
        Section::Scrub,
        "TIME",
        Preset::Text("7d"),
        "From the start of one such pass to the next, or to the end of one that takes longer. The first begins a minute \
         after the start.",
    ),
};

pub(crate) static BACKUP: Setting<Switch> = Setting {
    kind: Switch,
    about: About::new(
        "backup",
        Section::Backup,
        "BOOL",
        Preset::Text("true"),
        "Writes every change of the facts to where the blobs are, within a second, so that `roadstead restore` can bring \
         the registry back from there alone.",
    ),
};

pub(crate) static BACKUP_INTERVAL: Setting<Span> = Setting {
    kind: Span { least: seconds(60), most: seconds(3_650 * DAY) },
    about: About::new(
        "backup-interval",
        Section::Backup,
        "TIME",
        Preset::Text("24h"),
        "How often a snapshot of all facts is written there at least, if anything has changed: a restore reads the newest one, \
         and every change since.",
    ),
};

pub(crate) static BACKUP_RETENTION: Setting<Span> = Setting {
    kind: Span { least: Duration::ZERO, most: seconds(3_650 * DAY) },
    about: About::new(
        "backup-retention",
        Section::Backup,
        "TIME",
        Preset::Text("24h"),
        "How far back a restore can go. The bytes of blobs and manifests stay as long after nothing names them any more.",
    ),
};

pub(crate) static LOG_FORMAT: Setting<Choice<LogFormat>> = Setting {
    kind: Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
    about: About::new("log-format", Section::Logs, "FORMAT", Preset::Text("text"), "How lines of the log are written."),
};

pub(crate) static LOG_LEVEL: Setting<LogFilter> = Setting {
    kind: LogFilter,
    about: About::new("log-level", Section::Logs, "LEVEL", Preset::Text("info"), "What is logged, to standard error."),
};

/// All of them, in the order in which people read them.
pub(crate) static ALL: [&dyn Listed; 54] = [
    &LISTEN,
    &DATA,
    &STORAGE,
    &BLOBS,
    &S3_BUCKET,
    &S3_PREFIX,
    &S3_REGION,
    &S3_ENDPOINT,
    &S3_PUBLIC_ENDPOINT,
    &S3_PATH_STYLE,
    &S3_CA_FILE,
    &BLOB_SERVING,
    &REDIRECT_EXPIRY,
    &PART_SIZE,
    &MEMORY_BUDGET,
    &DISK_RESERVE,
    &TLS_CERTIFICATE,
    &TLS_KEY,
    &TLS,
    &TLS_NAME,
    &INSECURE_HTTP,
    &HTPASSWD,
    &ANONYMOUS_PULL,
    &GC_GRACE,
    &SPARSE_MANIFESTS,
    &UPLOAD_EXPIRY,
    &MAX_UPLOADS,
    &BODY_IDLE_TIMEOUT,
    &SHUTDOWN_GRACE,
    &SCRUB_RATE,
    &SCRUB_INTERVAL,
    &PEER_LISTEN,
    &PEER_ADDRESS,
    &JOIN,
    &JOIN_AS,
    &CLUSTER_SECRET_FILE,
    &CLUSTER_CERTIFICATE,
    &CLUSTER_KEY,
    &CLUSTER_CA,
    &MAX_STALENESS,
    &UPSTREAM,
    &UPSTREAM_TOKEN_FILE,
    &UPSTREAM_CA_FILE,
    &UPSTREAM_RATE,
    &UPSTREAM_FILTER,
    &UPSTREAM_PLATFORM,
    &UPSTREAM_WINDOW,
    &ACK,
    &ACK_TIMEOUT,
    &BACKUP,
    &BACKUP_INTERVAL,
    &BACKUP_RETENTION,
    &LOG_FORMAT,
    &LOG_LEVEL,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn defaults_and_examples_are_accepted_and_keys_are_unique() {
        let mut keys = BTreeSet::new();
        for setting in ALL {
            let about = setting.about();
            let (Preset::Text(text) | Preset::Unset { example: text }) = about.default;
            assert!(setting.accepts(text), "{}: {text}", about.key);
            assert!(keys.insert(about.key), "{} is there twice", about.key);
            assert!(about.help.ends_with('.'), "{}: help is made of sentences", about.key);
        }
    }

    /// Kubernetes puts `<SERVICE>_PORT`, `_SERVICE_HOST`, `_SERVICE_PORT` and `_PORT_<n>_TCP...` into the environment of
    /// each pod, for a Service that is likely to be named `roadstead`.
    #[test]
    fn no_key_is_an_environment_variable_of_kubernetes() {
        for setting in ALL {
            let key = setting.about().key;
            let clashes = ["port", "service"].iter().any(|word| key == *word || key.starts_with(&format!("{word}-")));
            assert!(!clashes, "{key}");
        }
    }
}
