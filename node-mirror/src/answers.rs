//! Which mirrors answer: one that takes connections and says nothing holds a runtime up for longer than one that is gone,
//! by up to 30 s a request, and by no setting of its own for less.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use crate::addresses::{Reached, parts};
use crate::settings::Host;

/// How long an endpoint may take to answer: as long as a runtime tries to reach it.
const PATIENCE: Duration = Duration::from_secs(2);

/// One that has not answered so often in a row is gone: a lost packet, or a second in which it has much to do, is not.
const GONE_AFTER: u32 = 2;

/// What is known of each endpoint, by its address.
#[derive(Default)]
pub(crate) struct Answers(BTreeMap<String, Seen>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    has_answered: bool,
    is_there: bool,
    missed: u32,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It answers.
    There,
    /// It said at once that it does not, so whoever asks goes on at once.
    Refused,
    /// Nothing came.
    Nothing,
}

impl Answers {
    /// Asks the mirrors of all hosts, and what is behind them, at once: it takes two seconds at most.
    pub(crate) async fn look(&mut self, hosts: &[(&Host, Vec<Reached<'_>>)]) {
        let mirrors: BTreeMap<_, _> = hosts
            .iter()
            .flat_map(|(_, mirrors)| mirrors)
            .map(|Reached { address, mirror, .. }| (address.as_str(), *mirror))
            .collect();
        let asked = mirrors.iter().map(async |(address, mirror)| {
            // An authority that cannot be read is told of where it is written.
            let authority = mirror.authority().ok().flatten();
            heard(ask(address, authority.as_deref())).await
        });
        let behind: BTreeSet<String> = hosts.iter().map(|(host, _)| host.behind()).collect();
        let behind: Vec<&str> =
            behind.iter().map(String::as_str).filter(|address| !mirrors.contains_key(address)).collect();
        let connected = behind.iter().map(async |address| heard(connect(address)).await);
        let (asked, connected) = tokio::join!(join_all(asked), join_all(connected));
        for (address, answer) in mirrors.keys().copied().zip(asked).chain(behind.iter().copied().zip(connected)) {
            self.note(address, answer);
        }
    }

    fn note(&mut self, address: &str, answer: Answer) {
        let seen = self.0.entry(address.to_owned()).or_default();
        seen.is_there = answer == Answer::There;
        if seen.is_there && (!seen.has_answered || seen.missed >= GONE_AFTER) {
            info!("{address} answers");
        }
        seen.has_answered |= seen.is_there;
        seen.missed = if answer == Answer::Nothing { seen.missed.saturating_add(1) } else { 0 };
    }

    /// The mirrors without those that are gone. One is, if it has answered this program before, and says nothing any more
    /// while another endpoint of the host is there: else it may be this pod that reaches nobody, and nothing would be gained.
    pub(crate) fn without_gone<'a>(&self, host: &Host, mirrors: Vec<Reached<'a>>) -> Vec<Reached<'a>> {
        let seen = |address: &str| self.0.get(address).copied().unwrap_or_default();
        let is_another_there =
            seen(&host.behind()).is_there || mirrors.iter().any(|mirror| seen(&mirror.address).is_there);
        let is_kept = |mirror: &Reached<'_>| {
            let Seen { has_answered, missed, .. } = seen(&mirror.address);
            let is_gone = is_another_there && has_answered && missed >= GONE_AFTER;
            if is_gone && missed == GONE_AFTER {
                warn!(host = host.name, "{} does not answer: pulls do without it until it does", mirror.address);
            }
            !is_gone
        };
        mirrors.into_iter().filter(is_kept).collect()
    }
}

async fn heard(asking: impl Future<Output = io::Result<()>>) -> Answer {
    match timeout(PATIENCE, asking).await {
        Ok(Ok(())) => Answer::There,
        Ok(Err(_)) => Answer::Refused,
        Err(_) => Answer::Nothing,
    }
}

/// Has an answer of a registry begin.
async fn ask(url: &str, authority: Option<&[u8]>) -> io::Result<()> {
    let (stream, name) = open(url).await?;
    if url.starts_with("http://") {
        return begin_of_answer(stream, url).await;
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let given = CertificateDer::pem_slice_iter(authority.unwrap_or_default());
    roots.add_parsable_certificates(given.filter_map(Result::ok));
    let settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    begin_of_answer(TlsConnector::from(Arc::new(settings)).connect(name, stream).await?, url).await
}

/// Has it take a connection.
async fn connect(url: &str) -> io::Result<()> {
    open(url).await.map(drop)
}

async fn open(url: &str) -> io::Result<(TcpStream, String)> {
    let (_, host, port) = parts(url).ok_or(io::ErrorKind::InvalidInput)?;
    let name = host.trim_matches(['[', ']']).to_owned();
    Ok((TcpStream::connect(format!("{host}:{port}")).await?, name))
}

/// The cheapest question that a registry has an answer to. Any answer will do, also that there is no such path; but of a proxy
/// in front of several it is that registry's only if it is asked by its name.
fn question(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
    format!(
        "GET /livez HTTP/1.1\r\nhost: {authority}\r\nuser-agent: roadstead-node-mirror\r\nconnection: close\r\n\r\n"
    )
}

async fn begin_of_answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, url: &str) -> io::Result<()> {
    stream.write_all(question(url).as_bytes()).await?;
    stream.flush().await?;
    stream.read_u8().await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::settings::{Capability, Mirror};

    fn host(mirrors: &[&str], fallback: &str) -> Host {
        let mirror = |endpoint: &&str| Mirror {
            endpoint: (*endpoint).to_owned(),
            capabilities: vec![Capability::Pull],
            authority: None,
        };
        let mirrors = mirrors.iter().map(mirror).collect();
        Host { name: "a".to_owned(), fallback: Some(fallback.to_owned()), mirrors }
    }

    fn all(host: &Host) -> Vec<Reached<'_>> {
        let numbered = host.mirrors.iter().enumerate();
        numbered.map(|(number, mirror)| Reached { number, address: mirror.endpoint.clone(), mirror }).collect()
    }

    fn kept(answers: &Answers, host: &Host) -> Vec<String> {
        answers.without_gone(host, all(host)).into_iter().map(|mirror| mirror.address).collect()
    }

    const NEAR: &str = "http://10.0.0.1:5000";
    const NEXT: &str = "http://10.0.0.2:5000";
    const HOME: &str = "http://10.0.0.3:5000";

    #[test]
    fn a_mirror_that_says_nothing_twice_is_gone_until_it_answers() {
        let host = host(&[NEAR, NEXT], HOME);
        let mut answers = Answers::default();
        let mut look = |near: Answer| {
            answers.note(NEAR, near);
            answers.note(NEXT, Answer::There);
            kept(&answers, &host)
        };
        assert_eq!(look(Answer::There), [NEAR, NEXT]);
        assert_eq!(look(Answer::Nothing), [NEAR, NEXT]);
        assert_eq!(look(Answer::Nothing), [NEXT]);
        assert_eq!(look(Answer::Nothing), [NEXT]);
        assert_eq!(look(Answer::There), [NEAR, NEXT]);
        // A runtime that is told no goes on at once.
        for _ in 0..3 {
            assert_eq!(look(Answer::Refused), [NEAR, NEXT]);
        }
    }

    #[test]
    fn the_only_mirror_is_left_out_if_what_is_behind_it_is_there() {
        let host = host(&[NEAR], HOME);
        let mut answers = Answers::default();
        answers.note(NEAR, Answer::There);
        for _ in 0..2 {
            answers.note(NEAR, Answer::Nothing);
            answers.note(HOME, Answer::Nothing);
        }
        assert_eq!(kept(&answers, &host), [NEAR], "it may be this pod that reaches nobody");
        answers.note(HOME, Answer::There);
        assert!(kept(&answers, &host).is_empty());
    }

    #[test]
    fn a_mirror_that_this_pod_has_never_reached_is_the_nodes_all_the_same() {
        let host = host(&[NEAR], HOME);
        let mut answers = Answers::default();
        for _ in 0..5 {
            answers.note(NEAR, Answer::Nothing);
            answers.note(HOME, Answer::There);
        }
        assert_eq!(kept(&answers, &host), [NEAR]);
    }

    #[tokio::test]
    async fn taking_a_connection_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{address}");
            assert_eq!(heard(connect(&url)).await, Answer::There);
            assert_eq!(heard(ask(&url, None)).await, Answer::Nothing);
        }
        drop(listener);
        assert_eq!(heard(ask(&format!("http://{address}"), None)).await, Answer::Refused);
    }

    #[tokio::test]
    async fn whatever_it_answers_it_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; question(&url).len()];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap();
            asked
        };
        let (asked, answer) = tokio::join!(answering, heard(ask(&url, None)));
        assert_eq!((String::from_utf8(asked).unwrap(), answer), (question(&url), Answer::There));
    }
}
