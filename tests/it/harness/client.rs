use std::ops::Range;
use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, StatusCode};

use super::{Image, sha256};

/// Longer than any request here takes on two busy cores; a hang must not look like a slow test.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A thin HTTP client that shows what the registry answers and hides nothing: it follows no redirect.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Option<(String, String)>,
}

impl Client {
    /// A client of what is at `base` (`http://127.0.0.1:5000` for one), that trusts these certificate authorities and no
    /// other.
    pub(crate) fn with_authorities(base: &str, authorities: &[&[u8]]) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let installed = rustls::crypto::ring::default_provider().install_default();
            assert!(installed.is_ok(), "nobody else chooses the tests' cryptography");
        });
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT)
            // An idle connection must not outlive a server that is killed and started again.
            .pool_idle_timeout(Duration::from_secs(5));
        for authority in authorities {
            let authority = reqwest::Certificate::from_pem(authority).expect("a certificate in PEM");
            builder = builder.add_root_certificate(authority);
        }
        Self { http: builder.build().expect("a client"), base: base.to_owned(), credentials: None }
    }

    /// What it sends its requests with.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The same client, with a login.
    pub(crate) fn login(&self, user: &str, password: &str) -> Self {
        Self { credentials: Some((user.to_owned(), password.to_owned())), ..self.clone() }
    }

    /// `http://host:port`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn request(&self, method: Method, target: &str) -> Request {
        let url = if target.starts_with("http") { target.to_owned() } else { format!("{}{target}", self.base) };
        let request = self.http.request(method, url);
        Request(match &self.credentials {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        })
    }

    pub(crate) fn get(&self, target: &str) -> Request {
        self.request(Method::GET, target)
    }

    pub(crate) fn head(&self, target: &str) -> Request {
        self.request(Method::HEAD, target)
    }

    pub(crate) fn post(&self, target: &str) -> Request {
        self.request(Method::POST, target)
    }

    pub(crate) fn put(&self, target: &str) -> Request {
        self.request(Method::PUT, target)
    }

    pub(crate) fn patch(&self, target: &str) -> Request {
        self.request(Method::PATCH, target)
    }

    pub(crate) fn delete(&self, target: &str) -> Request {
        self.request(Method::DELETE, target)
    }

    /// Begins an upload.
    pub(crate) async fn begin(&self, repository: &str) -> Upload {
        let reply = self.post(&format!("/v2/{repository}/blobs/uploads/")).send().await.status(202);
        Upload { client: self.clone(), location: reply.location() }
    }

    /// Pushes a blob in two requests and returns its digest.
    pub(crate) async fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = sha256(content);
        self.begin(repository).await.put(&digest, content.to_vec()).await.status(201);
        digest
    }

    /// What the registry holds under a blob's digest.
    pub(crate) async fn blob(&self, repository: &str, digest: &str) -> Reply {
        self.get(&format!("/v2/{repository}/blobs/{digest}")).send().await
    }

    /// Puts a manifest.
    pub(crate) async fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, body: &[u8]) -> Reply {
        self.put(&format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", media_type)
            .body(body.to_vec())
            .send()
            .await
    }

    /// A manifest by tag or digest.
    pub(crate) async fn manifest(&self, repository: &str, reference: &str) -> Reply {
        self.get(&format!("/v2/{repository}/manifests/{reference}")).send().await
    }

    /// Pushes all of an image under a tag.
    pub(crate) async fn push_image(&self, repository: &str, tag: &str, image: &Image) {
        for blob in image.blobs() {
            self.push_blob(repository, blob).await;
        }
        self.put_manifest(repository, tag, super::MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
    }

    /// Pulls an image by its tag and compares every byte of it.
    pub(crate) async fn pull_image(&self, repository: &str, tag: &str, image: &Image) {
        let manifest = self.manifest(repository, tag).await.status(200);
        assert_eq!(manifest.body, image.manifest, "the manifest of {repository}:{tag}");
        for blob in image.blobs() {
            let digest = sha256(blob);
            let got = self.blob(repository, &digest).await.status(200);
            assert!(got.body == *blob, "{repository}@{digest} has other bytes than were pushed");
        }
    }

    /// The tags of a repository; none if it is not known.
    pub(crate) async fn tags(&self, repository: &str) -> Vec<String> {
        let reply = self.get(&format!("/v2/{repository}/tags/list")).send().await;
        if reply.status == 404 {
            return Vec::new();
        }
        let tags = reply.status(200).json();
        let tags = tags["tags"].as_array().expect("a list of tags");
        tags.iter().map(|tag| tag.as_str().expect("a tag").to_owned()).collect()
    }
}

/// A request in the making.
pub(crate) struct Request(reqwest::RequestBuilder);

impl Request {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0.body(body))
    }

    /// Sends it and reads all of the answer.
    pub(crate) async fn send(self) -> Reply {
        self.try_send().await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Sends it; an error means that there was no whole answer.
    pub(crate) async fn try_send(self) -> Result<Reply, reqwest::Error> {
        let response = self.0.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, headers, body: response.bytes().await? })
    }
}

impl Request {
    /// Sends it and gives the body of a 200 piece by piece.
    pub(crate) async fn stream(self) -> impl Stream<Item = Result<Bytes, reqwest::Error>> + Unpin {
        let response = self.0.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        Box::pin(response.bytes_stream())
    }
}

/// An upload session.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) client: Client,
    /// Where its next request goes.
    pub(crate) location: String,
}

impl Upload {
    /// Appends `content`, said to be at `range` of the blob, and follows the new location.
    pub(crate) async fn chunk(&mut self, range: Range<usize>, content: Vec<u8>) -> Reply {
        let range = format!("{}-{}", range.start, range.end - 1);
        let request = self.client.patch(&self.location).header("content-range", &range);
        let reply = request.header("content-type", "application/octet-stream").body(content).send().await;
        self.follow(&reply);
        reply
    }

    /// Appends `body` as docker does: neither length nor range is said.
    pub(crate) async fn stream(&mut self, body: Body) -> Reply {
        let reply = self.client.patch(&self.location).body(body).send().await;
        self.follow(&reply);
        reply
    }

    /// Closes it with a last piece of content, which may be empty or everything.
    pub(crate) async fn put(&self, digest: &str, content: Vec<u8>) -> Reply {
        self.client
            .put(&self.closing(digest))
            .header("content-type", "application/octet-stream")
            .body(content)
            .send()
            .await
    }

    /// Where the closing PUT goes.
    pub(crate) fn closing(&self, digest: &str) -> String {
        let separator = if self.location.contains('?') { '&' } else { '?' };
        format!("{}{separator}digest={digest}", self.location)
    }

    /// Asks how far it has come.
    pub(crate) async fn progress(&self) -> Reply {
        self.client.get(&self.location).send().await
    }

    /// Cancels it.
    pub(crate) async fn cancel(&self) -> Reply {
        self.client.delete(&self.location).send().await
    }

    fn follow(&mut self, reply: &Reply) {
        if reply.status == 202 {
            self.location = reply.location();
        }
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// Fails unless it has this status, showing what was said instead.
    #[track_caller]
    pub(crate) fn status(self, expected: u16) -> Self {
        let meaning = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2_000)]);
        assert_eq!(self.status, expected, "{} {:?}\n{body}", meaning.unwrap_or_default(), self.headers);
        self
    }

    /// A header's text, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header in ASCII"))
    }

    /// The `Location`, which must be there.
    #[track_caller]
    pub(crate) fn location(&self) -> String {
        self.header("location").expect("a Location").to_owned()
    }

    /// One past the last byte that `Range: 0-<last>` names; `0-0` is said of an empty session as of one byte.
    #[track_caller]
    pub(crate) fn range_end(&self) -> u64 {
        let range = self.header("range").expect("a Range");
        let last = range.strip_prefix("0-").expect("a range that begins at 0").parse::<u64>().expect("a number");
        if last == 0 { 0 } else { last + 1 }
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The code of the first error in the body, which must have the specified form.
    #[track_caller]
    pub(crate) fn error_code(&self) -> String {
        let body = self.json();
        let error = &body["errors"][0];
        assert!(error["message"].is_string(), "an error has a message: {body}");
        error["code"].as_str().unwrap_or_else(|| panic!("an error has a code: {body}")).to_owned()
    }
}
