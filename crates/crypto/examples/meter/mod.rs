//! CPU time per operation, printed as `compare/run` reads it: one JSON object a line.

use rustix::time::{ClockId, clock_gettime};

const WINDOWS: usize = 4;
const WINDOW_NS: i64 = 80_000_000;

/// User and system time of this process, in nanoseconds.
pub(crate) fn cpu() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

pub(crate) fn report(name: &str, ns: f64) {
    println!("{{\"name\":\"{name}\",\"ns\":{ns:.1}}}");
}

/// Runs `work` in windows of CPU time and reports the best of them.
#[allow(
    dead_code,
    reason = "one example measures in windows, the other in runs"
)]
pub(crate) fn measure(name: &str, mut work: impl FnMut()) {
    for _ in 0..20 {
        work();
    }
    let mut best = f64::INFINITY;
    for _ in 0..WINDOWS {
        let (began, mut n, mut spent) = (cpu(), 0, 0);
        while spent < WINDOW_NS {
            for _ in 0..20 {
                work();
            }
            n += 20;
            spent = cpu() - began;
        }
        best = best.min(spent as f64 / f64::from(n));
    }
    report(name, best);
}
