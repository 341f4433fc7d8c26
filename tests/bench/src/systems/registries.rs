//! The registries: which of them are here, and with which settings each is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::server::scratch;
use super::{Minio, Process, Server, SlowFsync, System, free_address};
use crate::machine::{repository, tool};

/// Where a registry keeps blobs.
#[derive(Clone, Copy)]
pub(crate) enum Storage<'a> {
    Filesystem,
    Bucket(&'a Minio),
}

/// The binaries of the registries that take part.
pub(crate) struct Registries {
    present: Vec<(System, PathBuf)>,
    absent: Vec<System>,
    scratch: PathBuf,
}

/// Peers that are in no package registry, by the variable that names a binary.
const BY_PATH: [(System, &str); 3] = [
    (System::Zot, "ROADSTEAD_BENCH_ZOT"),
    (System::Angos, "ROADSTEAD_BENCH_ANGOS"),
    (System::Trow, "ROADSTEAD_BENCH_TROW"),
];

impl Registries {
    /// Looks for them. Roadstead itself is the release build, or what `ROADSTEAD_BIN` names; if that is empty, only the
    /// others are measured.
    pub(crate) fn find(scratch: &Path) -> Result<Self> {
        let own = std::env::var_os("ROADSTEAD_BIN");
        let own = own.map_or_else(|| repository().join("target/release/roadstead"), PathBuf::from);
        let mut present = vec![(System::Roadstead, own), (System::Distribution, tool("distribution")?)];
        present.retain(|(_, path)| !path.as_os_str().is_empty());
        let mut absent = Vec::new();
        for (system, variable) in BY_PATH {
            match std::env::var_os(variable) {
                Some(path) => present.push((system, path.into())),
                None => absent.push(system),
            }
        }
        for (system, path) in &present {
            if !path.is_file() {
                bail!("there is no binary of {} at {}", system.name(), path.display());
            }
        }
        Ok(Self { present, absent, scratch: scratch.to_owned() })
    }

    /// Those that take part with this storage: the peers that are here by a path keep blobs in files only.
    pub(crate) fn with(&self, storage: Storage<'_>) -> Vec<System> {
        let systems = self.present.iter().map(|(system, _)| *system);
        let everywhere = |system: &System| matches!(system, System::Roadstead | System::Distribution);
        systems.filter(|system| matches!(storage, Storage::Filesystem) || everywhere(system)).collect()
    }

    /// The binary of Roadstead, if that is measured.
    pub(crate) fn own(&self) -> Option<&Path> {
        let own = self.present.iter().find(|(system, _)| *system == System::Roadstead);
        own.map(|(_, path)| path.as_path())
    }

    /// Those that do not take part, with the variable that would name their binary.
    pub(crate) fn absent(&self) -> Vec<(System, &'static str)> {
        BY_PATH.into_iter().filter(|(system, _)| self.absent.contains(system)).collect()
    }

    /// Starts one with an empty storage, and returns once it serves.
    pub(crate) async fn start(&self, system: System, storage: Storage<'_>) -> Result<Server> {
        self.launch(system, storage, None).await
    }

    /// Starts one whose every fsync takes longer.
    pub(crate) async fn start_slowed(&self, system: System, slowed: SlowFsync) -> Result<Server> {
        self.launch(system, Storage::Filesystem, Some(slowed)).await
    }

    /// An empty folder, for [`Self::start_on`].
    pub(crate) fn folder(&self) -> Result<TempDir> {
        scratch(&self.scratch, "registry")
    }

    /// Starts one on what [`data`] in `folder` holds, and returns once it says that it is ready.
    pub(crate) async fn start_on(&self, system: System, folder: TempDir) -> Result<Server> {
        self.launch_on(system, Storage::Filesystem, None, folder).await
    }

    /// Starts a mirror of the Roadstead at `upstream`, which `token` lets it be, and returns once it is ready.
    pub(super) async fn start_mirror(&self, upstream: &str, token: &[u8], flags: &[&str]) -> Result<Server> {
        let path = self.own().context("Roadstead is not measured")?;
        let (folder, address) = (self.folder()?, free_address()?);
        let file = folder.path().join("token");
        fs::write(&file, token)?;
        let place = Place { folder: &folder, address: address.to_string() };
        let mut command = roadstead(path, &place, Storage::Filesystem);
        command.args(["--upstream", upstream, "--upstream-token-file"]).arg(file).args(flags);
        command.current_dir(folder.path());
        let process = Process::start("roadstead", command, folder.path())?;
        Server::ready(System::Roadstead, address, process, folder, "/readyz").await
    }

    /// Starts a distribution that is a pull-through cache of the one at `upstream`, and returns once it serves.
    pub(super) async fn start_cache(&self, upstream: &str) -> Result<Server> {
        let path = self.binary(System::Distribution)?;
        let (folder, address) = (self.folder()?, free_address()?);
        let place = Place { folder: &folder, address: address.to_string() };
        let mut command = distribution(path, &place, Storage::Filesystem, Some(upstream))?;
        command.current_dir(folder.path());
        let process = Process::start("distribution", command, folder.path())?;
        Server::ready(System::Distribution, address, process, folder, "/v2/").await
    }

    fn binary(&self, system: System) -> Result<&Path> {
        let path = self.present.iter().find(|(present, _)| *present == system).map(|(_, path)| path.as_path());
        path.with_context(|| format!("{} is no registry that is here", system.name()))
    }

    async fn launch(&self, system: System, storage: Storage<'_>, slowed: Option<SlowFsync>) -> Result<Server> {
        self.launch_on(system, storage, slowed, self.folder()?).await
    }

    async fn launch_on(
        &self,
        system: System,
        storage: Storage<'_>,
        slowed: Option<SlowFsync>,
        folder: TempDir,
    ) -> Result<Server> {
        let path = self.binary(system)?;
        let address = free_address()?;
        let place = Place { folder: &folder, address: address.to_string() };
        let (name, mut command, ready) = match system {
            System::Roadstead => ("roadstead", roadstead(path, &place, storage), "/readyz"),
            System::Distribution => ("distribution", distribution(path, &place, storage, None)?, "/v2/"),
            System::Zot => ("zot", zot(path, &place)?, "/v2/"),
            System::Angos => ("angos", angos(path, &place)?, "/readyz"),
            System::Trow => ("trow", trow(path, &place), "/v2/"),
            System::ThreeSingles | System::Etcd | System::Nginx | System::Uploader | System::Ceiling => {
                bail!("{} is no registry", system.name())
            }
        };
        if let Some(slowed) = slowed {
            command = slowed.wrap(&command, folder.path())?;
        }
        command.current_dir(folder.path());
        let process = Process::start(name, command, folder.path())?;
        let mut server = Server::ready(system, address, process, folder, ready).await?;
        if slowed.is_some() {
            server.process.measure_its_child()?;
        }
        Ok(server)
    }
}

/// Where a registry keeps everything, in the folder that it is given.
pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

struct Place<'a> {
    folder: &'a TempDir,
    address: String,
}

impl Place<'_> {
    fn data(&self) -> String {
        data(self.folder.path()).display().to_string()
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }

    /// Writes a configuration and returns its path.
    fn configuration(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Everything by default but where to listen and what to keep where.
fn roadstead(path: &Path, place: &Place<'_>, storage: Storage<'_>) -> Command {
    let mut command = Command::new(path);
    command.args(["serve", "--listen", &place.address, "--data", &place.data()]);
    if let Storage::Bucket(minio) = storage {
        command
            .args(["--storage", "s3", "--s3-bucket", Minio::BUCKET, "--s3-region", Minio::REGION])
            .args(["--s3-endpoint", &minio.endpoint(), "--s3-path-style"])
            // A prefix belongs to one registry, and a row may start several on one bucket.
            .args(["--s3-prefix", place.port()])
            .env("AWS_ACCESS_KEY_ID", Minio::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", Minio::SECRET_KEY);
    }
    command
}

/// As its published image is configured (descriptor cache in memory, no traces), with deletion enabled; a pull-through cache
/// of `upstream`, if there is one.
fn distribution(path: &Path, place: &Place<'_>, storage: Storage<'_>, upstream: Option<&str>) -> Result<Command> {
    let driver = match storage {
        Storage::Filesystem => format!("  filesystem:\n    rootdirectory: {}\n", place.data()),
        Storage::Bucket(minio) => format!(
            "  s3:\n    region: {}\n    regionendpoint: {}\n    forcepathstyle: true\n    secure: false\n    bucket: {}\n    \
             accesskey: {}\n    secretkey: {}\n",
            Minio::REGION,
            minio.endpoint(),
            Minio::BUCKET,
            Minio::ACCESS_KEY,
            Minio::SECRET_KEY
        ),
    };
    let proxy = upstream.map(|upstream| format!("proxy:\n  remoteurl: {upstream}\n")).unwrap_or_default();
    let configuration = format!(
        "version: 0.1\nlog:\n  fields:\n    service: registry\nstorage:\n  cache:\n    blobdescriptor: inmemory\n  delete:\n    \
         enabled: true\n{driver}http:\n  addr: {}\n  secret: of-the-benchmark\n{proxy}",
        place.address
    );
    let mut command = Command::new(path);
    command.arg("serve").arg(place.configuration("distribution.yml", &configuration)?);
    command.env("OTEL_TRACES_EXPORTER", "none");
    Ok(command)
}

/// Its documented minimum; schema 2 of docker is refused without the switch, but nothing here needs it.
fn zot(path: &Path, place: &Place<'_>) -> Result<Command> {
    let configuration = serde_json::json!({
        "distSpecVersion": "1.1.0",
        "storage": { "rootDirectory": place.data() },
        "http": { "address": "127.0.0.1", "port": place.port() },
        "log": { "level": "info" },
    });
    let mut command = Command::new(path);
    command.arg("serve").arg(place.configuration("zot.json", &configuration.to_string())?);
    Ok(command)
}

/// Its quick start; every repository of the benchmark is below `bench`.
fn angos(path: &Path, place: &Place<'_>) -> Result<Command> {
    let configuration = format!(
        "[server]\nbind_address = \"127.0.0.1\"\nport = {}\n\n[blob_store.fs]\nroot_dir = {:?}\n\n\
         [global.access_policy]\ndefault_allow = true\n\n[repository.\"bench\"]\n",
        place.port(),
        place.data()
    );
    let mut command = Command::new(path);
    command.arg("-c").arg(place.configuration("angos.toml", &configuration)?).arg("server");
    Ok(command)
}

fn trow(path: &Path, place: &Place<'_>) -> Command {
    let mut command = Command::new(path);
    command.args(["--host", "127.0.0.1", "--port", place.port(), "--data-dir", &place.data()]);
    command
}
