use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, interval};

/// What a client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a client goes on trying, as container engines do.
const RETRIES: Duration = Duration::from_mins(1);

/// A client of a registry that tries again when a connection breaks or the answer is 5xx, as real ones do.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    user: String,
    password: String,
}

impl Client {
    pub(crate) fn new(address: &str, authority: &str, user: &str, password: &str) -> Result<Self> {
        let mut http = builder();
        for certificate in reqwest::Certificate::from_pem_bundle(authority.as_bytes())? {
            http = http.add_root_certificate(certificate);
        }
        Self::of(http, address, user, password)
    }

    /// One that takes any certificate, for when another question is asked.
    pub(crate) fn careless(address: &str, user: &str, password: &str) -> Result<Self> {
        Self::of(builder().danger_accept_invalid_certs(true), address, user, password)
    }

    fn of(http: reqwest::ClientBuilder, address: &str, user: &str, password: &str) -> Result<Self> {
        let (user, password) = (user.to_owned(), password.to_owned());
        Ok(Self { http: http.build()?, base: format!("https://{address}"), user, password })
    }

    /// Whether it is let in, over a new connection; tried once.
    pub(crate) async fn knocks(&self) -> Result<()> {
        let request = self.http.get(format!("{}/v2/", self.base)).basic_auth(&self.user, Some(&self.password));
        let status = request.send().await?.status();
        ensure!(status == StatusCode::OK, "the answer is {status}");
        Ok(())
    }

    /// Pushes an image of one layer, and returns the digest of its manifest.
    pub(crate) async fn push(&self, repository: &str, tag: &str, layer: &[u8]) -> Result<String> {
        let config = json!({"architecture": "amd64", "os": "linux"}).to_string().into_bytes();
        let (config, layer) = (self.blob(repository, &config).await?, self.blob(repository, layer).await?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string();
        let digest = digest(manifest.as_bytes());
        let target = format!("/v2/{repository}/manifests/{tag}");
        self.send(Method::PUT, &target, manifest.into_bytes(), StatusCode::CREATED).await?;
        Ok(digest)
    }

    /// Begins an upload that is never completed: a change without bytes.
    pub(crate) async fn begin_upload(&self, repository: &str) -> Result<()> {
        let target = format!("/v2/{repository}/blobs/uploads/");
        self.send(Method::POST, &target, Vec::new(), StatusCode::ACCEPTED).await.map(drop)
    }

    async fn blob(&self, repository: &str, content: &[u8]) -> Result<(String, usize)> {
        let digest = digest(content);
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send(Method::POST, &target, content.to_vec(), StatusCode::CREATED).await?;
        Ok((digest, content.len()))
    }

    /// The digest that a tag has, after pulling everything that it names and checking it.
    pub(crate) async fn pull(&self, repository: &str, reference: &str) -> Result<String> {
        let target = format!("/v2/{repository}/manifests/{reference}");
        let manifest = self.send(Method::GET, &target, Vec::new(), StatusCode::OK).await?.bytes().await?;
        let parsed: Value = serde_json::from_slice(&manifest)?;
        let layers = parsed["layers"].as_array().context("layers")?;
        for descriptor in layers.iter().chain([&parsed["config"]]) {
            let wanted = descriptor["digest"].as_str().context("a digest")?;
            let target = format!("/v2/{repository}/blobs/{wanted}");
            let content = self.send(Method::GET, &target, Vec::new(), StatusCode::OK).await?.bytes().await?;
            ensure!(digest(&content) == wanted, "{repository}: {wanted} has other bytes");
        }
        Ok(digest(&manifest))
    }

    async fn send(&self, method: Method, target: &str, body: Vec<u8>, wanted: StatusCode) -> Result<Response> {
        let end = Instant::now() + RETRIES;
        let mut tick = interval(Duration::from_millis(200));
        loop {
            tick.tick().await;
            let request = self.http.request(method.clone(), format!("{}{target}", self.base));
            let request = request.basic_auth(&self.user, Some(&self.password)).body(body.clone());
            let kind = if target.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
            let problem = match request.header("content-type", kind).send().await {
                Ok(reply) if reply.status() == wanted => return Ok(reply),
                Ok(reply) if reply.status().is_server_error() => format!("{}", reply.status()),
                Ok(reply) => bail!("{method} {target}: {} {}", reply.status(), reply.text().await?),
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            };
            ensure!(Instant::now() < end, "{method} {target} failed for {RETRIES:?}, at last with {problem}");
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(2))
        // Another connection each time, so that all replicas are asked.
        .pool_max_idle_per_host(0)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn describe(media_type: &str, (digest, size): &(String, usize)) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}
