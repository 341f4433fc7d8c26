//! What subcommands ask the running registry with.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use bytes::{Buf as _, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::problem::{Code, Problem};
use super::socket::{connect, path};
use crate::failure::Failure;

/// The longest answer that is read at once. Those that exist have a few kilobytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The longest line of an answer that comes line by line.
const MAX_LINE_BYTES: usize = 64 << 10;

/// A connection to the registry that runs on a data folder.
pub(super) struct Client {
    data: PathBuf,
    requests: SendRequest<Body>,
    /// Moves the bytes.
    _driver: JoinSet<()>,
}

/// An answer that comes line by line.
pub(super) struct Lines<'a> {
    client: &'a Client,
    body: Incoming,
    read: BytesMut,
}

/// Runs what a subcommand asks.
pub(super) fn block_on<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    Builder::new_current_thread().enable_all().build()?.block_on(asking)
}

impl Client {
    pub(super) async fn connect(data: &Path) -> anyhow::Result<Self> {
        let stream = connect(data).await.map_err(|error| not_connected(data, error))?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(data, error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async {
            // How it ended, the request in flight is told.
            let _ = connection.await;
        });
        Ok(Self { data: data.to_owned(), requests, _driver: driver })
    }

    /// What the registry answers to a GET.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Body::empty()).await
    }

    /// What the registry answers when it has done what a POST without a body asks for.
    pub(super) async fn command<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::POST, path, Body::empty()).await
    }

    /// The same of a POST with a body.
    pub(super) async fn command_with<T: DeserializeOwned>(
        &mut self,
        path: &str,
        value: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(Method::POST, path, Body::from(serde_json::to_vec(value)?)).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, method: Method, path: &str, body: Body) -> anyhow::Result<T> {
        let body = self.send(method, path, body).await?;
        let body = self.whole(body).await?;
        serde_json::from_slice(&body).map_err(|error| other_version().because(error))
    }

    /// What the registry answers to a POST, line by line.
    pub(super) async fn post(&mut self, path: &str, value: &impl Serialize) -> anyhow::Result<Lines<'_>> {
        let body = self.send(Method::POST, path, Body::from(serde_json::to_vec(value)?)).await?;
        Ok(Lines { client: self, body, read: BytesMut::new() })
    }

    async fn send(&mut self, method: Method, path: &str, body: Body) -> anyhow::Result<Incoming> {
        let request = Request::builder().method(method).uri(path).header("host", "admin").body(body)?;
        let response = self.requests.send_request(request).await.map_err(|error| broken(&self.data, error))?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let body = self.whole(response.into_body()).await?;
        let problem: Problem = serde_json::from_slice(&body).map_err(|error| other_version().because(error))?;
        Err(refused(&problem))
    }

    async fn whole(&self, body: Incoming) -> anyhow::Result<Vec<u8>> {
        let read = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        Ok(read.map_err(|error| broken(&self.data, anyhow::Error::from_boxed(error)))?.to_bytes().into())
    }
}

impl Lines<'_> {
    /// The next line; `None` at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end);
                self.read.advance(1);
                return serde_json::from_slice(&line).map(Some).map_err(|error| other_version().because(error));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| broken(&self.client.data, error))?;
            if let Some(bytes) = frame.data_ref() {
                self.read.extend_from_slice(bytes);
            }
            if self.read.len() > MAX_LINE_BYTES && !self.read.contains(&b'\n') {
                return Err(other_version().because(anyhow::Error::msg("a line of its answer is too long")));
            }
        }
    }
}

fn not_connected(data: &Path, error: io::Error) -> anyhow::Error {
    let socket = path(data);
    let (what, next) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => (
            format!("no registry runs on the data folder {}", data.display()),
            "start one with `roadstead serve`, or say with --data or --config where the running one has its data",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("the registry's socket {} may not be opened", socket.display()),
            "run this as the user that the registry runs as, or as root",
        ),
        _ => (format!("cannot connect to {}", socket.display()), "look at the registry's log"),
    };
    Failure::new(what, next).because(error)
}

fn broken(data: &Path, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let what = format!("the registry on {} ended the connection", data.display());
    Failure::new(what, "look whether it still runs, and whether this is its user or root").because(error)
}

fn refused(problem: &Problem) -> anyhow::Error {
    let what = match problem.code {
        Code::UnknownPath => return other_version().because(anyhow::Error::msg(problem.why().to_owned())),
        Code::Busy => "the registry does it already",
        Code::OutcomeUnknown => "it is not known whether the registry did it",
        Code::Unavailable | Code::NoLeader | Code::BadRequest | Code::Other => "the registry could not do it",
        Code::UnknownNode
        | Code::ChangeInProgress
        | Code::NotCaughtUp
        | Code::IsLeader
        | Code::LastVoter
        | Code::QuorumAtRisk
        | Code::NoVote
        | Code::NotInContact
        | Code::NoSuccessor
        | Code::Unfit
        | Code::OtherVolume
        | Code::HasCluster
        | Code::NeedsForce
        | Code::NoCluster => "the registry did not do it",
    };
    Failure::new(what, problem.code.advice()).because(anyhow::Error::msg(problem.why().to_owned()))
}

fn other_version() -> Failure {
    Failure::new("the registry that runs is of another version", "use the `roadstead` that it was started with")
}
