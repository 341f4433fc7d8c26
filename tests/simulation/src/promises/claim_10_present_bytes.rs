//! Claim 10: what is at a mirror is not sent there once more, also for another repository.

use crate::regions::Regions;

/// How often a blob may come: whole, and what was in flight when something broke. So many times it can break.
const MOST: u64 = 40;

pub(super) fn check(regions: &Regions) -> Result<(), String> {
    for upstream in regions.mirrors.iter().filter_map(|mirror| mirror.upstream.as_ref()) {
        for (digest, bytes) in upstream.brought.lock().iter() {
            let universe = &regions.home.universe;
            let has_digest = |blob: &usize| universe.digest(*blob) == *digest || universe.sha512(*blob) == *digest;
            let blob = (0..universe.blobs.len()).find(has_digest).ok_or("P1: a blob came that nobody pushed")?;
            let size = universe.blobs[blob].len() as u64;
            if *bytes > size * MOST {
                return Err(format!("claim 10: {bytes} bytes of {digest} came to {}, of {size}", upstream.name));
            }
        }
    }
    Ok(())
}
