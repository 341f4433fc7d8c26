use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tools;

/// Namespaces are named `rs-<process>-<what>`, so that those of a run that was killed are found by the next one.
const PREFIX: &str = "rs-";

/// Nodes with two networks of their own: one on which clients reach them, which never breaks, and one among themselves,
/// which can be cut.
///
/// ```text
///  hub (the test):  bridge `clients` 10.77.0.1     bridge `peers`
///                     |         |                    |       |
///  node 0:         10.77.0.10   |                 10.77.1.10 |
///  node 1:                  10.77.0.11                   10.77.1.11      ...
/// ```
///
/// Each is a network namespace, so nothing of this is seen outside.
pub(crate) struct Network {
    /// What its namespaces' names begin with.
    name: String,
    nodes: usize,
}

impl Network {
    /// Makes it. `None`, and the reason printed, where this machine does not let us.
    pub(crate) fn new(nodes: usize) -> Option<Self> {
        remove_leftovers();
        // Removes whatever was made when something fails.
        let network = Self { name: format!("{PREFIX}{}", std::process::id()), nodes };
        match network.make() {
            Ok(()) => Some(network),
            Err(reason) => {
                #[expect(clippy::print_stdout, reason = "whoever reads the result must know what was left out")]
                {
                    println!("SKIPPED, since no network namespaces can be made here (that takes root): {reason}");
                }
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let hub = self.hub();
        ip(&["netns", "add", &hub])?;
        in_namespace(&hub, "link set lo up")?;
        for bridge in ["clients", "peers"] {
            in_namespace(&hub, &format!("link add {bridge} type bridge"))?;
            in_namespace(&hub, &format!("link set {bridge} up"))?;
        }
        in_namespace(&hub, "addr add 10.77.0.1/24 dev clients")?;
        for node in 0..self.nodes {
            let name = self.namespace(node);
            ip(&["netns", "add", &name])?;
            in_namespace(&name, "link set lo up")?;
            for (bridge, address) in [("clients", Self::client_side(node)), ("peers", Self::peer_side(node))] {
                let port = format!("{bridge}{node}");
                in_namespace(&hub, &format!("link add {port} type veth peer name {bridge} netns {name}"))?;
                in_namespace(&hub, &format!("link set {port} master {bridge} up"))?;
                in_namespace(&name, &format!("addr add {address}/24 dev {bridge}"))?;
                in_namespace(&name, &format!("link set {bridge} up"))?;
            }
            // The kernel must be able to drop packets, too.
            self.iptables(node, &["-F", "INPUT"])?;
        }
        Ok(())
    }

    /// Where clients reach a node.
    pub(crate) fn client_side(node: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, host(node))
    }

    /// Where the other nodes reach it.
    pub(crate) fn peer_side(node: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 1, host(node))
    }

    /// The file of a node's namespace, to enter it by.
    pub(crate) fn namespace_file(&self, node: usize) -> PathBuf {
        file(&self.namespace(node))
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    fn iptables(&self, node: usize, arguments: &[&str]) -> Result<(), String> {
        let mut command = tools::command(&tools::find("nsenter"));
        command.arg(format!("--net={}", self.namespace_file(node).display())).arg(tools::find("iptables"));
        run(command.arg("-w").args(arguments)).map(drop)
    }

    /// Runs something on a thread of the hub: its sockets, and the processes that it starts, are there.
    pub(crate) fn on_hub(&self, run: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let entered = std::thread::Builder::new().name("hub".to_owned()).spawn_scoped(scope, || {
                let namespace = std::fs::File::open(file(&self.hub())).expect("the hub's namespace");
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network).expect("whoever makes a namespace may enter it");
                run();
            });
            if let Err(panicked) = entered.expect("a thread").join() {
                std::panic::resume_unwind(panicked);
            }
        });
    }

    /// Takes a node's cable to the others out, or puts it in again.
    pub(crate) fn plug(&self, node: usize, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        in_namespace(&self.hub(), &format!("link set peers{node} {state}")).expect("the hub has this port");
    }

    /// Lets nothing that `from` sends reach `to`, while the other way is open.
    pub(crate) fn drop_packets(&self, from: usize, to: usize) {
        let source = Self::peer_side(from).to_string();
        self.iptables(to, &["-A", "INPUT", "-s", &source, "-j", "DROP"]).expect("packets can be dropped");
    }

    /// Makes it whole again.
    pub(crate) fn heal(&self) {
        for node in 0..self.nodes {
            self.plug(node, true);
            self.iptables(node, &["-F", "INPUT"]).expect("packets can be let through");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(|owner| owner == std::process::id());
    }
}

fn host(node: usize) -> u8 {
    10 + u8::try_from(node).expect("a few nodes")
}

fn file(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

fn in_namespace(namespace: &str, arguments: &str) -> Result<(), String> {
    let arguments: Vec<&str> = ["-n", namespace].into_iter().chain(arguments.split(' ')).collect();
    ip(&arguments)
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(tools::command(&tools::find("ip")).args(arguments)).map(drop)
}

/// Removes what earlier runs have left, whose processes are no more.
fn remove_leftovers() {
    // One that has ended and that nobody has waited for yet is in state Z.
    remove(|owner| {
        let stat = std::fs::read_to_string(format!("/proc/{owner}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('Z'))
    });
}

/// Ends what runs in the namespaces of some test processes, and removes them.
fn remove(is_owner: impl Fn(u32) -> bool) {
    let Ok(namespaces) = std::fs::read_dir("/run/netns") else { return };
    for namespace in namespaces.flatten() {
        let name = namespace.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse().ok());
        if !owner.is_some_and(&is_owner) {
            continue;
        }
        let inside = run(tools::command(&tools::find("ip")).args(["netns", "pids", &name])).unwrap_or_default();
        for process in inside.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)) {
            // The thread of this test that has entered the hub is no leftover; one that has ended is none any more.
            if process != rustix::process::getpid() {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        if let Err(reason) = ip(&["netns", "del", &name]) {
            #[expect(clippy::print_stdout, reason = "somebody has to remove it by hand")]
            {
                println!("the network namespace {name} is left: {reason}");
            }
        }
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
