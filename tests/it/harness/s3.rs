use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Certificates, Client, Daemon, Workbench, free_port, tools, until};

/// Both servers answer within a second or two; with the whole suite beside them it takes longer.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Servers of S3 that differ: in how they list, in what they say of a repeated completion, in checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum S3Kind {
    Minio,
    Versity,
}

/// An S3 server of its own on loopback, with one empty bucket.
pub(crate) struct S3 {
    kind: S3Kind,
    /// What it serves HTTPS with, and who vouches for it.
    certificates: Option<Certificates>,
    address: SocketAddr,
    daemon: Option<Daemon>,
    folder: TempDir,
}

impl S3 {
    pub(crate) const ACCESS_KEY: &str = "roadstead";
    pub(crate) const SECRET_KEY: &str = "roadstead-secret";
    pub(crate) const REGION: &str = "us-east-1";
    pub(crate) const BUCKET: &str = "registry";

    /// Starts one and makes the bucket.
    pub(crate) async fn start(kind: S3Kind) -> Self {
        Self::start_one(kind, None).await
    }

    /// Starts one that serves HTTPS with a certificate that no system trusts.
    pub(crate) async fn start_with_tls(kind: S3Kind) -> Self {
        Self::start_one(kind, Some(Certificates::new())).await
    }

    async fn start_one(kind: S3Kind, certificates: Option<Certificates>) -> Self {
        let folder = tempfile::Builder::new().prefix("rs-s3-").tempdir().expect("a temporary folder");
        for name in ["data", "certificates"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        // Neither server tells which port it took when it is told to take any.
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut s3 = Self { kind, certificates, address, daemon: None, folder };
        if let Some(certificates) = &s3.certificates {
            certificates.write_as(&s3.certificate_file("public.crt"), &s3.certificate_file("private.key"));
            std::fs::write(s3.authority_file(), certificates.authority()).expect("a file is written");
        }
        s3.start_again().await;
        // A server that says it is ready may still answer 503.
        until("the bucket is made", START_TIMEOUT, async || s3.request("PUT", "").await.ok()).await;
        s3
    }

    /// Starts it after [`Self::stop`], with what it held.
    pub(crate) async fn start_again(&mut self) {
        let command = match self.kind {
            S3Kind::Minio => self.minio(),
            S3Kind::Versity => self.versity(),
        };
        let mut daemon = Daemon::start("s3", command, self.folder.path());
        let authority = self.certificates.as_ref().map(Certificates::authority);
        let client = Client::with_authorities(&self.endpoint(), authority.as_slice());
        let health = match self.kind {
            S3Kind::Minio => "/minio/health/ready",
            S3Kind::Versity => "/health",
        };
        until("the S3 server answers", START_TIMEOUT, async || {
            daemon.must_run();
            client.get(health).try_send().await.ok().filter(|reply| reply.status == 200)
        })
        .await;
        self.daemon = Some(daemon);
    }

    /// Kills it; what it holds stays.
    pub(crate) fn stop(&mut self) {
        self.daemon = None;
    }

    /// Stops it in the middle of whatever it does: its connections stay, and nobody answers on them.
    pub(crate) fn freeze(&self) {
        self.running().signal(Signal::STOP);
    }

    /// Lets it go on after [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.running().signal(Signal::CONT);
    }

    fn running(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, or `https://` with TLS.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate of the authority that vouches for it, where it serves HTTPS.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// The keys of all objects in the bucket but the backup's, which are written at any time; at most a thousand.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let listing = self.request("GET", "?list-type=2").await.expect("the bucket can be listed");
        let keys = listing.split("<Key>").skip(1);
        let keys = keys.map(|rest| rest.split('<').next().unwrap_or_default().to_owned());
        keys.filter(|key| !key.contains("meta/")).collect()
    }

    /// The multipart uploads that were neither completed nor aborted, as the server keeps them on disk: not every
    /// server lists those of all keys.
    pub(crate) fn open_multiparts(&self) -> usize {
        let folder = match self.kind {
            S3Kind::Minio => self.data().join(".minio.sys/multipart"),
            S3Kind::Versity => self.data().join(Self::BUCKET).join(".sgwtmp/multipart"),
        };
        let subfolders = |folder: &Path| -> Vec<_> {
            let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        // One folder per object, with one per upload in it.
        subfolders(&folder).iter().map(|object| subfolders(object).len()).sum()
    }

    async fn request(&self, method: &str, target: &str) -> Result<String, String> {
        let bench = Workbench::new();
        let (succeeded, printed) = bench
            .tool("curl")
            .args("--silent --show-error --fail --aws-sigv4")
            .arg(format!("aws:amz:{}:s3", Self::REGION))
            .args(&format!("--user {}:{}", Self::ACCESS_KEY, Self::SECRET_KEY))
            .arg("--cacert")
            .arg(self.authority_file())
            // Not every server does without the hash of the body, which is empty.
            .arg("-H")
            .arg(format!("x-amz-content-sha256: {}", &super::sha256(b"")["sha256:".len()..]))
            .args(&format!("-X {method} {}/{}{target}", self.endpoint(), Self::BUCKET))
            .outcome()
            .await;
        if succeeded { Ok(printed) } else { Err(printed) }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn certificate_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("certificates").join(name)
    }

    fn minio(&self) -> Command {
        let mut command = tools::command(&tools::find("minio"));
        command
            .args(["server", "--quiet", "--address", &self.address.to_string(), "--certs-dir"])
            .arg(self.folder.path().join("certificates"))
            .arg(self.data())
            .env("HOME", self.folder.path())
            .env("MINIO_ROOT_USER", Self::ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", Self::SECRET_KEY)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off");
        command
    }

    fn versity(&self) -> Command {
        let mut command = tools::command(&tools::find("versitygw"));
        command.args(["--access", Self::ACCESS_KEY, "--secret", Self::SECRET_KEY, "--region", Self::REGION]).args([
            "--port",
            &self.address.to_string(),
            "--health",
            "/health",
            "--quiet",
            "--keep-alive",
        ]);
        if self.certificates.is_some() {
            command.arg("--cert").arg(self.certificate_file("public.crt"));
            command.arg("--key").arg(self.certificate_file("private.key"));
        }
        command.arg("posix").arg(self.data());
        command
    }
}
