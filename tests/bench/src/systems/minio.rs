use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use roadstead_blobs::{S3Credentials, S3Options};
use tempfile::TempDir;

use super::server::scratch;
use super::{Process, free_address};
use crate::load::{Connection, Reading, Request};
use crate::machine::tool;

/// It answers within a second or two.
const START: Duration = Duration::from_mins(1);

/// An S3 server of its own on loopback, with one empty bucket; with its settings by default, on one folder.
pub(crate) struct Minio {
    address: SocketAddr,
    pub(crate) process: Process,
    _folder: TempDir,
}

impl Minio {
    pub(crate) const BUCKET: &str = "registry";
    pub(crate) const REGION: &str = "us-east-1";
    pub(crate) const ACCESS_KEY: &str = "roadstead";
    pub(crate) const SECRET_KEY: &str = "roadstead-secret";

    /// Starts it, its data below `parent`.
    pub(crate) async fn start(parent: &Path) -> Result<Self> {
        let folder = scratch(parent, "minio")?;
        let data = folder.path().join("data");
        // A folder of a bucket that is there when it starts is a bucket.
        std::fs::create_dir_all(data.join(Self::BUCKET))?;
        let address = free_address()?;
        let mut command = Command::new(tool("minio")?);
        command
            .args(["server", "--quiet", "--address", &address.to_string()])
            .arg(&data)
            .env("HOME", folder.path())
            .env("MINIO_ROOT_USER", Self::ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", Self::SECRET_KEY)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off");
        let mut process = Process::start("minio", command, folder.path())?;
        let request = Request::get("/minio/health/ready");
        process
            .until(START, async || match Connection::open(address, Reading::Copying).await {
                Ok(mut connection) => connection.exchange(&request).await.is_ok(),
                Err(_) => false,
            })
            .await?;
        Ok(Self { address, process, _folder: folder })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How our own client reaches it.
    pub(crate) fn options(endpoint: &str) -> S3Options {
        S3Options {
            bucket: Self::BUCKET.to_owned(),
            region: Some(Self::REGION.to_owned()),
            endpoint: Some(endpoint.to_owned()),
            path_style: true,
            credentials: Some(S3Credentials {
                access_key_id: Self::ACCESS_KEY.to_owned(),
                secret_access_key: Self::SECRET_KEY.to_owned(),
            }),
            ..S3Options::default()
        }
    }
}
