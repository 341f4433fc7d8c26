//! From options to clients.

use std::net::IpAddr;
use std::path::PathBuf;

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::completions::Completions;
use super::{S3Store, patience};

/// The region in which requests are signed for a server that has none of its own; every such server takes it.
const DEFAULT_REGION: &str = "us-east-1";

/// Which bucket, where, and who we are.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// The bucket, which exists.
    pub bucket: String,
    /// What stands before every key, for a bucket that is shared; may be empty. Letters, digits and `-_./`.
    pub prefix: String,
    /// The region. If absent: with an `endpoint` of one's own `us-east-1`, else what the environment, the profile or
    /// the machine says.
    pub region: Option<String>,
    /// The server's URL; AWS if absent.
    pub endpoint: Option<String>,
    /// The server's URL as clients reach it, for presigned links; without one there are no such links.
    pub public_endpoint: Option<String>,
    /// Whether the bucket stands in the URL's path rather than in its host name: most servers but AWS want that.
    pub path_style: bool,
    /// A file of PEM certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// If absent: the standard chain of environment, profile, web identity, container and instance.
    pub credentials: Option<S3Credentials>,
}

/// An access key.
#[derive(Clone)]
pub struct S3Credentials {
    /// Its public half.
    pub access_key_id: String,
    /// Its secret half.
    pub secret_access_key: String,
}

impl std::fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Credentials({}, ...)", self.access_key_id)
    }
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum S3OptionsError {
    /// There is no bucket name, or none that S3 allows.
    #[error("the S3 bucket {0:?} is no bucket name: 3 to 63 of a-z, 0-9, '-' and '.'")]
    Bucket(String),
    /// The prefix has characters that would need escaping.
    #[error("the S3 prefix {0:?} may only have letters, digits, '-', '_', '.' and '/', and no '/' at its beginning")]
    Prefix(String),
    /// An endpoint is not the URL of a server.
    #[error("the S3 endpoint {0:?} is not a URL like https://s3.example.com")]
    Endpoint(String),
    /// The file of certificates cannot be read.
    #[error("cannot read the S3 CA file {path}: {error}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The file of certificates has none that can be used.
    #[error("the S3 CA file {path} holds no usable PEM certificate: {reason}")]
    CaContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl S3Store {
    /// Makes the clients. Nothing is sent yet, but for what finding the region or a first set of credentials takes:
    /// [`S3Store::probe`] says whether the store works.
    pub async fn connect(options: S3Options) -> Result<Self, S3OptionsError> {
        check(&options)?;
        let http = http_client(&options)?;
        let config = shared_config(&options, http).await;
        let client = |endpoint: Option<&String>| {
            let mut builder = aws_sdk_s3::config::Builder::from(&config)
                .force_path_style(options.path_style)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
            builder.set_endpoint_url(endpoint.cloned().or_else(|| config.endpoint_url().map(str::to_owned)));
            Client::from_conf(builder.build())
        };
        let prefix = options.prefix.trim_end_matches('/');
        let endpoint = options.endpoint.as_deref().or(config.endpoint_url());
        Ok(Self {
            client: client(options.endpoint.as_ref()),
            credentials: config.credentials_provider(),
            presigner: options.public_endpoint.is_some().then(|| client(options.public_endpoint.as_ref())),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            sheltered: endpoint.is_none_or(is_sheltered),
            bucket: options.bucket,
            completions: Completions::default(),
        })
    }
}

fn check(options: &S3Options) -> Result<(), S3OptionsError> {
    let S3Options { bucket, prefix, .. } = options;
    let in_bucket = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(in_bucket) {
        return Err(S3OptionsError::Bucket(bucket.clone()));
    }
    let in_prefix = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    if prefix.starts_with('/') || !prefix.bytes().all(in_prefix) {
        return Err(S3OptionsError::Prefix(prefix.clone()));
    }
    for endpoint in options.endpoint.iter().chain(&options.public_endpoint) {
        let url = endpoint.parse::<http::Uri>().ok();
        if !url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()) {
            return Err(S3OptionsError::Endpoint(endpoint.clone()));
        }
    }
    Ok(())
}

/// Whether what is sent to an endpoint goes over TLS, or does not leave this machine.
fn is_sheltered(endpoint: &str) -> bool {
    let Ok(url) = endpoint.parse::<http::Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse().map_or(host == "localhost", |address: IpAddr| address.is_loopback());
    url.scheme_str() == Some("https") || is_loopback
}

fn http_client(options: &S3Options) -> Result<SharedHttpClient, S3OptionsError> {
    let mut trust = TrustStore::default();
    if let Some(path) = &options.ca_file {
        let pem = std::fs::read(path).map_err(|error| S3OptionsError::CaFile { path: path.clone(), error })?;
        // The SDK panics over certificates that it cannot use.
        check_certificates(&pem).map_err(|reason| S3OptionsError::CaContent { path: path.clone(), reason })?;
        trust.add_pem_certificate(pem);
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    Ok(match context {
        Ok(context) => builder.tls_context(context).build_https(),
        // Never so: building checks nothing.
        Err(_) => builder.build_https(),
    })
}

fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("there is no BEGIN CERTIFICATE in it".into());
    }
    let mut roots = RootCertStore::empty();
    certificates.into_iter().try_for_each(|certificate| roots.add(certificate)).map_err(|error| error.to_string())
}

/// What the S3 clients and the credential chain share.
async fn shared_config(options: &S3Options, http: SharedHttpClient) -> SdkConfig {
    let region = match (&options.region, &options.endpoint) {
        (Some(region), _) => Some(Region::new(region.clone())),
        (None, Some(_)) => None,
        (None, None) => DefaultRegionChain::builder().build().region().await,
    };
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region.unwrap_or(Region::from_static(DEFAULT_REGION)))
        .http_client(http)
        .retry_config(patience::retries())
        .timeout_config(patience::quick())
        // Ours (`READ_STALL`) tells a slow server from a slow client; this one does not know our client.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let loader = match &options.credentials {
        Some(S3Credentials { access_key_id, secret_access_key }) => {
            loader.credentials_provider(Credentials::new(access_key_id, secret_access_key, None, None, "options"))
        }
        None => loader,
    };
    loader.load().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> S3Options {
        S3Options { bucket: "bucket".into(), endpoint: Some("http://127.0.0.1:9".into()), ..S3Options::default() }
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        assert!(check(&options()).is_ok());
        assert!(check(&S3Options { prefix: "a/b.c-d_e/".into(), ..options() }).is_ok());
        let bad = |options| check(&options).unwrap_err().to_string();
        assert!(bad(S3Options { bucket: String::new(), ..options() }).contains("bucket"));
        assert!(bad(S3Options { prefix: "/x".into(), ..options() }).contains("prefix"));
        assert!(bad(S3Options { prefix: "ä".into(), ..options() }).contains("prefix"));
        for endpoint in ["minio:9000", "ftp://minio", "/minio", "http://"] {
            assert!(bad(S3Options { endpoint: Some(endpoint.into()), ..options() }).contains("endpoint"), "{endpoint}");
        }
    }

    #[test]
    fn bodies_are_signed_where_somebody_could_change_them() {
        for (endpoint, sheltered) in [
            ("https://s3.example.com", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost:9000", true),
            ("http://minio.local:9000", false),
            ("http://10.0.0.1:9000", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_sheltered(endpoint), sheltered, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn a_ca_file_that_cannot_be_used_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let connect = || S3Store::connect(S3Options { ca_file: Some(path.clone()), ..options() });
        assert!(matches!(connect().await, Err(S3OptionsError::CaFile { .. })));
        for content in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(connect().await, Err(S3OptionsError::CaContent { .. })), "{content:?}");
        }
    }

    #[test]
    fn a_secret_key_is_not_printed() {
        let credentials = S3Credentials { access_key_id: "id".into(), secret_access_key: "hush".into() };
        assert!(!format!("{credentials:?}").contains("hush"));
    }
}
