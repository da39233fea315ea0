//! Orders that are delivered once they are paid, and cancelled if they are not: all that a turn may do.
//!
//! ```sh
//! cargo run --release -p pelago --example orders -- --found --name a --data-dir data/a
//! pelago agent ask order:7 '"placed"'
//! pelago agent ask order:7 '"paid"'       # a courier takes it, and sends word
//! pelago agent state order:7
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use pelago::prelude::*;

/// How long a customer has.
const UNPAID_MAX: Duration = Duration::from_secs(60);

/// The state of `order:KEY`. A field that is added later needs a default, or states of before cannot be read.
#[derive(Default, Serialize, Deserialize)]
struct Order {
    status: Status,
    #[serde(default)]
    parcel: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    #[default]
    New,
    Placed,
    Paid,
    Delivered,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Look,
    Placed,
    Paid,
    Unpaid,
    Delivered { parcel: String },
}

impl Agent for Order {
    type Input = Event;
    type Output = Status;

    async fn handle(&mut self, event: Event, turn: &mut Turn) -> Result<Status, Fault> {
        match (self.status, event) {
            (_, Event::Look) => {}
            (Status::New, Event::Placed) => {
                self.status = Status::Placed;
                // Comes back as a turn of this agent, wherever it lives by then.
                turn.set_timer("unpaid", UNPAID_MAX, &Event::Unpaid)?;
            }
            (Status::Placed, Event::Paid) => {
                self.status = Status::Paid;
                turn.cancel_timer("unpaid")?;
                let order = turn.key().to_owned();
                turn.enqueue("courier", &order, TaskRequest { attempts_max: Some(10), ..TaskRequest::default() })?;
            }
            (Status::Placed, Event::Unpaid) => self.status = Status::Cancelled,
            (Status::Paid, Event::Delivered { parcel }) => {
                self.status = Status::Delivered;
                self.parcel = Some(parcel);
            }
            // Whoever asks is told; a task would be dead at once.
            (status, _) => return Err(Fault::hopeless(format!("the order is {status:?} already"))),
        }
        Ok(self.status)
    }
}

/// Copies without a state, several at a time on every node.
#[derive(Default, Serialize, Deserialize)]
struct Courier;

impl Agent for Courier {
    type Input = String;
    type Output = String;

    async fn handle(&mut self, order: String, turn: &mut Turn) -> Result<String, Fault> {
        let address = format!("order:{order}");
        let status: Status = turn.ask(&address, &Event::Look).await?;
        if status != Status::Paid {
            // Another attempt may find it so.
            return Err(Fault::new(format!("{address} is {status:?}")));
        }
        turn.progress(&"on the way").await?;
        // What is done outside may be done twice: the task's id tells the other side that it is the same.
        let parcel = turn.task().map_or_else(String::new, |task| format!("parcel {task}"));
        turn.send(&address, &Event::Delivered { parcel: parcel.clone() })?;
        Ok(parcel)
    }
}

fn main() -> ExitCode {
    pelago::run([pelago::keyed::<Order>("order"), pelago::pool::<Courier>("courier")])
}
