//! What openraft uses of the crate of this name, in its place.
//!
//! openraft counts the sizes of its batches in fifteen histograms of one resolution. The crate that it names for that
//! computes, at the first of them, tables for all sixteen resolutions that it knows: 26 MiB that stay in memory, of
//! which two KiB are used. That was more than half of an idle replica. Here a bucket is computed from the value, which
//! takes a few instructions and no table. `[patch]` in the workspace's manifest puts this crate in the other's place;
//! what openraft does not use without its feature `runtime-stats` is left out, so that turning the feature on fails to
//! compile instead of counting wrongly.

use std::fmt;
use std::marker::PhantomData;

/// Bits of a value that choose its bucket: the leading one, and two after it.
const WIDTH: u32 = 3;
/// Buckets of one power of two.
const GROUP: usize = 1 << (WIDTH - 1);
/// Buckets for every value of 64 bits.
const BUCKETS: usize = GROUP * (u64::BITS - WIDTH + 2) as usize;

/// Counts of values in buckets of which each is at most a quarter of its least value wide.
///
/// `T` is the mark of a period in the crate that this one stands for; there are no periods here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64]>,
    total: u64,
    period: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// A histogram without a value; it takes two KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, period: PhantomData }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts one value several times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += times;
            self.total += times;
        }
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The least value of the bucket that holds the value at `permille` of all values in order; 0 without a value.
    #[must_use]
    fn permille(&self, permille: u64) -> u64 {
        let rank = u128::from(self.total) * u128::from(permille) / 1_000;
        let mut seen = 0_u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen > rank {
                return least(bucket);
            }
        }
        0
    }

    /// The percentiles that openraft prints.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }
}

/// The bucket of a value: values below [`GROUP`] have one each, then every power of two has [`GROUP`].
fn bucket(value: u64) -> usize {
    let Some(exponent) = value.checked_ilog2().filter(|exponent| *exponent >= WIDTH - 1) else {
        return usize::try_from(value).unwrap_or(0);
    };
    let group = exponent - (WIDTH - 1);
    // The leading one of the shifted value is GROUP itself: it stands for the buckets of the values below GROUP.
    let leading = usize::try_from(value >> group).unwrap_or(0);
    group as usize * GROUP + leading
}

/// The least value that falls into a bucket.
fn least(bucket: usize) -> u64 {
    let Some(group) = (bucket / GROUP).checked_sub(1) else {
        return bucket as u64;
    };
    ((GROUP + bucket % GROUP) as u64) << group
}

/// How many values there were, and the value below which so many percent of them lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// Values counted.
    pub samples: u64,
    /// 0.1 percent.
    pub p0_1: u64,
    /// 1 percent.
    pub p1: u64,
    /// 5 percent.
    pub p5: u64,
    /// 10 percent.
    pub p10: u64,
    /// 50 percent, the median.
    pub p50: u64,
    /// 90 percent.
    pub p90: u64,
    /// 99 percent.
    pub p99: u64,
    /// 99.9 percent.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(f, "{samples} values, ")?;
        write!(f, "0.1%: {p0_1}, 1%: {p1}, 5%: {p5}, 10%: {p10}, 50%: {p50}, 90%: {p90}, 99%: {p99}, 99.9%: {p99_9}")
    }
}

/// Histograms by name. openraft draws them with its feature `runtime-stats` alone; they are only collected here.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> AsciiChart<T> {
    /// A chart of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { series: Vec::new() }
    }

    /// Adds a histogram under its name.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_between_the_least_of_its_bucket_and_that_of_the_next() {
        let around = (0..u64::BITS).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1, power + power / 4, power + power / 2, power + (power - 1)]
        });
        for value in around.chain(0..5_000).chain([u64::MAX]) {
            let at = bucket(value);
            assert!(at < BUCKETS, "{value} is in bucket {at}");
            assert!(least(at) <= value, "{value} is below bucket {at}");
            assert!(at + 1 == BUCKETS || value < least(at + 1), "{value} is above bucket {at}");
        }
    }

    #[test]
    fn a_bucket_is_at_most_a_quarter_of_its_least_value_wide() {
        for at in GROUP..BUCKETS - 1 {
            assert!((least(at + 1) - least(at)) * 4 <= least(at), "bucket {at}");
        }
    }

    #[test]
    fn percentiles_are_the_least_of_their_bucket() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0, "nothing was counted");
        for value in 0..1_000 {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        assert_eq!((histogram.total(), stats.samples), (1_000, 1_000));
        assert_eq!((stats.p0_1, stats.p10, stats.p50, stats.p99), (1, 96, 448, 896));
    }
}
