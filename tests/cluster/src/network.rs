use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::Tool;
use crate::site::Site;

/// Makes the namespaces of the hub and of the nodes, joined by a bridge, with routes to the pods of each node.
pub(crate) async fn make(site: &Site, nodes: u8) -> Result<()> {
    let hub = site.hub();
    ip(&format!("netns add {hub}")).await.context("network namespaces take root")?;
    ip(&format!("-n {hub} link set lo up")).await?;
    ip(&format!("-n {hub} link add nodes type bridge")).await?;
    ip(&format!("-n {hub} link set nodes up")).await?;
    ip(&format!("-n {hub} addr add {}/24 dev nodes", site.hub_address())).await?;
    forward(&hub).await?;
    for node in 1..=nodes {
        let name = site.node(node);
        ip(&format!("netns add {name}")).await?;
        ip(&format!("-n {name} link set lo up")).await?;
        ip(&format!("-n {hub} link add node{node} type veth peer name eth0 netns {name}")).await?;
        ip(&format!("-n {hub} link set node{node} master nodes up")).await?;
        ip(&format!("-n {name} addr add {}/24 dev eth0", site.node_address(node))).await?;
        ip(&format!("-n {name} link set eth0 up")).await?;
        // The hub leads nowhere. But without any route, a node would not even try a Service's address.
        ip(&format!("-n {name} route add default via {}", site.hub_address())).await?;
        forward(&name).await?;
        for other in (1..=nodes).filter(|other| *other != node) {
            ip(&format!("-n {name} {}", route_to_pods(site, other))).await?;
        }
        ip(&format!("-n {hub} {}", route_to_pods(site, node))).await?;
    }
    // The hub runs no kube-proxy; the first node's takes what it sends to Services.
    ip(&format!("-n {hub} route add {} via {}", site.services(), site.node_address(1))).await
}

/// Joins the hubs of two clusters by a cable, by which the first one's hub reaches the hosts of the second. Nobody else of
/// either reaches the other, since no way back leads to them.
pub(crate) async fn join(first: &Site, second: &Site) -> Result<()> {
    let (near, far) = (first.hub(), second.hub());
    // The kernel takes away some time later what was in a namespace that is gone: the far end of an earlier cable.
    Tool::new("ip")?.args(&format!("-n {near} link del wan")).outcome().await?;
    ip(&format!("-n {near} link add wan type veth peer name wan netns {far}")).await?;
    for (hub, own) in [(&near, first), (&far, second)] {
        ip(&format!("-n {hub} addr add {}/24 dev wan", own.link_address())).await?;
        ip(&format!("-n {hub} link set wan up")).await?;
    }
    ip(&format!("-n {near} route add {} via {}", second.hosts(), second.link_address())).await
}

fn route_to_pods(site: &Site, node: u8) -> String {
    format!("route add {} via {}", site.pods_of(node), site.node_address(node))
}

async fn forward(namespace: &str) -> Result<()> {
    let write = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    Tool::in_network(namespace, "sh")?.arg("-c").arg(write).output().await.map(drop)
}

async fn ip(arguments: &str) -> Result<()> {
    Tool::new("ip")?.args(arguments).output().await.map(drop)
}

/// Moves the calling thread, and what it starts from now on, into the hub's network.
pub(crate) fn enter(site: &Site) -> Result<()> {
    let file = Site::namespace_file(&site.hub());
    let namespace = std::fs::File::open(&file).with_context(|| format!("there is no {}", file.display()))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Whether the calling thread is in the hub's network.
pub(crate) fn is_entered(site: &Site) -> bool {
    let of = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    };
    let own = of(Path::new("/proc/thread-self/ns/net"));
    own.is_some() && own == of(&Site::namespace_file(&site.hub()))
}

/// The namespaces of a site that are there.
pub(crate) fn namespaces(site: &Site) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| site.owns(name)).collect()
}

/// Kills what runs in a namespace, but the caller, who may have entered it.
pub(crate) async fn kill_inside(namespace: &str) -> Result<()> {
    let inside = Tool::new("ip")?.args(&format!("netns pids {namespace}")).output().await?;
    inside.lines().filter_map(|line| line.trim().parse().ok()).for_each(kill);
    Ok(())
}

/// Kills a process, which may have ended already.
pub(crate) fn kill(process: i32) {
    let process = Pid::from_raw(process).filter(|process| *process != rustix::process::getpid());
    if let Some(process) = process {
        let _ = kill_process(process, Signal::KILL);
    }
}

/// Removes a namespace, and with it the links that are in it.
pub(crate) async fn remove(namespace: &str) -> Result<()> {
    ip(&format!("netns del {namespace}")).await
}
