//! How a registry speaks to its clients.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretRef;

/// How clients reach it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(self.provider == 'Secret') == has(self.secretRef)", "`secretRef` must be set with `provider: Secret`, and only then"))]
#[x_kube(validation = ("self.provider in ['SelfSigned', 'CertManager'] || !has(self.names) || size(self.names) == 0", "`names` must be empty unless `provider` is `SelfSigned` or `CertManager`: a given certificate has its own names"))]
#[x_kube(validation = ("(self.provider == 'CertManager') == has(self.issuerRef)", "`issuerRef` must be set with `provider: CertManager`, and only then"))]
pub struct Tls {
    /// Who makes the certificate: `SelfSigned`, by a CA of the registry's own that the status names; `CertManager`, by an
    /// issuer of cert-manager, which must be installed; `Secret`, somebody else; `Disabled`, nobody, and passwords and images travel unprotected.
    #[serde(default)]
    pub provider: TlsProvider,

    /// A Secret of type `kubernetes.io/tls` with the certificate chain and its key. A renewed one is used without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// By whom cert-manager has it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,

    /// With `SelfSigned`, once the CA is replaced (its Secret `NAME-serving-ca` deleted): for how long clients are told of both, the
    /// former one and the new one, before the new one's certificate is shown; and then again, before they are told of the new one
    /// alone. Such as `30m` or `24h`: as long as the slowest client takes to read what `status.caConfigMapRef` names.
    #[serde(default = "a_day")]
    #[schemars(length(min = 2, max = 5), regex(pattern = r"^[1-9][0-9]*[mh]$"))]
    #[x_kube(validation = ("duration(self) <= duration('480h')", "`caOverlap` must be at most 480h: certificates are renewed a month before their end"))]
    pub ca_overlap: String,

    /// Further host names and IP addresses that the certificate is for. With `CertManager`, the only ones but those of `expose`,
    /// since public issuers know none of the cluster's; without any, the Service's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-zA-Z0-9*]([a-zA-Z0-9.:*-]*[a-zA-Z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            provider: TlsProvider::default(),
            secret_ref: None,
            issuer_ref: None,
            ca_overlap: a_day(),
            names: Vec::new(),
        }
    }
}

fn a_day() -> String {
    "24h".to_owned()
}

/// Who makes the certificate.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsProvider {
    /// The operator, by a CA of the registry's own.
    #[default]
    SelfSigned,
    /// cert-manager.
    CertManager,
    /// Somebody else.
    Secret,
    /// Plain HTTP.
    Disabled,
}

/// An issuer of cert-manager.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// `Issuer`, of the same namespace, or `ClusterIssuer`.
    #[serde(default)]
    pub kind: IssuerKind,
}

/// A kind of issuer.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssuerKind {
    /// Of the same namespace.
    #[default]
    Issuer,
    /// Of the whole cluster.
    ClusterIssuer,
}
