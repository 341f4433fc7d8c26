//! A node's containerd is told of the nearest endpoint first, and goes on to the next one when that is gone (claim 17).
//!
//! The bound of a request is that of the number of times that the endpoint that is gone is tried, which is one, and of what
//! containerd waits each time: nothing for a refusal, the `dial_timeout` that it is told, 10 s for a TLS handshake.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::containerd::Containerd;
use crate::geo::{mirror_of, until_tag};
use crate::harness::{Certificates, Layout, NodeMirror, Roadstead, Setup, Workbench};

/// What images are called by; nobody resolves it.
pub(super) const HOST: &str = "near.example.test";
pub(super) const REPOSITORY: &str = "team/busybox";
pub(super) const TAG: &str = "1";
pub(super) const IMAGE: &str = "near.example.test/team/busybox:1";

/// A home and its mirror over TLS, which both have the image.
pub(super) struct Regions {
    pub(super) home: Roadstead,
    pub(super) mirror: Roadstead,
    pub(super) certificates: Certificates,
    image: &'static Layout,
    /// Where the certificates are.
    _bench: Workbench,
}

impl Regions {
    pub(super) async fn start() -> Self {
        let (bench, certificates) = (Workbench::new(), Certificates::new());
        let image = Layout::busybox().await;
        let home = certificates.installed_in(&bench, Setup::filesystem()).start().await;
        let authority = bench.write("ca.pem", certificates.authority());
        let mirror = certificates.installed_in(&bench, Setup::filesystem()).flag("--upstream-ca-file", &authority);
        let mirror = mirror_of(&home, home.base(), mirror).await.start().await;
        push(image, &home).await;
        until_tag(&mirror.client(), REPOSITORY, TAG, &image.blob(&image.digest())).await;
        image.assert_served(&mirror.client(), REPOSITORY, TAG).await;
        Self { home, mirror, certificates, image, _bench: bench }
    }

    /// Tells a containerd of the mirror, then of home.
    async fn tell(&self, containerd: &Containerd) -> NodeMirror {
        let endpoints = [self.mirror.base(), self.home.base()];
        let authority = Some(self.certificates.authority());
        let mut nodes = NodeMirror::start(HOST, &endpoints, authority, "--hosts-dir", &containerd.hosts_dir());
        nodes.until_told(&told(containerd), &endpoints, &[]).await;
        nodes
    }
}

/// Pushes an image as [`REPOSITORY`]:[`TAG`].
pub(super) async fn push(image: &Layout, registry: &Roadstead) {
    let bench = Workbench::new();
    let skopeo = bench.tool("skopeo").args("--insecure-policy copy --preserve-digests --dest-tls-verify=false");
    let remote = format!("docker://{}/{REPOSITORY}:{TAG}", registry.host());
    skopeo.args(&format!("oci:{}:latest {remote}", image.path())).succeeds().await;
}

/// The file in which a containerd reads where images of [`HOST`] are.
pub(super) fn told(containerd: &Containerd) -> PathBuf {
    containerd.hosts_dir().join(HOST).join("hosts.toml")
}

/// What a containerd has asked of two endpoints since this was made.
struct Asked<'a> {
    containerd: &'a Containerd,
    bases: [&'a str; 2],
    before: [usize; 2],
}

impl<'a> Asked<'a> {
    fn from_now(containerd: &'a Containerd, bases: [&'a str; 2]) -> Self {
        Self { containerd, bases, before: bases.map(|base| containerd.requests_to(base).len()) }
    }

    fn since(&self) -> [Vec<String>; 2] {
        [0, 1].map(|which| self.containerd.requests_to(self.bases[which]).split_off(self.before[which]))
    }

    /// Fails unless the first has nothing to do with it.
    #[track_caller]
    fn assert_second_alone(&self) {
        let [first, second] = self.since();
        assert!(first.is_empty() && !second.is_empty(), "{first:?} of {second:?}");
    }

    /// Fails unless what was asked of the first, in vain, was asked of it once, and then of the second.
    #[track_caller]
    fn assert_first_tried_once_a_request(&self) {
        let [mut first, second] = self.since();
        assert!(!first.is_empty(), "it was there to be tried");
        assert!(first.iter().all(|request| second.contains(request)), "{first:?} was asked, and then {second:?}");
        let attempts = first.len();
        first.sort();
        first.dedup();
        assert_eq!(first.len(), attempts, "none is tried there again: {first:?}");
    }
}

#[tokio::test]
async fn claim_17_a_mirror_that_is_killed_costs_containerd_one_refusal_a_request() {
    let mut regions = Regions::start().await;
    let containerd = Containerd::start().await;
    let nodes = regions.tell(&containerd).await;
    let bases = [regions.mirror.base().to_owned(), regions.home.base().to_owned()];
    let (mirror, home) = (bases[0].as_str(), bases[1].as_str());
    let asked = Asked::from_now(&containerd, [home, mirror]);
    containerd.pull("", IMAGE, regions.image).await;
    asked.assert_second_alone();

    regions.mirror.kill();
    let asked = Asked::from_now(&containerd, [mirror, home]);
    containerd.pull("", IMAGE, regions.image).await;
    asked.assert_first_tried_once_a_request();

    regions.mirror.restart().await;
    let asked = Asked::from_now(&containerd, [home, mirror]);
    containerd.pull("", IMAGE, regions.image).await;
    asked.assert_second_alone();
    assert!(nodes.terminate().await.success());
    assert!(!told(&containerd).exists(), "what was found comes back, which is nothing");
}

/// Stopped, it takes connections and never answers. containerd gives a TLS handshake up after 10 s; soon it is not even told
/// of this mirror.
#[tokio::test]
async fn claim_17_a_mirror_that_hangs_counts_as_gone() {
    let regions = Regions::start().await;
    let containerd = Containerd::start().await;
    let mut nodes = regions.tell(&containerd).await;
    let (mirror, home) = (regions.mirror.base(), regions.home.base());
    nodes.until_heard(mirror).await;
    regions.mirror.freeze();
    let asked = Asked::from_now(&containerd, [mirror, home]);
    containerd.pull("", IMAGE, regions.image).await;
    asked.assert_first_tried_once_a_request();

    nodes.until_told(&told(&containerd), &[home], &[mirror]).await;
    let asked = Asked::from_now(&containerd, [mirror, home]);
    containerd.pull("", IMAGE, regions.image).await;
    asked.assert_second_alone();

    regions.mirror.signal(Signal::CONT);
    nodes.until_told(&told(&containerd), &[mirror, home], &[]).await;
    let asked = Asked::from_now(&containerd, [home, mirror]);
    containerd.pull("", IMAGE, regions.image).await;
    asked.assert_second_alone();
}

/// An address from which nothing comes back, not even that nobody is there: as one whose machine is gone.
struct Silence {
    listener: TcpListener,
    /// All that it would take.
    _waiting: Vec<TcpStream>,
}

impl Silence {
    async fn begin() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("a listener has an address");
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            waiting.push(connected.expect("loopback refuses nobody who is listened for"));
            assert!(waiting.len() < 100, "it takes whoever comes");
        }
        Self { listener, _waiting: waiting }
    }

    fn base(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("a listener has an address"))
    }
}

#[tokio::test]
async fn claim_17_a_mirror_whose_machine_is_gone_costs_containerd_one_dial_timeout_a_request() {
    let image = Layout::busybox().await;
    let home = Setup::filesystem().start().await;
    push(image, &home).await;
    let gone = Silence::begin().await;
    let containerd = Containerd::start().await;
    let mirror = gone.base();
    let endpoints = [mirror.as_str(), home.base()];
    let mut nodes = NodeMirror::start(HOST, &endpoints, None, "--hosts-dir", &containerd.hosts_dir());
    nodes.until_told(&told(&containerd), &[&mirror, home.base(), "dial_timeout = \"2s\""], &[]).await;
    let asked = Asked::from_now(&containerd, endpoints);
    containerd.pull("", IMAGE, image).await;
    asked.assert_first_tried_once_a_request();
    let refused = format!("dial tcp {}: i/o timeout", mirror.trim_start_matches("http://"));
    assert!(containerd.log().contains(&refused), "it is the dial that containerd has given up");
}
