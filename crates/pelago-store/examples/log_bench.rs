//! Measures the Raft log on the disk of the given directory, beside a bare write and fdatasync on the same disk.
//!
//! `cargo run --release -p pelago-store --example log_bench [DIRECTORY]`

use bytes::Bytes;
use pelago_store::files::{Directory, OsDirectory};
use pelago_store::log::{Config, Entry, Log};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PAYLOAD_BYTES: usize = 100;
const TIME_PER_ROW: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let home = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let home = tempfile::tempdir_in(home)?;
    let directory = Arc::new(OsDirectory::open(home.path())?);
    let mut out = std::io::stdout();
    for bytes in [PAYLOAD_BYTES + 32, 64 * (PAYLOAD_BYTES + 32)] {
        writeln!(out, "{}", bare(&*directory, bytes)?)?;
    }
    let log = Log::open(directory.clone(), Config::new(1))?;
    let mut index = 0;
    for (entries_per_append, in_flight) in [(1, 1), (1, 8), (1, 64), (1, 512), (64, 1), (64, 2), (1024, 2)] {
        writeln!(out, "{}", measure(&log, &mut index, entries_per_append, in_flight)?)?;
    }
    log.close()?;
    let start = Instant::now();
    let log = Log::open(directory.clone(), Config::new(1))?;
    let (time, entries) = (start.elapsed().as_millis(), log.reader().range()?.end);
    writeln!(out, "opening {entries} entries in {} segments: {time} ms", directory.names()?.len())?;
    log.close()?;
    Ok(())
}

/// The floor: one write and one fdatasync after the other.
fn bare(directory: &dyn Directory, bytes: usize) -> Result<String, Box<dyn Error>> {
    let file = directory.create("bare", 64 << 20)?;
    file.sync()?;
    let record = vec![1; bytes];
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < TIME_PER_ROW {
        let start = Instant::now();
        file.write_at((times.len() * bytes % (63 << 20)) as u64, &record)?;
        file.sync()?;
        times.push(start.elapsed());
    }
    directory.remove("bare")?;
    Ok(format!("bare write and fdatasync, {bytes} B: {}", percentiles(&mut times)))
}

/// Keeps `in_flight` appends waiting for their flush.
fn measure(log: &Log, index: &mut u64, entries: usize, in_flight: usize) -> Result<String, Box<dyn Error>> {
    let (answer, answers) = mpsc::channel();
    let (counters, flushes) = (log.counters(), log.counters().flushes());
    let mut times = Vec::new();
    let mut waiting = 0;
    let begin = Instant::now();
    while begin.elapsed() < TIME_PER_ROW || waiting > 0 {
        while waiting < in_flight && begin.elapsed() < TIME_PER_ROW {
            append(log, index, entries, answer.clone())?;
            waiting += 1;
        }
        let (start, result): (Instant, Result<_, _>) = answers.recv()?;
        result?;
        times.push(start.elapsed());
        waiting -= 1;
    }
    let rate = (times.len() * entries) as f64 / begin.elapsed().as_secs_f64();
    let appends_per_flush = times.len() as f64 / (counters.flushes() - flushes) as f64;
    let percentiles = percentiles(&mut times);
    Ok(format!(
        "append of {entries} x {PAYLOAD_BYTES} B, {in_flight} in flight: {rate:.0} entries/s, \
         {appends_per_flush:.1} appends a flush, {percentiles}"
    ))
}

type Answer = (Instant, Result<(), pelago_store::log::Error>);

fn append(log: &Log, index: &mut u64, entries: usize, answer: mpsc::Sender<Answer>) -> Result<(), Box<dyn Error>> {
    let payload = Bytes::from_static(&[7; PAYLOAD_BYTES]);
    let from = *index;
    *index += entries as u64;
    let entries = (from..*index).map(|index| Entry { index, payload: payload.clone() }).collect();
    let start = Instant::now();
    log.append(entries, Box::new(move |result| answer.send((start, result)).expect("the loop waits")))?;
    Ok(())
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    format!("p50 {} us, p99 {} us", at(50), at(99))
}
