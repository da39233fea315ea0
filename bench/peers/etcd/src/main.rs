//! Puts values into etcd, so many at a time, and prints what `pelago bench propose -o json` prints of its own.
//!
//! `etcd-load HOST:PORT IN_FLIGHT SECONDS WARM_UP BYTES KEYS`; requests share at most 32 connections.

use std::{
    env,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::Client;
use hdrhistogram::Histogram;

const CONNECTIONS_MAX: u64 = 32;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, numbers @ ..] = words.as_slice() else { return Err("see the head of main.rs".into()) };
    let numbers: Vec<u64> = numbers.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    let [in_flight, seconds, warm_up, bytes, keys] = numbers[..] else { return Err("five numbers are needed".into()) };

    let mut clients = Vec::new();
    for _ in 0..in_flight.min(CONNECTIONS_MAX) {
        clients.push(Client::connect([format!("http://{address}")], None).await?);
    }
    let begin = Instant::now() + Duration::from_secs(warm_up);
    let end = begin + Duration::from_secs(seconds);
    let value: Arc<[u8]> = vec![b'x'; usize::try_from(bytes)?].into();
    let mut loops = Vec::new();
    for n in 0..in_flight {
        let mut client = clients[usize::try_from(n)? % clients.len()].kv_client();
        let value = Arc::clone(&value);
        loops.push(tokio::spawn(async move {
            let mut latencies = new_histogram();
            let mut key = n;
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return Ok::<_, etcd_client::Error>(latencies);
                }
                client.put(format!("bench-{}", key % keys), value.to_vec(), None).await?;
                key += in_flight;
                if sent >= begin {
                    latencies.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
        }));
    }
    let mut all = new_histogram();
    for running in loops {
        all.add(&running.await??)?;
    }
    let at = |quantile| all.value_at_quantile(quantile);
    println!(
        "{{\"answers\":{},\"per_second\":{},\"p50_us\":{},\"p95_us\":{},\"p99_us\":{},\"max_us\":{}}}",
        all.len(),
        all.len() as f64 / seconds as f64,
        at(0.5),
        at(0.95),
        at(0.99),
        all.max()
    );
    Ok(())
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}
