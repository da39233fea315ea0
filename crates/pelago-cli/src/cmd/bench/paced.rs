//! Messages told at a fixed rate: each when it is due.
//!
//! Nobody answers them, but whoever tells hears what became of them: its account of a link says how many of what it told
//! were handled, in order, since one resident is told everything. Latency is until then, so it has the way back in it.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pelago::Mesh;

use super::{
    BenchArgs,
    latency::{Latencies, record},
    schedule::Schedule,
    tell::{AGENT, OnTime},
};
use crate::output::Error;

/// How many messages are told between two looks at what was handled.
const ROUND: u64 = 1_024;
/// How long to wait for word of the last ones.
const HANDLED_MAX: Duration = Duration::from_secs(10);

/// Tells what is due within so many seconds. Says how many that were, too.
pub(super) async fn tell(mesh: &Mesh, args: &BenchArgs, rate: u32, seconds: u32) -> Result<(u64, OnTime), Error> {
    let mut recipient = mesh.recipient(AGENT).await?;
    let payload = vec![b'1'; args.bytes as usize];
    let mut latencies = Latencies::empty();
    let handled_before = mesh.account().handled;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds.into());
    let schedule = Schedule::new(begun, rate);
    let (mut told, mut handled) = (0, 0);
    loop {
        let now = Instant::now();
        let round = schedule.before(now.min(end)).min(told + ROUND);
        while told < round && now < end {
            match recipient.tell(&payload).now_or_never() {
                Some(done) => done?,
                // It waits for room, and so do those after it.
                None => break,
            }
            told += 1;
        }
        let account = mesh.account();
        let heard = Instant::now();
        while handled < account.handled - handled_before {
            record(&mut latencies, heard.saturating_duration_since(schedule.due(handled)));
            handled += 1;
        }
        let is_over = heard >= end && (account.under_way() == 0 || heard >= end + HANDLED_MAX);
        // Of what was told before a link was lost, nobody knows which it was.
        if is_over || account.lost > 0 {
            break;
        }
        if handled < told || heard >= end {
            tokio::task::yield_now().await;
        } else {
            schedule.wait_for(told).await;
        }
    }
    let unsent = schedule.record_unsent(told, end, &mut latencies);
    Ok((told, OnTime { rate, unsent, latencies: Latencies::of(&latencies) }))
}
