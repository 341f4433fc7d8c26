use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the kernel gives to whoever asks for any (from 32,768 on), so that none of these is taken while
/// the server that it is for is not up: before its first start, or between two. Those from 21,000 on are `dev`'s.
const FIRST: u16 = 10_000;
const COUNT: u16 = 11_000;

/// Ports that this process has given out or passed over.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that is free and that no other test of this process gets.
pub(crate) fn free_port() -> u16 {
    // Another process that tests begins elsewhere.
    let begin = u16::try_from(std::process::id() % 100).unwrap_or_default() * (COUNT / 100);
    for _ in 0..COUNT {
        let port = FIRST + (begin + TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of the ports from {FIRST} on is free");
}
