//! So many requests in flight at all times: as soon as an answer is there, the next one is sent. Latency is from sending
//! a request to having its answer, so it says nothing about requests that a real client would have sent meanwhile.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use super::{
    figures::Measured,
    requests::{Answer, Requests},
};
use crate::output::Error;

/// How long to wait when the node takes no more for the moment.
const PAUSE: Duration = Duration::from_millis(1);

/// One request after the other until `end`; those that began after `begin` count.
pub(super) async fn ask(
    requests: &mut Requests<'_>,
    begin: Instant,
    end: &Cell<Instant>,
    measured: &RefCell<Measured>,
) -> Result<(), Error> {
    let mut sent = Instant::now();
    while sent < end.get() {
        let answer = requests.ask().await?;
        // The next one follows at once.
        let begun = std::mem::replace(&mut sent, Instant::now());
        match answer {
            Answer::Done { missed } if begun >= begin => measured.borrow_mut().done(sent - begun, missed),
            Answer::Done { .. } => {}
            Answer::InDoubt => measured.borrow_mut().in_doubt += 1,
            Answer::Busy => {
                measured.borrow_mut().busy += 1;
                tokio::time::sleep(PAUSE).await;
                sent = Instant::now();
            }
        }
    }
    Ok(())
}
