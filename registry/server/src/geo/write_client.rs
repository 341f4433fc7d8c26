//! How a mirror writes at its home.

use async_trait::async_trait;
use axum::body::Body;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderName, Method, Request};
use hyper::client::conn::http1::SendRequest;
use roadstead_domain::Precondition;
use roadstead_geo::{
    BlobAnswer, Claim, HomeError, HomeWrites, Lacking, Outgoing, Standing, WriteAnswer, WrittenManifest,
};
use roadstead_oci::{Digest, Reference, RepositoryName};
use serde::de::DeserializeOwned;
use std::sync::Arc;

use super::client::{Answer, HttpHome, away, misread};
use super::paths;

/// The longest answer that is read: the names of all blobs that a manifest can have.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What is asked, but for its body.
struct Asked {
    method: Method,
    target: String,
    headers: Vec<(HeaderName, String)>,
}

impl Asked {
    const fn new(method: Method, target: String) -> Self {
        Self { method, target, headers: Vec::new() }
    }
}

impl HttpHome {
    /// Asks once, and reads the answer.
    async fn ask_once<T: DeserializeOwned>(
        &self,
        mut requests: SendRequest<Body>,
        asked: &Asked,
        body: Body,
    ) -> Result<T, HomeError> {
        let mut request = Request::builder()
            .method(asked.method.clone())
            .uri(&asked.target)
            .header(HOST, format!("{}:{}", self.upstream.host, self.upstream.port))
            .header(AUTHORIZATION, format!("Bearer {}", self.token.load().0));
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| HomeError::Refused(error.to_string()))?;
        let response = requests.send_request(request).await.map_err(away)?;
        let answer = Answer { response, requests, idle: Arc::clone(&self.idle) };
        if !answer.response.status().is_success() {
            return Err(answer.refusal().await);
        }
        let mut read = BytesMut::new();
        let mut pieces = Box::pin(answer.bytes());
        while let Some(piece) = pieces.next().await {
            read.extend_from_slice(&piece?);
            if read.len() > MAX_ANSWER_BYTES {
                return Err(misread("an answer that is too long"));
            }
        }
        serde_json::from_slice(&read).map_err(misread)
    }

    /// Asks what may be asked twice: a connection that home has just closed is found out by using it.
    async fn ask_again<T: DeserializeOwned>(&self, asked: &Asked, body: bytes::Bytes) -> Result<T, HomeError> {
        if let Some(used) = self.used().await {
            match self.ask_once(used, asked, Body::from(body.clone())).await {
                Err(HomeError::Away(_)) => {}
                answer => return answer,
            }
        }
        self.ask_once(self.fresh().await?, asked, Body::from(body)).await
    }
}

#[async_trait]
impl HomeWrites for HttpHome {
    async fn claim(&self, repository: &RepositoryName, digests: &[Digest]) -> Result<Vec<Digest>, HomeError> {
        let claim = serde_json::to_vec(&Claim { digests: digests.to_vec() }).map_err(misread)?;
        let asked = Asked::new(Method::POST, format!("{}?repository={repository}", paths::CLAIM));
        let lacking: Lacking = self.ask_again(&asked, claim.into()).await?;
        Ok(lacking.digests)
    }

    async fn standing(&self, repository: &RepositoryName, digest: &Digest, size: u64) -> Result<u64, HomeError> {
        let target = format!("{}?repository={repository}&digest={digest}&size={size}", paths::UPLOAD);
        let standing: Standing = self.ask_again(&Asked::new(Method::GET, target), bytes::Bytes::new()).await?;
        Ok(standing.offset)
    }

    async fn send(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        offset: u64,
        bytes: Outgoing,
    ) -> Result<BlobAnswer, HomeError> {
        let target = format!("{}?repository={repository}&digest={digest}&size={size}&offset={offset}", paths::UPLOAD);
        let mut asked = Asked::new(Method::PUT, target);
        asked.headers.push((CONTENT_LENGTH, size.saturating_sub(offset).to_string()));
        self.ask_once(self.fresh().await?, &asked, Body::from_stream(bytes)).await
    }

    async fn put_manifest(&self, manifest: &WrittenManifest) -> Result<WriteAnswer, HomeError> {
        let WrittenManifest { repository, reference, tags, precondition, declared, bytes } = manifest;
        let mut target = format!("{}?repository={repository}&reference={reference}", paths::MANIFEST);
        for tag in tags {
            target.push_str("&tag=");
            target.push_str(tag.as_str());
        }
        let mut asked = Asked::new(Method::PUT, target);
        asked.headers.extend(declared.iter().map(|declared| (CONTENT_TYPE, declared.to_string())));
        asked.headers.extend(condition(precondition));
        // Asked twice, this would be refused the second time for what the first has done.
        if *precondition == Precondition::Absent {
            return self.ask_once(self.fresh().await?, &asked, Body::from(bytes.clone())).await;
        }
        self.ask_again(&asked, bytes.clone()).await
    }

    async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<WriteAnswer, HomeError> {
        let target = format!("{}?repository={repository}&reference={reference}", paths::MANIFEST);
        // Asked twice, what the first has deleted would be unknown.
        self.ask_once(self.fresh().await?, &Asked::new(Method::DELETE, target), Body::empty()).await
    }
}

/// As a client says it.
fn condition(precondition: &Precondition) -> Option<(HeaderName, String)> {
    match precondition {
        Precondition::None => None,
        Precondition::Absent => Some((IF_NONE_MATCH, "*".to_owned())),
        Precondition::Exists => Some((IF_MATCH, "*".to_owned())),
        Precondition::Match(digests) => {
            let quoted: Vec<_> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
            Some((IF_MATCH, quoted.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use roadstead_oci::{Algorithm, Hasher};

    use super::*;
    use crate::http::precondition;

    #[test]
    fn home_reads_a_condition_as_the_mirror_was_given_it() {
        let digest = |content: &[u8]| *Hasher::digest(Algorithm::Sha256, content).get();
        let two = vec![digest(b"1"), digest(b"2")];
        for given in [Precondition::None, Precondition::Absent, Precondition::Exists, Precondition::Match(two)] {
            let headers: HeaderMap =
                condition(&given).into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect();
            assert_eq!(precondition(&headers).unwrap(), given);
        }
    }
}
