use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Client, Daemon, Mount, S3, Tool, free_port, tools, until};

/// A start takes well under a second; a machine that is busy with other tests takes longer.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// More than the grace for requests that are under way, which is shorter in every test that has such requests.
const STOP_TIMEOUT: Duration = Duration::from_mins(2);

/// How a registry is to be started.
#[derive(Clone)]
pub(crate) struct Setup {
    folder: Arc<TempDir>,
    arguments: Vec<String>,
    /// Variables of its environment, the later ones winning.
    environment: Vec<(String, String)>,
    authority: Option<Vec<u8>>,
    data: PathBuf,
    /// The network namespace that it runs in, if that is another one.
    namespace: Option<PathBuf>,
}

impl Setup {
    /// Blobs in files below the data folder.
    pub(crate) fn filesystem() -> Self {
        let folder = tempfile::Builder::new().prefix("rs-data-").tempdir().expect("a temporary folder");
        // The first place of the standard credential chain.
        let credentials = [("AWS_ACCESS_KEY_ID", S3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", S3::SECRET_KEY)];
        let environment = credentials.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let data = folder.path().join("data");
        Self { folder: Arc::new(folder), arguments: Vec::new(), environment, authority: None, data, namespace: None }
    }

    /// Blobs in the bucket of an S3 server.
    pub(crate) fn s3(server: &S3) -> Self {
        Self::s3_through(&server.endpoint())
    }

    /// Blobs in the bucket of an S3 server that is reached at `endpoint`.
    pub(crate) fn s3_through(endpoint: &str) -> Self {
        Self::s3_bucket(endpoint, S3::BUCKET)
    }

    /// Blobs in a bucket of that name.
    pub(crate) fn s3_bucket(endpoint: &str, bucket: &str) -> Self {
        Self::filesystem()
            .flag("--storage", "s3")
            .flag("--s3-bucket", bucket)
            .flag("--s3-region", S3::REGION)
            .flag("--s3-endpoint", endpoint)
            .switch("--s3-path-style")
    }

    /// Keeps the data on another file system; the logs stay where there is room.
    pub(crate) fn data_on(mut self, mount: &Mount) -> Self {
        self.data = mount.path().join("data");
        self
    }

    /// Runs it in another network namespace than the test's.
    pub(crate) fn in_namespace(mut self, file: PathBuf) -> Self {
        self.namespace = Some(file);
        self
    }

    /// Adds a flag with its value.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// The same with another value of a flag that it has.
    pub(crate) fn instead(mut self, name: &str, value: &str) -> Self {
        let given = self.arguments.iter().position(|argument| argument == name).expect("the flag is given");
        value.clone_into(&mut self.arguments[given + 1]);
        self
    }

    /// Adds a flag without a value.
    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.arguments.push(name.to_owned());
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable out of its environment.
    pub(crate) fn without_variable(mut self, name: &str) -> Self {
        self.environment.retain(|(set, _)| set != name);
        self
    }

    /// Whether a flag is given.
    pub(crate) fn names(&self, flag: &str) -> bool {
        self.arguments.iter().any(|argument| argument == flag)
    }

    /// Lets the clients of this registry trust the authority of its certificate (in PEM).
    pub(crate) fn trusting(mut self, authority: &[u8]) -> Self {
        self.authority = Some(authority.to_vec());
        self
    }

    /// Starts it, and returns once it serves.
    pub(crate) async fn start(self) -> Roadstead {
        Roadstead::start(self).await
    }

    /// Starts it on an address at which it is to refuse to serve, and returns how it ended and what it said.
    pub(crate) async fn refuses(self) -> (ExitStatus, String) {
        let mut daemon = self.spawn("127.0.0.1:0");
        let status = daemon.ended(START_TIMEOUT).await;
        (status, daemon.log())
    }

    /// A subcommand about its data folder, which is to be run.
    pub(crate) fn subcommand(&self, name: &str) -> Tool {
        self.words(&[name])
    }

    fn words(&self, words: &[&str]) -> Tool {
        let mut command = tools::command(&binary());
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).envs(self.environment.iter().cloned());
        let tool = Tool::new("roadstead", command);
        words.iter().fold(tool, Tool::arg).arg("--data").arg(self.data())
    }

    /// The same on another data folder.
    pub(crate) fn on_new_data(mut self) -> Self {
        let Self { folder, data, .. } = Self::filesystem();
        (self.folder, self.data) = (folder, data);
        self
    }

    /// A call of a subcommand that works on the store, with everything that this setup says of it.
    pub(crate) fn offline(&self, words: &[&str]) -> Tool {
        self.storage_flags().iter().fold(self.words(words), Tool::arg)
    }

    /// The flags of storage, without those that only `serve` takes.
    fn storage_flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut arguments = self.arguments.iter().peekable();
        while let Some(name) = arguments.next() {
            let values = arguments.next_if(|next| !next.starts_with("--"));
            if ["--storage", "--s3-", "--part-size", "--blobs"].iter().any(|flag| name.starts_with(flag)) {
                flags.extend([name].into_iter().chain(values).cloned());
            }
        }
        flags
    }

    fn spawn(&self, listen: &str) -> Daemon {
        let mut command = match &self.namespace {
            None => tools::command(&binary()),
            Some(namespace) => {
                // It becomes the registry, under the same process id.
                let mut command = tools::command(&tools::find("nsenter"));
                command.arg(format!("--net={}", namespace.display())).arg(binary());
                command
            }
        };
        command.arg("serve");
        // A test may name an address of its own.
        if !self.arguments.iter().any(|argument| argument == "--listen") {
            command.args(["--listen", listen]);
        }
        command
            .args(["--data", &self.data().display().to_string()])
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().cloned());
        Daemon::start("roadstead", command, self.folder.path())
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }
}

/// The binary, to be given its arguments.
pub(crate) fn roadstead() -> std::process::Command {
    tools::command(&binary())
}

fn binary() -> PathBuf {
    std::env::var_os("ROADSTEAD_BIN").map_or_else(|| built("roadstead"), PathBuf::from)
}

/// A program of ours, built beforehand from the same sources: a test can name no binary of another crate.
pub(super) fn built(name: &str) -> PathBuf {
    // target/<profile>/deps/it-<hash> -> target/<profile>/<name>
    let test = std::env::current_exe().expect("a test knows its own path");
    let beside = test.parent().and_then(Path::parent).expect("it is in target/<profile>/deps").join(name);
    assert!(beside.is_file(), "{} is not there: run `cargo build --workspace --all-targets`", beside.display());
    beside
}

/// A registry that runs.
pub(crate) struct Roadstead {
    setup: Setup,
    daemon: Daemon,
    base: String,
}

impl Roadstead {
    async fn start(setup: Setup) -> Self {
        // One that it gets again when it is started again.
        let (daemon, base) = Self::serve(&setup, &format!("127.0.0.1:{}", free_port())).await;
        Self { setup, daemon, base }
    }

    async fn serve(setup: &Setup, listen: &str) -> (Daemon, String) {
        let mut daemon = setup.spawn(listen);
        let base = until("roadstead is ready", START_TIMEOUT, async || {
            daemon.must_run();
            let stdout = daemon.stdout();
            let line = stdout.lines().find_map(|line| line.strip_prefix("roadstead is ready on "));
            // The line must be whole: its end may not be written yet.
            line.filter(|_| stdout.ends_with('\n')).map(str::to_owned)
        })
        .await;
        (daemon, base)
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let authorities: Vec<&[u8]> = self.setup.authority.iter().map(Vec::as_slice).collect();
        Client::with_authorities(&self.base, &authorities)
    }

    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Another setup of the same kind on a data folder of its own: for `restore`, or for a second process.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Host and port as clients write them in front of a repository.
    pub(crate) fn host(&self) -> &str {
        self.base.split_once("://").expect("a URL").1
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.host().parse().expect("tests serve on an IP address")
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.setup.data()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.daemon.signal(signal);
    }

    /// A subcommand about it, which is to be run.
    pub(crate) fn subcommand(&self, name: &str) -> Tool {
        self.setup.subcommand(name)
    }

    /// The same of one that has subcommands itself: words, split at blanks.
    pub(crate) fn command(&self, words: &str) -> Tool {
        self.setup.words(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// What the filesystem store has of content: the length of every file below `<data>/blobs` by its path, but for the
    /// backup's, which are written at any time.
    pub(crate) fn stored_files(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        let mut folders = vec![self.data().join("blobs")];
        while let Some(folder) = folders.pop() {
            // A folder may go while it is looked at.
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                match entry.metadata() {
                    Ok(_) if entry.path().ends_with("blobs/meta") => {}
                    Ok(_) if entry.file_name().to_string_lossy().starts_with("meta.") => {}
                    Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                    Ok(metadata) => found.push((entry.path(), metadata.len())),
                    Err(_) => {}
                }
            }
        }
        found.sort();
        found
    }

    /// Its log since its first start.
    pub(crate) fn log(&self) -> String {
        self.daemon.log()
    }

    /// What it printed since its last start.
    pub(crate) fn stdout(&self) -> String {
        self.daemon.stdout()
    }

    /// The most memory that it has had resident since its last start, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Fails if it has ended, or has panicked anywhere.
    #[track_caller]
    pub(crate) fn assert_unharmed(&mut self) {
        self.daemon.must_run();
        let log = self.log();
        assert!(!log.contains("panicked at"), "the registry panicked:\n{log}");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.daemon.kill();
    }

    /// SIGSTOP: it does nothing more until it is killed.
    pub(crate) fn freeze(&self) {
        self.daemon.signal(rustix::process::Signal::STOP);
    }

    /// SIGTERM, and its end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.daemon.terminate(STOP_TIMEOUT).await
    }

    /// SIGTERM without waiting.
    pub(crate) fn ask_to_end(&self) {
        self.daemon.signal(rustix::process::Signal::TERM);
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.daemon.ended(STOP_TIMEOUT).await
    }

    /// Starts it again after its end with another setup, on the same data and port.
    pub(crate) async fn restart_as(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
        self.restart().await;
    }

    /// Starts it again after its end, on the same data and port.
    pub(crate) async fn restart(&mut self) {
        let listen = self.address().to_string();
        (self.daemon, self.base) = Self::serve(&self.setup, &listen).await;
    }
}
