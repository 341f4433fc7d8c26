//! What leads clients from outside to the Service, and who makes its certificate if that is somebody else.

use roadstead_crds::{Gateway, GatewayTls, Ingress, IssuerRef, TlsProvider};
use serde_json::{Value, json};

use super::object::{Kind, Object, merge};
use super::{PORT, Wish};

/// The kinds of these objects: those that are not wanted any more are looked for among them.
pub(crate) const EXPOSURES: [Kind; 5] =
    [Kind::Ingress, Kind::TlsRoute, Kind::HttpRoute, Kind::BackendTlsPolicy, Kind::Certificate];

/// What is wanted of them.
pub(crate) fn exposures(wish: &Wish) -> Vec<Object> {
    let mut objects = Vec::new();
    if let Some(wanted) = &wish.spec.expose.ingress {
        objects.push(ingress(wish, wanted));
    }
    if let Some(wanted) = &wish.spec.expose.gateway {
        objects.push(route(wish, wanted));
        if wanted.tls == GatewayTls::Terminate && speaks_tls(wish) {
            objects.push(backend_tls(wish));
        }
    }
    objects
}

/// The host by which clients from outside call it, if there is one.
pub(crate) fn host(wish: &Wish) -> Option<&str> {
    let expose = &wish.spec.expose;
    let ingress = expose.ingress.as_ref().map(|ingress| &*ingress.host);
    ingress.or_else(|| expose.gateway.as_ref().map(|gateway| &*gateway.host))
}

fn speaks_tls(wish: &Wish) -> bool {
    wish.spec.tls.provider != TlsProvider::Disabled
}

fn ingress(wish: &Wish, wanted: &Ingress) -> Object {
    let backend = json!({ "service": { "name": wish.name, "port": { "number": PORT } } });
    let mut spec = json!({
        "rules": [{
            "host": wanted.host,
            "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] },
        }],
    });
    if let Some(class) = &wanted.class_name {
        merge(&mut spec, json!({ "ingressClassName": class }));
    }
    let mut tls = json!({ "hosts": [wanted.host] });
    if let Some(secret) = &wanted.tls_secret_ref {
        merge(&mut tls, json!({ "secretName": secret.name }));
    }
    merge(&mut spec, json!({ "tls": [tls] }));
    let protocol = if speaks_tls(wish) { "HTTPS" } else { "HTTP" };
    let mut annotations = json!({
        "nginx.ingress.kubernetes.io/backend-protocol": protocol,
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",
        "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
    });
    merge(&mut annotations, json!(wanted.annotations));
    let content = json!({ "metadata": { "annotations": annotations }, "spec": spec });
    Object::owned(Kind::Ingress, wish, &wish.name, content)
}

fn route(wish: &Wish, wanted: &Gateway) -> Object {
    let kind = match wanted.tls {
        GatewayTls::Passthrough => Kind::TlsRoute,
        GatewayTls::Terminate => Kind::HttpRoute,
    };
    let content = json!({
        "spec": {
            "parentRefs": wanted.parent_refs,
            "hostnames": [wanted.host],
            "rules": [{ "backendRefs": [{ "name": wish.name, "port": PORT }] }],
        },
    });
    Object::owned(kind, wish, &wish.name, content)
}

/// How the Gateway checks the replicas' certificate.
fn backend_tls(wish: &Wish) -> Object {
    let mut validation = json!({ "hostname": format!("{}.{}.svc", wish.name, wish.namespace) });
    let trusted = match wish.spec.tls.provider {
        TlsProvider::SelfSigned => {
            json!({ "caCertificateRefs": [{ "group": "", "kind": "ConfigMap", "name": wish.named("ca") }] })
        }
        _ => json!({ "wellKnownCACertificates": "System" }),
    };
    merge(&mut validation, trusted);
    let content = json!({
        "spec": { "targetRefs": [{ "group": "", "kind": "Service", "name": wish.name }], "validation": validation },
    });
    Object::owned(Kind::BackendTlsPolicy, wish, &wish.name, content)
}

/// What cert-manager makes the certificate for clients by, in the Secret that replicas read.
pub(crate) fn certificate(wish: &Wish, names: &[String]) -> Option<Object> {
    let IssuerRef { name, kind } = wish.spec.tls.issuer_ref.as_ref()?;
    let (addresses, names): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let secret: Value = json!(wish.named("serving-tls"));
    let content = json!({
        "spec": {
            "secretName": secret,
            "dnsNames": names,
            "ipAddresses": addresses,
            "usages": ["digital signature", "server auth"],
            "privateKey": { "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always" },
            "issuerRef": { "name": name, "kind": kind, "group": "cert-manager.io" },
        },
    });
    Some(Object::owned(Kind::Certificate, wish, &wish.named("serving"), content))
}
