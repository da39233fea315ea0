//! How long something took: a histogram, and what is shown of it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart, in nanoseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Percentiles, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latencies {
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p95_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Latencies {
    /// A histogram of nanoseconds.
    pub(super) fn empty() -> Histogram<u64> {
        Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in order")
    }

    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(histogram.max()),
        }
    }

    pub(super) fn lines(&self) -> [(&'static str, String); 6] {
        let Self { p50_us, p90_us, p95_us, p99_us, p999_us, max_us } = *self;
        [
            ("p50", shown(p50_us)),
            ("p90", shown(p90_us)),
            ("p95", shown(p95_us)),
            ("p99", shown(p99_us)),
            ("p99.9", shown(p999_us)),
            ("slowest", shown(max_us)),
        ]
    }
}

/// Counts what took so long.
pub(super) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    record_times(histogram, took, 1);
}

/// Counts so many that took so long.
pub(super) fn record_times(histogram: &mut Histogram<u64>, took: Duration, times: u64) {
    histogram.saturating_record_n(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), times);
}

fn shown(micros: f64) -> String {
    if micros < 1_000.0 { format!("{micros:.1} us") } else { format!("{:.2} ms", micros / 1_000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut histogram = Latencies::empty();
        for micros in 1..=1_000 {
            record(&mut histogram, Duration::from_micros(micros));
        }
        let Latencies { p50_us, p99_us, max_us, .. } = Latencies::of(&histogram);
        assert!((499.0..=502.0).contains(&p50_us) && (989.0..=992.0).contains(&p99_us), "{p50_us} {p99_us}");
        assert!((1_000.0..=1_001.0).contains(&max_us), "{max_us}");
        assert_eq!((shown(0.5), shown(1_500.0)), ("0.5 us".into(), "1.50 ms".into()));
    }
}
