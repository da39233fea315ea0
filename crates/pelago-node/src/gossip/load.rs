//! How much this node has to do: what its system and its agents say. What the system does not tell is unknown.
//!
//! Linux tells it in `/proc`, and of a container with limits in its cgroup. Other systems tell nothing here.

use std::{fs, time::Duration};

use pelago_core::{membership::Load, time::Time};

/// Shares are told in thousandths.
const WHOLE: u64 = 1_000;
const MICROS_PER_SECOND: u64 = 1_000_000;

/// Measures, each time since the last one.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: Option<Reading>,
}

/// What only grows, as it stood.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Time,
    processor: Option<Processor>,
    network_bytes: Option<u64>,
    messages: u64,
}

/// Processor time, in whatever unit its source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processor {
    used: u64,
    available: u64,
}

impl Meter {
    /// How much there is to do, if so many messages wait and so many were ever handled. Nothing that is told by the
    /// second is known the first time.
    pub(crate) fn measure(&mut self, now: Time, queued: u64, messages: u64) -> Load {
        let processor = processor_of_group(now).or_else(processor);
        let reading = Reading { at: now, processor, network_bytes: network_bytes(), messages };
        let last = self.last.replace(reading);
        let passed = last.map(|last| now - last.at).filter(|passed| !passed.is_zero());
        let per_second = |before: u64, after: u64, passed: Duration| {
            let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
            u64::try_from(u128::from(after.saturating_sub(before)) * u128::from(MICROS_PER_SECOND) / u128::from(micros))
                .unwrap_or(u64::MAX)
        };
        let both = last.zip(passed);
        let network_bytes =
            both.and_then(|(last, passed)| Some(per_second(last.network_bytes?, reading.network_bytes?, passed)));
        Load {
            cpu: last.and_then(|last| reading.processor?.share_since(last.processor?)),
            memory: memory_of_group().or_else(memory),
            network: network_bytes.zip(network_bytes_max()).map(|(used, max)| share(used, max)),
            network_bytes,
            queued,
            messages: both.map_or(0, |(last, passed)| per_second(last.messages, reading.messages, passed)),
        }
    }
}

impl Processor {
    fn share_since(self, before: Self) -> Option<u16> {
        let available = self.available.checked_sub(before.available).filter(|available| *available > 0)?;
        Some(share(self.used.saturating_sub(before.used), available))
    }
}

/// So many thousandths.
fn share(used: u64, of: u64) -> u16 {
    let thousandths = (u128::from(used) * u128::from(WHOLE)).checked_div(u128::from(of)).unwrap_or(0);
    u16::try_from(thousandths.min(u128::from(WHOLE))).expect("not more than the whole")
}

/// The machine's processors: `cpu  user nice system idle iowait irq softirq steal …`
fn processor() -> Option<Processor> {
    processor_in(&fs::read_to_string("/proc/stat").ok()?)
}

fn processor_in(stat: &str) -> Option<Processor> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_ascii_whitespace().map_while(|time| time.parse().ok()).take(8).collect();
    let [user, nice, system, idle, waiting, rest @ ..] = times.as_slice() else { return None };
    let used = user + nice + system + rest.iter().sum::<u64>();
    Some(Processor { used, available: used + idle + waiting })
}

/// The processor time of the cgroup, if it has a limit.
fn processor_of_group(now: Time) -> Option<Processor> {
    let limit = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok()?;
    let used = fs::read_to_string("/sys/fs/cgroup/cpu.stat").ok()?;
    processor_of_group_in(now, &limit, &used)
}

fn processor_of_group_in(now: Time, limit: &str, stat: &str) -> Option<Processor> {
    let (quota, period) = limit.trim().split_once(' ')?;
    let (quota, period): (u128, u128) = (quota.parse().ok()?, period.parse().ok()?);
    let available = (u128::from(now.as_micros()) * quota).checked_div(period)?;
    Some(Processor { used: field(stat, "usage_usec")?, available: u64::try_from(available).ok()? })
}

/// The machine's memory: what is not available is in use.
fn memory() -> Option<u16> {
    memory_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn memory_in(meminfo: &str) -> Option<u16> {
    let total = field(meminfo, "MemTotal:")?;
    let available = field(meminfo, "MemAvailable:")?;
    (total > 0).then(|| share(total.saturating_sub(available), total))
}

/// The memory of the cgroup, if it has a limit. Files that were read and can be dropped are not in use.
fn memory_of_group() -> Option<u16> {
    let limit: u64 = fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()?;
    let current: u64 = fs::read_to_string("/sys/fs/cgroup/memory.current").ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
    let cached = field(&stat, "inactive_file")?;
    (limit > 0).then(|| share(current.saturating_sub(cached), limit))
}

/// Bytes ever received and sent by all interfaces but the loopback.
fn network_bytes() -> Option<u64> {
    network_bytes_in(&fs::read_to_string("/proc/net/dev").ok()?)
}

fn network_bytes_in(dev: &str) -> Option<u64> {
    let mut bytes = None;
    for (name, counts) in dev.lines().filter_map(|line| line.split_once(':')) {
        let counts: Vec<u64> = counts.split_ascii_whitespace().map_while(|count| count.parse().ok()).collect();
        if name.trim() != "lo"
            && let [received, _, _, _, _, _, _, _, sent, ..] = counts.as_slice()
        {
            bytes = Some(bytes.unwrap_or(0_u64).saturating_add(*received).saturating_add(*sent));
        }
    }
    bytes
}

/// How many bytes a second the interfaces carry in both directions, if any says so: few virtual ones do.
fn network_bytes_max() -> Option<u64> {
    let interfaces = fs::read_dir("/sys/class/net").ok()?.filter_map(Result::ok);
    let megabits = interfaces.filter_map(|interface| {
        let speed = fs::read_to_string(interface.path().join("speed")).ok()?;
        speed.trim().parse::<u64>().ok().filter(|speed| *speed > 0)
    });
    let megabits: u64 = megabits.sum();
    (megabits > 0).then(|| megabits.saturating_mul(2 * 1_000_000 / 8))
}

/// The number behind a word at the beginning of a line.
fn field(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word).filter(|rest| rest.starts_with([' ', '\t'])))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read_in_thousandths() {
        let before = processor_in("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n").expect("it is there");
        let after = processor_in("cpu  140 5 60 810 50 3 2 0 9 9\n").expect("it is there");
        assert_eq!(after.share_since(before), Some(857));
        assert_eq!(after.share_since(after), None, "nothing passed");
        assert_eq!(memory_in("MemTotal:  2000 kB\nMemFree: 1 kB\nMemAvailable:  500 kB\n"), Some(750));
        let dev = "Inter-| Receive\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1\n  eth0: 70 1 0 0 0 0 0 0 30 2\n wlan0:1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(network_bytes_in(dev), Some(110));
    }

    #[test]
    fn a_container_with_limits_is_measured_by_them() {
        let at = |seconds: u64| Time::from_micros(seconds * MICROS_PER_SECOND);
        let before = processor_of_group_in(at(10), "50000 100000\n", "usage_usec 1000000\nuser_usec 1\n");
        let after = processor_of_group_in(at(12), "50000 100000\n", "usage_usec 1250000\n");
        assert_eq!(after.and_then(|after| after.share_since(before?)), Some(250));
        assert_eq!(processor_of_group_in(at(1), "max 100000\n", "usage_usec 1\n"), None, "it has no limit");
    }

    #[test]
    fn text_that_says_nothing_is_unknown_and_no_panic() {
        for text in ["", "cpu \n", "cpu  1 2 3\n", "MemTotal: x\nMemAvailable: 1", "eth0: 1 2", ":", "usage_usec"] {
            assert_eq!(processor_in(text), None);
            assert_eq!(memory_in(text), None);
            assert_eq!(network_bytes_in(text), None);
            assert_eq!(processor_of_group_in(Time::ZERO, text, text), None);
        }
    }

    #[test]
    fn what_goes_by_the_second_is_known_from_the_second_time_on() {
        let mut meter = Meter::default();
        let first = meter.measure(Time::from_micros(1), 3, 100);
        assert_eq!((first.cpu, first.network_bytes, first.queued, first.messages), (None, None, 3, 0));
        let second = meter.measure(Time::from_micros(2 * MICROS_PER_SECOND + 1), 0, 700);
        assert_eq!((second.queued, second.messages), (0, 300));
    }
}
