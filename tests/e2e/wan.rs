use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes that are carried as one packet.
const PACKET: usize = 16 << 10;

/// Packets of one connection and direction that may be on their way: a window of 4 MiB.
const WINDOW: usize = 256;

/// The only way from one cluster to the other: a port of one's hub, behind which a port of the other is, some way off.
/// What is slow about links is measured elsewhere (`tests/wan`); this one only has a length.
pub(crate) struct Wan {
    /// Ends all connections when it is dropped.
    _tasks: JoinSet<()>,
}

impl Wan {
    /// Carries what comes to `port` to `target`; `delay` is half a round trip.
    pub(crate) async fn open(port: SocketAddr, target: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind(port).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(carry(client, target, delay));
            }
        });
        Ok(Self { _tasks: tasks })
    }
}

async fn carry(client: TcpStream, target: SocketAddr, delay: Duration) {
    // The handshake of a connection is a round trip.
    sleep_until(Instant::now() + delay * 2).await;
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    tokio::join!(one_way(from_client, to_server, delay), one_way(from_server, to_client, delay));
}

/// Packets in order, each as late as the way is long.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (line, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
    let sending = async move {
        let mut packet = vec![0; PACKET];
        while let Ok(length @ 1..) = from.read(&mut packet).await {
            if line.send((Instant::now() + delay, packet[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let receiving = async move {
        while let Some((arrives, packet)) = arriving.recv().await {
            sleep_until(arrives).await;
            if to.write_all(&packet).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(sending, receiving);
}
