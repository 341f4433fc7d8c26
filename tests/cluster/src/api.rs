use std::fmt;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::certificates::AUTHORITY;
use crate::kubeconfig::{ADMIN, token};
use crate::site::Site;

/// A request that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An API server on a busy machine may say that it is asked too much, or break a connection: so it is asked again for so long ...
const RETRIES: Duration = Duration::from_secs(30);

/// ... and so often.
const BETWEEN: Duration = Duration::from_millis(500);

/// Who applies what tests apply.
const FIELD_MANAGER: &str = "e2e";

/// A client of the cluster's API server, as its admin. Paths are those of the API: `/api/v1/namespaces/x/pods/y`.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
}

/// The API server said no.
#[derive(Debug)]
pub struct Refusal {
    /// The status of its answer.
    pub status: u16,
    /// What it said.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Api {
    /// The API server of a site.
    pub fn of(site: &Site) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        // An error means that somebody has chosen one already, which is as good.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let authority = std::fs::read(site.file(AUTHORITY)).context("the cluster is not up")?;
        let bearer = format!("Bearer {}", token(ADMIN)).parse()?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .add_root_certificate(reqwest::Certificate::from_pem(&authority)?)
            .default_headers([(reqwest::header::AUTHORIZATION, bearer)].into_iter().collect())
            .build()?;
        Ok(Self { http, base: format!("https://{}:6443", site.hub_address()) })
    }

    /// What is at a path, as it is.
    pub async fn text(&self, path: &str) -> Result<String> {
        self.send(Method::GET, path, "", String::new()).await
    }

    /// The object, or the list, at a path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.text(path).await?)?)
    }

    /// The object at a path, if there is one.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if is_status(&error, StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The items of the list at a path.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        Ok(self.get(path).await?["items"].as_array().cloned().unwrap_or_default())
    }

    /// Applies an object at its path (server-side apply).
    pub async fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        self.json(Method::PATCH, &path, "application/apply-patch+yaml", object).await
    }

    /// Creates an object in the list at a path.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.json(Method::POST, path, "application/json", object).await
    }

    /// Merges a patch into the object at a path.
    pub async fn merge(&self, path: &str, changes: &Value) -> Result<Value> {
        self.json(Method::PATCH, path, "application/merge-patch+json", changes).await
    }

    /// Deletes the object at a path, if it is there. It may go some time later.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.delete_with(path, &json!({})).await
    }

    /// The same, with options.
    pub async fn delete_with(&self, path: &str, options: &Value) -> Result<()> {
        match self.json(Method::DELETE, path, "application/json", options).await {
            Err(error) if !is_status(&error, StatusCode::NOT_FOUND) => Err(error),
            _ => Ok(()),
        }
    }

    async fn json(&self, method: Method, path: &str, kind: &'static str, body: &Value) -> Result<Value> {
        Ok(serde_json::from_str(&self.send(method, path, kind, body.to_string()).await?)?)
    }

    async fn send(&self, method: Method, path: &str, kind: &'static str, body: String) -> Result<String> {
        let shown = format!("{method} {path}");
        let end = Instant::now() + RETRIES;
        let mut tick = interval(BETWEEN);
        let (status, text) = loop {
            tick.tick().await;
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
            if !kind.is_empty() {
                request = request.header("content-type", kind).body(body.clone());
            }
            let is_over = Instant::now() >= end;
            let (status, text) = match request.send().await {
                Ok(reply) => (reply.status(), reply.text().await.with_context(|| shown.clone())?),
                // What was not sent was not done; anything else but a creation is the same when it is done twice.
                Err(error) if !is_over && (error.is_connect() || method != Method::POST) => continue,
                Err(error) => return Err(error).context(shown),
            };
            if is_over || !(status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS) {
                break (status, text);
            }
        };
        if status.is_success() {
            return Ok(text);
        }
        let message = serde_json::from_str::<Value>(&text).ok();
        let message = message.and_then(|answer| Some(answer["message"].as_str()?.to_owned())).unwrap_or(text);
        Err(Refusal { status: status.as_u16(), message }).context(shown)
    }
}

fn is_status(error: &anyhow::Error, status: StatusCode) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == status)
}
