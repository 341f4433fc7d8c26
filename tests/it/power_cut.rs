//! The power is cut at random moments during mixed pushes, against a ledger of what was acknowledged (P2, P4).
//!
//! ```text
//! round: pushers write down what was acknowledged --> SIGSTOP --> copy the image below the mounted file system
//!        --> kill -9, mount the copy: its journal is replayed --> restart --> compare
//! ```
//!
//! What a process wrote and did not sync, the image does not have. `ROADSTEAD_POWER_CUTS` says how many,
//! `ROADSTEAD_POWER_CUT_SEED` which.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::crash::{check, check_at_the_end, let_them_push, push};
use crate::harness::{Mount, Setup, alone};

/// In each run of the tests.
const CUTS: u64 = 5;

/// Of the image: two seconds of pushes a cut, at 60 MB/s.
const SIZE: u64 = 768 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_what_was_acknowledged_survives_a_power_cut() {
    let _alone = alone().await;
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let cuts = number("ROADSTEAD_POWER_CUTS").unwrap_or(CUTS);
    let seed = number("ROADSTEAD_POWER_CUT_SEED").unwrap_or_else(|| StdRng::from_os_rng().random_range(0..1 << 32));
    #[expect(clippy::print_stdout, reason = "it is what a failure is tried again with")]
    {
        println!("ROADSTEAD_POWER_CUT_SEED={seed} ROADSTEAD_POWER_CUTS={cuts}");
    }
    let Some(mount) = Mount::ext4(SIZE) else { return };
    let mut random = StdRng::seed_from_u64(seed);
    let mut registry =
        Setup::filesystem().data_on(&mount).flag("--part-size", "5MiB").flag("--disk-reserve", "32MiB").start().await;
    let mut ledgers = Vec::new();
    for cut in 0..cuts {
        let mut pushers = push(&registry, &mut random, cut);
        let moment = Duration::from_millis(random.random_range(5..1500));
        let_them_push(&mut pushers, moment, &registry).await;
        registry.freeze();
        mount.copy_image();
        registry.kill();
        let ended = pushers.join_all().await;
        mount.lose_power();
        registry.restart().await;
        for ledger in &ended {
            check(&registry.client(), ledger).await;
        }
        ledgers.extend(ended);
    }
    check_at_the_end(&registry.client(), &ledgers, cuts).await;
    registry.assert_unharmed();
}
