//! How much of a long test is to be done, and how far it is.

use std::time::{Duration, Instant};

use crate::lab::Image;

/// A count, or the part of it that SOAK_SCALE asks for.
pub fn scaled(full: usize) -> usize {
    let scale = std::env::var("SOAK_SCALE").map_or(1, |text| text.parse().expect("SOAK_SCALE is a number"));
    full.div_ceil(scale)
}

/// A count that goes up, shown at every tenth step.
pub struct Progress {
    name: String,
    unit: &'static str,
    total: usize,
    done: usize,
    begin: Instant,
}

impl Progress {
    /// Begins to count.
    pub fn new(test: &str, image: Image, unit: &'static str, total: usize) -> Self {
        let name = format!("{test} FRR {}", image.frr());
        println!("[{name}] {total} {unit}");
        Self { name, unit, total, done: 0, begin: Instant::now() }
    }

    /// How many are done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether more are to be done.
    pub fn goes_on(&self) -> bool {
        self.done < self.total
    }

    /// One more is done.
    pub fn step(&mut self, seen: impl FnOnce() -> String) {
        self.done += 1;
        if self.done.is_multiple_of(10) || self.done == self.total {
            let Self { name, unit, total, done, begin } = self;
            println!("[{name}] {done} of {total} {unit}, {}s: {}", begin.elapsed().as_secs(), seen());
        }
    }

    /// The line for docs/soak.md.
    pub fn sum_up(&self, words: &str) {
        let Self { name, unit, total, done: _, begin } = self;
        let minutes = begin.elapsed().as_secs_f32() / 60.0;
        println!("SOAK {name}: {total} {unit} in {minutes:.1} min: {words}");
    }
}

/// Durations of which only the mean is told.
#[derive(Default)]
pub struct Mean {
    sum: Duration,
    count: u32,
}

impl Mean {
    /// One more.
    pub fn add(&mut self, duration: Duration) {
        self.sum += duration;
        self.count += 1;
    }

    /// Seconds, and of how many.
    pub fn words(&self) -> String {
        format!("{} runs of {:.1}s", self.count, self.sum.as_secs_f32() / self.count.max(1) as f32)
    }
}
