use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::repository_root;

/// Names of namespaces and cgroups begin with this, so that they are told from everybody else's.
const PREFIX: &str = "rsc-";

/// Fits the names of namespaces, and the paths of sockets into the kernel's 107 bytes.
const LONGEST_NAME: usize = 20;

/// What the name of the second one of two clusters that are joined ends with.
const SECOND: &str = "-r2";

/// Where a cluster is: its names, folder and addresses. Clusters of different names have nothing in common, unless they are
/// [joined](crate::Cluster::join).
#[derive(Clone, Debug)]
pub struct Site {
    name: String,
    folder: PathBuf,
    /// 0, or 1 for the second one of two: so they have no address in common.
    range: u8,
}

impl Site {
    /// The site of this name, which may hold small letters, digits and dashes.
    pub fn new(name: &str) -> Result<Self> {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let fits = !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(plain);
        ensure!(fits, "a cluster's name must be of at most {LONGEST_NAME} letters a-z, digits and dashes");
        let range = u8::from(name.ends_with(SECOND));
        Ok(Self { name: name.to_owned(), folder: std::env::temp_dir().join(format!("{PREFIX}{name}")), range })
    }

    /// That of a second cluster, which can be joined to the one at this site.
    pub fn second(&self) -> Result<Self> {
        Self::new(&format!("{}{SECOND}", self.name))
    }

    /// The name that is this work tree's own, so that those of two work trees do not meet.
    pub fn default_name(purpose: &str) -> String {
        let mut hasher = DefaultHasher::new();
        repository_root().hash(&mut hasher);
        format!("{:06x}{purpose}", hasher.finish() & 0x00ff_ffff)
    }

    /// What was given to [`Self::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything that the cluster writes is below it. It exists while the cluster does.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file below the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A node's own folder.
    pub(crate) fn node_folder(&self, node: u8) -> PathBuf {
        self.file(&Self::node_name(node))
    }

    /// The network namespace of the control plane and of whoever tests.
    pub(crate) fn hub(&self) -> String {
        format!("{PREFIX}{}-hub", self.name)
    }

    /// The network namespace of a node, and the name of its cgroup.
    pub(crate) fn node(&self, node: u8) -> String {
        format!("{PREFIX}{}-n{node}", self.name)
    }

    /// Whether this namespace or cgroup is this cluster's.
    pub(crate) fn owns(&self, name: &str) -> bool {
        let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(&self.name));
        let which = rest.and_then(|rest| rest.strip_prefix('-'));
        which.is_some_and(|which| which == "hub" || which.strip_prefix('n').is_some_and(|n| n.parse::<u8>().is_ok()))
    }

    /// The file of a network namespace, to enter it by.
    pub(crate) fn namespace_file(namespace: &str) -> PathBuf {
        Path::new("/run/netns").join(namespace)
    }

    /// What Kubernetes calls a node.
    pub fn node_name(node: u8) -> String {
        format!("node-{node}")
    }

    /// The control plane's address, which pods and nodes reach.
    pub fn hub_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30 + self.range, 0, 1)
    }

    /// A node's address.
    pub fn node_address(&self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 30 + self.range, 0, 10 + node)
    }

    /// The addresses of the hub and of all nodes.
    pub(crate) fn hosts(&self) -> String {
        format!("172.{}.0.0/24", 30 + self.range)
    }

    /// The hub's address on the link to another cluster.
    pub(crate) fn link_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 29, 0, 1 + self.range)
    }

    /// The addresses of a node's pods.
    pub(crate) fn pods_of(&self, node: u8) -> String {
        format!("10.{}.{node}.0/24", 244 + self.range)
    }

    /// The addresses of all pods.
    pub(crate) fn pods(&self) -> String {
        format!("10.{}.0.0/16", 244 + self.range)
    }

    /// The addresses of Services.
    pub(crate) fn services(&self) -> String {
        format!("10.{}.0.0/16", 96 + self.range)
    }

    /// The address of the API server's own Service.
    pub(crate) fn api_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.range, 0, 1)
    }

    /// The address of the cluster's DNS.
    pub(crate) fn dns_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.range, 0, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::Site;

    #[test]
    fn a_site_owns_what_has_its_whole_name() {
        let site = Site::new("ab").unwrap();
        assert!(site.owns(&site.hub()) && site.owns(&site.node(2)));
        for other in ["rsc-ab2-hub", "rsc-ab-n", "rsc-ab-c-hub", "rsc-a-n1", "ab-hub", "rsc-ab"] {
            assert!(!site.owns(other), "{other}");
        }
    }

    #[test]
    fn two_that_are_joined_have_no_address_in_common() {
        let (first, second) = (Site::new("ab").unwrap(), Site::new("ab").unwrap().second().unwrap());
        assert!(!first.owns(&second.hub()) && !second.owns(&first.hub()));
        let all = |site: &Site| [site.hosts(), site.pods(), site.services(), site.link_address().to_string()];
        assert!(all(&first).iter().zip(all(&second)).all(|(first, second)| *first != second));
    }

    #[test]
    fn names_that_fit_no_namespace_are_refused() {
        for name in ["", "A", "a/b", "a b", "abcdefghijklmnopqrstu"] {
            assert!(Site::new(name).is_err(), "{name}");
        }
    }
}
