//! What `make dev` shows: three replicas behind one port, and a mirror of them.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Client, Daemon, Image, roadstead, until};

const PATIENCE: Duration = Duration::from_mins(1);

/// Ports above the front's that the replicas and the mirror take.
const TAKEN: [u16; 7] = [1, 2, 3, MIRROR, 11, 12, 13];

const MIRROR: u16 = 4;

#[tokio::test]
async fn three_replicas_behind_one_port_survive_the_death_of_any_one() {
    let folder = tempfile::Builder::new().prefix("rs-dev-").tempdir().expect("a temporary folder");
    let front = front();
    let mut command = roadstead();
    command.arg("dev").args(["--listen", &front, "--data"]).arg(folder.path().join("data"));
    let mut region = Daemon::start("dev", command, folder.path());
    until("the region is ready", PATIENCE, async || {
        region.must_run();
        region.stdout().contains("roadstead is ready on http://").then_some(())
    })
    .await;
    let base = format!("http://{front}");
    let image = Image::random(1, &[1_000, 200_000]);
    Client::with_authorities(&base, &[]).push_image("team/app", "v0", &image).await;
    let mirror = Client::with_authorities(&mirror_of(&front), &[]);
    assert!(region.stdout().contains(&format!("on {}: a mirror of them", mirror_of(&front))), "{}", region.stdout());
    until("the mirror has it", PATIENCE, async || {
        (mirror.manifest("team/app", "v0").await.status == 200).then_some(())
    })
    .await;
    mirror.pull_image("team/app", "v0", &image).await;
    for number in 1..=3 {
        let printed = region.stdout();
        let line = format!("replica {number}: process ");
        let pid = printed.lines().find_map(|shown| shown.strip_prefix(&line)?.split(',').next()?.parse().ok());
        kill_process(pid.and_then(Pid::from_raw).expect("its process is named"), Signal::KILL).expect("it runs");
        let ended = format!("replica {number} has ended (signal: 9");
        until("its end is told", PATIENCE, async || region.stdout().contains(&ended).then_some(())).await;
        // A new client, since the connections of the old one may have been to the one that is gone.
        let client = Client::with_authorities(&base, &[]);
        until("a leader is there again", PATIENCE, async || {
            let seen = client.manifest("team/app", "v0").await;
            (seen.status == 200 && seen.header("registry-stale").is_none()).then_some(())
        })
        .await;
        client.push_image("team/app", &format!("v{number}"), &image).await;
        client.pull_image("team/app", &format!("v{}", number - 1), &image).await;
        let back = format!("replica {number} is back");
        until("it is started again", PATIENCE, async || region.stdout().contains(&back).then_some(())).await;
    }
    assert!(region.terminate(PATIENCE).await.success());
}

/// Where the mirror of what is at `front` is.
fn mirror_of(front: &str) -> String {
    let (host, port) = front.rsplit_once(':').expect("a port");
    format!("http://{host}:{}", port.parse::<u16>().expect("a port") + MIRROR)
}

/// An address whose port and those that follow from it are free now.
fn front() -> String {
    let free = |port: &u16| TAKEN.iter().all(|more| TcpListener::bind(("127.0.0.1", port + more)).is_ok());
    // Below the ports that the system gives to connections.
    let candidates = (21_000..32_000).step_by(20).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let port = candidates.skip(usize::try_from(std::process::id() % 100).unwrap()).find(free).expect("a free port");
    format!("127.0.0.1:{port}")
}
