//! Counts what is asked of the API server, whoever asks it.

use http::{Method, Request, Uri};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use prometheus::IntCounterVec;
use tower::util::MapRequestLayer;

/// A client of which every request is counted, by its verb and resource. What is sent again by itself counts once.
pub(crate) fn counted(config: Config, requests: IntCounterVec) -> kube::Result<Client> {
    let count = MapRequestLayer::new(move |request: Request<Body>| {
        let (verb, resource) = named(request.method(), request.uri());
        requests.with_label_values(&[verb, resource.as_str()]).inc();
        request
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&count).build())
}

/// The verb and the resource, as rights are granted for them: such as `patch` of `registries/status`.
fn named(method: &Method, uri: &Uri) -> (&'static str, String) {
    let path: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let resources = match &*path {
        ["api", _version, rest @ ..] | ["apis", _, _version, rest @ ..] => rest,
        _ => &[],
    };
    let resources = match resources {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let resource = match resources {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => String::new(),
    };
    let is_watch = uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    let verb = match *method {
        Method::GET if is_watch => "watch",
        Method::GET if resources.len() == 1 => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rights_are() {
        for (method, uri, verb, resource) in [
            (Method::GET, "/version", "get", ""),
            (Method::GET, "/api/v1/nodes/node-1", "get", "nodes"),
            (Method::GET, "/api/v1/namespaces/a/pods?&labelSelector=x", "list", "pods"),
            (Method::GET, "/api/v1/pods?&watch=true&resourceVersion=0", "watch", "pods"),
            (Method::POST, "/api/v1/namespaces/a/pods/home-0/eviction", "create", "pods/eviction"),
            (Method::GET, "/apis/apps/v1/namespaces/a/statefulsets/home", "get", "statefulsets"),
            (
                Method::PATCH,
                "/apis/roadstead.dev/v1alpha1/namespaces/a/registries/home/status?&force=true",
                "patch",
                "registries/status",
            ),
            (Method::DELETE, "/api/v1/namespaces/a/configmaps/home-beginning", "delete", "configmaps"),
            (Method::GET, "/api/v1/namespaces/a", "get", "namespaces"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(named(&method, &uri), (verb, resource.to_owned()), "{method} {uri}");
        }
    }
}
