//! Bytes that no system has seen before, of a digest that is known before they are sent.
//!
//! ```text
//!   block 0            block 1            block n
//!   seed 0 noise ...   seed 1 noise ...   seed n noise (cut to length)
//! ```
//!
//! Every block is the same noise behind its own number, so that a payload of any length takes the memory of one block,
//! sending it costs no computation, and nothing in it compresses or is found a second time as a whole.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 256 * 1024;

/// Bytes at the beginning of a block that are its own.
const NUMBER: usize = 16;

/// Numbers that look random and are the same in every run (splitmix64).
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        // 53 bits are what the fraction of a double holds.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The content of one blob.
#[derive(Clone)]
pub(crate) struct Payload {
    seed: u64,
    length: u64,
    digest: String,
}

impl Payload {
    /// The payload of a seed. Takes the time to hash it.
    pub(crate) fn new(seed: u64, length: u64) -> Self {
        let mut payload = Self { seed, length, digest: String::new() };
        let mut hasher = Sha256::new();
        let mut block = Block::new();
        let mut offset = 0;
        while offset < length {
            let bytes = block.bytes(&payload, offset, length);
            hasher.update(bytes);
            offset += bytes.len() as u64;
        }
        payload.digest = format!("sha256:{}", hex::encode(hasher.finalize()));
        payload
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// `sha256:<hex>`.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// All of it, for payloads that fit in memory.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut block = Block::new();
        let mut all = Vec::new();
        while (all.len() as u64) < self.length {
            all.extend_from_slice(block.bytes(self, all.len() as u64, self.length));
        }
        all
    }
}

/// A window onto a payload.
pub(crate) struct Block(Box<[u8]>);

impl Block {
    pub(crate) fn new() -> Self {
        Self(noise().into())
    }

    /// The bytes of `payload` from `from` on, up to `to` or the end of the block.
    pub(crate) fn bytes(&mut self, payload: &Payload, from: u64, to: u64) -> &[u8] {
        let block = BLOCK as u64;
        let number = from / block;
        self.0[..8].copy_from_slice(&payload.seed.to_le_bytes());
        self.0[8..NUMBER].copy_from_slice(&number.to_le_bytes());
        // Both are below `BLOCK`.
        let within = usize::try_from(from % block).unwrap_or_default();
        let length = usize::try_from(to - from).unwrap_or(BLOCK).min(BLOCK - within);
        &self.0[within..within + length]
    }
}

fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut noise = Noise::new(0x0a11_0c8e);
        (0..BLOCK / 8).flat_map(|_| noise.next().to_le_bytes()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_its_digest_whichever_way_it_is_read() {
        let length = 2 * BLOCK as u64 + 1_000;
        let payload = Payload::new(7, length);
        let whole = payload.to_vec();
        assert_eq!(whole.len() as u64, length);
        assert_eq!(payload.digest(), format!("sha256:{}", hex::encode(Sha256::digest(&whole))));

        let mut pieces = Vec::new();
        let mut block = Block::new();
        // Steps that do not divide a block.
        for from in (0..length).step_by(100_003) {
            let to = (from + 100_003).min(length);
            let mut offset = from;
            while offset < to {
                let bytes = block.bytes(&payload, offset, to);
                pieces.extend_from_slice(bytes);
                offset += bytes.len() as u64;
            }
        }
        assert!(pieces == whole);
    }

    #[test]
    fn payloads_and_blocks_differ() {
        let one = Payload::new(1, 2 * BLOCK as u64).to_vec();
        let two = Payload::new(2, 2 * BLOCK as u64).to_vec();
        assert!(one[..BLOCK] != two[..BLOCK]);
        assert!(one[..BLOCK] != one[BLOCK..]);
    }
}
