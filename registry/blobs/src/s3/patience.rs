//! How long a request may take. Without a bound a server that hangs would hang pushes and pulls with it.
//!
//! A read's clock stops when its answer begins; see `READ_STALL` for the rest of it.

use std::time::Duration;

use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;

/// How long a connection may take to be made. A lost SYN is sent again after one second and after three: a server
/// that has not answered the second of them is not there.
const CONNECT: Duration = Duration::from_millis(3_100);

/// Attempts of one request, of which the standard mode makes the later ones after up to 1 s and 2 s: that outlasts a
/// restarting front end. Longer outages are better told to the client than hidden from it.
const ATTEMPTS: u32 = 3;

/// One attempt and all attempts of what moves no bytes. The slowest is a cold listing, of seconds; two attempts that
/// hang and a third are done before a client's proxy gives up, commonly after 60 s.
const QUICK: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(40));

/// The same for what writes or removes bytes. A part of 8 MiB in one attempt is 140 KB/s, below which no bucket serves
/// a registry; and `MinIO` lets a deletion wait up to 30 s for the readers of its objects.
const SLOW: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(2));

/// The same for completing, which some servers do by copying the parts together: at 100 MB/s one attempt is enough
/// for 30 GB. A completion that is cut off is asked for again, by the protocol above this store.
const COMPLETE: (Duration, Duration) = (Duration::from_mins(5), Duration::from_mins(10));

/// For every client: what a request has if it asks for nothing else.
pub(super) fn quick() -> TimeoutConfig {
    timeouts(QUICK)
}

/// For a request that writes or removes bytes.
pub(super) fn slow() -> Builder {
    Builder::new().timeout_config(timeouts(SLOW))
}

/// For a completion.
pub(super) fn complete() -> Builder {
    Builder::new().timeout_config(timeouts(COMPLETE))
}

/// For every client.
pub(super) fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

fn timeouts((attempt, operation): (Duration, Duration)) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}
