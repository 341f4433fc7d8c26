//! What a look asks the API server for in any case, asked for together at its beginning: one after another, each question would
//! wait for the answer to the one before, and a look is little else than waiting.
//!
//! What was read so is given once, to whoever asks for it first; whoever asks again, or for what was written since, asks the API
//! server. What could not be read is asked for again by whoever needs it: that one tells what went wrong.

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::Value;

use crate::apply::Objects;
use crate::build::Kind;

/// Questions at once. Each has a connection of its own, which takes some tens of kilobytes and stays for the next look.
const AT_ONCE: usize = 6;

/// See the module.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<Vec<(Kind, String, Answer)>>);

/// The object, unless there is none.
pub(crate) struct Answer(pub Option<Value>);

impl Ahead {
    /// Asks for all of these.
    pub(crate) async fn read(objects: &Objects<'_>, wanted: Vec<(Kind, String)>) {
        let asked = wanted.into_iter().map(async |(kind, name)| {
            let found = objects.ask(kind, &name).await.ok()?;
            Some((kind, name, Answer(found)))
        });
        let answers: Vec<_> = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        objects.ahead.0.lock().extend(answers.into_iter().flatten());
    }

    /// Gives what was read, if it was; whether there is such an object is an answer too.
    pub(crate) fn take(&self, kind: Kind, name: &str) -> Option<Answer> {
        let mut read = self.0.lock();
        let at = read.iter().position(|(of, named, _)| *of == kind && named == name)?;
        Some(read.swap_remove(at).2)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Method, Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::Barrier;
    use tower::service_fn;

    use super::*;
    use crate::apply::Writes;
    use crate::build::Object;
    use crate::cache::Cache;

    /// An API server that has every Secret but one and refuses another, and answers questions only as soon as so many wait.
    fn server(together: usize, asked: Arc<AtomicUsize>) -> Client {
        let barrier = Arc::new(Barrier::new(together));
        let answer = move |request: Request<Body>| {
            let (barrier, asked) = (Arc::clone(&barrier), Arc::clone(&asked));
            async move {
                if asked.fetch_add(1, Ordering::Relaxed) < together {
                    barrier.wait().await;
                }
                let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let (code, body) = match (request.method(), &*name) {
                    (&Method::GET, "missing") => (404, refusal(404, "NotFound")),
                    (&Method::GET, "refused") => (403, refusal(403, "Forbidden")),
                    (method, name) => (200, secret(name, method.as_str())),
                };
                Ok::<_, Infallible>(
                    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap(),
                )
            }
        };
        Client::new(service_fn(answer), "images")
    }

    fn refusal(code: u16, reason: &str) -> Value {
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code })
    }

    fn secret(name: &str, by: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "annotations": { "by": by } } })
    }

    #[tokio::test]
    async fn what_is_read_together_is_given_once_and_not_after_it_was_written() {
        let asked = Arc::new(AtomicUsize::new(0));
        let client = server(4, Arc::clone(&asked));
        let (writes, cache, ahead) = (Writes::default(), Cache::default(), Ahead::default());
        let objects = Objects { client: &client, namespace: "images", writes: &writes, cache: &cache, ahead: &ahead };
        let wanted = ["one", "two", "missing", "refused"].map(|name| (Kind::Secret, name.to_owned()));
        // One after another, none of them would be answered.
        Ahead::read(&objects, wanted.to_vec()).await;
        assert_eq!(asked.load(Ordering::Relaxed), 4);

        let one = objects.get(Kind::Secret, "one").await.unwrap().unwrap();
        assert_eq!(one["metadata"]["name"], "one");
        assert_eq!(objects.get(Kind::Secret, "missing").await.unwrap(), None);
        assert_eq!(asked.load(Ordering::Relaxed), 4, "both were read already");
        objects.get(Kind::Secret, "one").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 5, "whoever asks again asks the API server");
        assert!(objects.get(Kind::Secret, "refused").await.is_err(), "whoever needs it tells what went wrong");

        let two = Object { kind: Kind::Secret, name: "two".to_owned(), value: secret("two", "operator") };
        objects.write(&two).await.unwrap();
        let before = asked.load(Ordering::Relaxed);
        objects.get(Kind::Secret, "two").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), before + 1, "what was read is not what there is");
    }
}
