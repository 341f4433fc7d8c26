//! The wall clock and the source of randomness of the process: the only place that touches either.

use std::time::SystemTime;

use rand::TryRngCore as _;
use rand::rngs::OsRng;

/// What time it is.
#[expect(clippy::disallowed_methods, reason = "wall time enters the process here and nowhere else")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Bytes that nobody guesses.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], rand::rand_core::OsError> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}
