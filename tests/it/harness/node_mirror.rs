use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Value, json};

use super::roadstead::built;
use super::{Daemon, Workbench, tools, until};

/// What it writes is there at once; a mirror that does not answer is left out after two looks, which are 10 s apart.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program that tells the container runtime of a node where to pull from, until it is dropped.
pub(crate) struct NodeMirror {
    daemon: Daemon,
    /// Where its settings and its log are.
    _bench: Workbench,
}

impl NodeMirror {
    /// Lets images of `host` be pulled by way of these endpoints, the first one first, all vouched for by `authority` if
    /// they have certificates. `folder` is that of `flag`: where a runtime looks.
    pub(crate) fn start(host: &str, endpoints: &[&str], authority: Option<&[u8]>, flag: &str, folder: &Path) -> Self {
        let bench = Workbench::new();
        let authority = authority.map(|pem| bench.write("ca.crt", pem));
        let mirrors: Vec<Value> = endpoints
            .iter()
            .map(|endpoint| {
                let mut mirror = json!({"endpoint": endpoint, "capabilities": ["pull", "resolve"]});
                if let Some(file) = &authority {
                    mirror["authority"] = json!(file);
                }
                mirror
            })
            .collect();
        let fallback = endpoints.last().expect("a mirror");
        let settings = json!({"hosts": [{"host": host, "fallback": fallback, "mirrors": mirrors}]});
        let settings = bench.write("settings.json", settings.to_string());
        let mut command = tools::command(&built("roadstead-node-mirror"));
        command.arg("--settings").arg(settings).arg(flag).arg(folder);
        Self { daemon: Daemon::start("roadstead-node-mirror", command, bench.path()), _bench: bench }
    }

    /// Waits until a file that a runtime reads names these, and not those.
    pub(crate) async fn until_told(&mut self, file: &Path, named: &[&str], not_named: &[&str]) {
        until("the runtime is told", PATIENCE, async || {
            self.daemon.must_run();
            let text = std::fs::read_to_string(file).ok()?;
            let is_so =
                named.iter().all(|name| text.contains(name)) && !not_named.iter().any(|name| text.contains(name));
            is_so.then_some(())
        })
        .await;
    }

    /// Waits until it has had an answer of an endpoint.
    pub(crate) async fn until_heard(&self, endpoint: &str) {
        let told = format!("{endpoint} answers");
        until("the endpoint has answered", PATIENCE, async || self.daemon.log().contains(&told).then_some(())).await;
    }

    /// Tells it to end, so that it puts back what it found.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        self.daemon.terminate(PATIENCE).await
    }
}
