//! Requests at a fixed rate: each is sent when it is due, and its latency counts from then.

use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

use super::{
    figures::Measured,
    latency::record,
    requests::{Answer, Requests},
    schedule::Schedule,
};
use crate::output::Error;

/// Sends what is due until `end`; what is due from `begin` on counts. While all `requests` are in flight, what is due
/// waits, and the time that it waits counts too: if it was never sent, until the end.
pub(super) async fn ask(
    requests: &mut [Requests<'_>],
    schedule: Schedule,
    begin: Instant,
    end: &Cell<Instant>,
    measured: &RefCell<Measured>,
) -> Result<(), Error> {
    let mut free: Vec<&mut Requests<'_>> = requests.iter_mut().collect();
    let mut in_flight = FuturesUnordered::new();
    let first = schedule.before(begin);
    let mut next = 0;
    loop {
        let now = Instant::now();
        let due = schedule.before(now.min(end.get()));
        while next < due
            && now < end.get()
            && let Some(requests) = free.pop()
        {
            if next >= first {
                record(&mut measured.borrow_mut().late, now.saturating_duration_since(schedule.due(next)));
            }
            in_flight.push(ask_once(requests, next));
            next += 1;
        }
        while let Some(Some((requests, n, answer))) = in_flight.next().now_or_never() {
            let latency = Instant::now().saturating_duration_since(schedule.due(n));
            let mut all = measured.borrow_mut();
            match answer? {
                Answer::Done { missed } if n >= first => all.done(latency, missed),
                Answer::Done { .. } => {}
                Answer::InDoubt => all.in_doubt += 1,
                Answer::Busy => all.busy += u64::from(n >= first),
            }
            free.push(requests);
        }
        if !in_flight.is_empty() {
            tokio::task::yield_now().await;
        } else if now < end.get() {
            schedule.wait_for(next).await;
        } else {
            break;
        }
    }
    let mut all = measured.borrow_mut();
    all.unsent = schedule.record_unsent(next.max(first), end.get(), &mut all.latencies);
    Ok(())
}

async fn ask_once<'r, 'a>(
    requests: &'r mut Requests<'a>,
    n: u64,
) -> (&'r mut Requests<'a>, u64, Result<Answer, Error>) {
    let answer = requests.ask().await;
    (requests, n, answer)
}
