use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// On loopback one that is there accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// One address for several replicas, as a load balancer of connections gives it: each connection goes to the next replica
/// that takes it, and stays there until one of the two ends it.
pub(crate) struct Balancer {
    address: SocketAddr,
    /// Ends all connections when it is dropped.
    _tasks: JoinSet<()>,
}

impl Balancer {
    /// In front of replicas at these addresses.
    pub(crate) async fn over(replicas: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a listener has an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, replicas.into()));
        Self { address, _tasks: tasks }
    }

    /// Where it takes connections.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, replicas: Arc<[SocketAddr]>) {
    let next = AtomicUsize::default();
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(carry(client, Arc::clone(&replicas), next.fetch_add(1, Ordering::Relaxed)));
    }
}

async fn carry(mut client: TcpStream, replicas: Arc<[SocketAddr]>, first: usize) {
    for turn in 0..replicas.len() {
        let replica = replicas[(first + turn) % replicas.len()];
        if let Ok(Ok(mut replica)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(replica)).await {
            // Small messages must not wait for one another here.
            let _ = (client.set_nodelay(true), replica.set_nodelay(true));
            // A connection that breaks is the business of its two ends.
            let _ = copy_bidirectional(&mut client, &mut replica).await;
            return;
        }
    }
}
