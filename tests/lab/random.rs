//! Random numbers that can be had again.

use std::time::Duration;

/// SplitMix64: what is taken must be repeatable, and no more.
pub struct Random(pub u64);

impl Random {
    /// From SOAK_SEED, or from the clock.
    pub fn seeded() -> Self {
        let clock = || u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
        Self(std::env::var("SOAK_SEED").map_or_else(|_| clock(), |text| text.parse().expect("SOAK_SEED is a number")))
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Some part of it.
    pub fn part_of(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(self.below(10_000) as f64 / 10_000.0)
    }
}
