//! The crew, seen from outside: gives it the work, follows it, and fetches what it wrote.
//!
//! All that the crew has still to do is in the store, as tasks and as messages. So it is idle for good, and not just
//! for a moment, when the store holds no task that has not ended and no message that waits. A node may tell of the
//! store as it was a moment ago; that it was handed the work at all shows by the tasks with which that began.

use std::time::{Duration, Instant};

use pelago_api::{
    client::{self, AgentQuery, Client},
    model::{Agent, NewTask, Status, words},
};
use pelago_core::record::{Phase, TaskState};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::to_raw_value;

use super::{
    node::Killed,
    problem,
    progress::Progress,
    victim::{self, Victim},
};
use crate::{
    builtin::crew::{librarian, section},
    output::Error,
    report::{
        files::Listing,
        page::{Page, Report, Summary},
        summary::Assignment,
    },
};

/// The longest list that a node gives at once.
pub(super) const LIST_MAX: usize = 1_000;
/// How often the mesh is asked how it stands.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long it may stand still while there is work.
const STALL_MAX: Duration = Duration::from_secs(60);

pub(super) struct Crew {
    client: Client,
    sections: u32,
}

/// How the work stands.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// Files that were read.
    read: u64,
    /// Whether all messages were handled.
    is_settled: bool,
    /// Whether nothing is left to do.
    is_idle: bool,
    turns: u64,
}

impl Crew {
    pub(super) fn new(client: &Client, assignments: &[Assignment]) -> Self {
        Self { client: client.clone(), sections: assignments.len() as u32 }
    }

    pub(super) async fn hand_out(&self, assignments: &[Assignment]) -> Result<(), Error> {
        for assignment in assignments {
            let order = librarian::Order::Assign { assignment: assignment.clone(), sections: self.sections };
            let input = to_raw_value(&order).expect("an order is plain data");
            let task = NewTask { agent: librarian::ADDRESS.into(), input: Some(&input), ..NewTask::default() };
            self.client.enqueue(&task, None).await?;
        }
        Ok(())
    }

    /// Waits until `free` files are read, a third, `held` readings wait at the gate, and their sections have taken in
    /// what was read. Returns the node that has most to lose.
    pub(super) async fn until_a_third_is_done(
        &self,
        free: u64,
        held: usize,
        progress: &mut Progress,
    ) -> Result<Victim, Error> {
        let mut watch = Watch::new();
        loop {
            let standing = self.look(&mut watch, progress).await?;
            if standing.read >= free
                && standing.is_settled
                && let Some(victim) = patiently(async || victim::choose(&self.client, held).await).await?
            {
                return Ok(victim);
            }
            if standing.is_idle {
                return Err(problem::nothing_to_lose());
            }
        }
    }

    /// Waits until one of the agents that a killed node held is active elsewhere. Returns after how many milliseconds;
    /// `None` if the work was done without them.
    pub(super) async fn until_rehomed(
        &self,
        victim: &Victim,
        killed: Killed,
        progress: &mut Progress,
    ) -> Result<Option<u64>, Error> {
        let mut watch = Watch::new();
        loop {
            let standing = self.look(&mut watch, progress).await?;
            let agents = patiently(async || all_agents(&self.client).await).await?;
            if victim.rehomed(&agents).any(|agent| agent.phase == Phase::Active) {
                return Ok(u64::try_from(killed.ago().as_millis()).ok());
            }
            if standing.is_idle {
                return Ok(None);
            }
        }
    }

    /// Waits until all is done, and puts the report together from what the crew wrote.
    pub(super) async fn until_the_report_is_written(
        &self,
        listing: &Listing,
        progress: &mut Progress,
    ) -> Result<Report, Error> {
        self.until_idle(progress).await?;
        let summary = match self.summary().await? {
            Some(summary) => summary,
            // Nobody will bring what is missing. The report shall say what it is.
            None => {
                self.close().await?;
                self.until_idle(progress).await?;
                self.summary().await?.ok_or_else(problem::no_summary)?
            }
        };
        let mut pages = Vec::new();
        for number in 1..=self.sections {
            pages.extend(self.page(number).await?);
        }
        Ok(Report::assemble(listing, summary, pages))
    }

    async fn until_idle(&self, progress: &mut Progress) -> Result<(), Error> {
        let mut watch = Watch::new();
        while !self.look(&mut watch, progress).await?.is_idle {}
        Ok(())
    }

    async fn look(&self, watch: &mut Watch, progress: &mut Progress) -> Result<Standing, Error> {
        tokio::time::sleep(LOOK_EVERY).await;
        let status = patiently(async || self.client.status().await).await?;
        let standing = Standing::of(&status, self.sections);
        progress.at(standing.read);
        watch.check(&standing)?;
        Ok(standing)
    }

    async fn summary(&self) -> Result<Option<Summary>, Error> {
        self.ask(librarian::ADDRESS, &librarian::Order::Summarize).await
    }

    async fn close(&self) -> Result<(), Error> {
        let close = serde_json::to_vec(&librarian::Order::Close).expect("an order is plain data");
        self.client.send(librarian::ADDRESS, close, None).await?;
        Ok(())
    }

    async fn page(&self, number: u32) -> Result<Option<Page>, Error> {
        match self.ask(&section::address(number), &section::Order::Page).await? {
            section::Reply::Page(page) => Ok(page),
            // Any other reply is as good as no page: the comparison finds what is missing.
            section::Reply::Taken | section::Reply::Terms(_) => Ok(None),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, agent: &str, question: &impl Serialize) -> Result<T, Error> {
        let question = serde_json::to_vec(question).expect("a question is plain data");
        // What is asked here changes nothing, so it may be asked again.
        let reply = patiently(async || self.client.ask(agent, question.clone(), None, None).await).await?;
        reply.parse().map_err(|cause| problem::bad_reply(agent, &cause))
    }
}

impl Standing {
    fn of(status: &Status, sections: u32) -> Self {
        let tasks = |state| status.tasks.get(words::task_state::as_str(state)).copied().unwrap_or(0);
        let under_way = tasks(TaskState::Queued) + tasks(TaskState::Running) + status.messages_waiting;
        // The librarian has had a task for each section, the first of all tasks.
        let handed_out = u64::from(sections);
        let ended = tasks(TaskState::Done) + tasks(TaskState::Dead);
        Self {
            read: tasks(TaskState::Done).saturating_sub(handed_out),
            is_settled: status.messages_waiting == 0,
            is_idle: under_way == 0 && ended >= handed_out,
            turns: status.turns,
        }
    }
}

/// Notices when nothing happens.
struct Watch {
    turns: u64,
    read: u64,
    since: Instant,
}

impl Watch {
    fn new() -> Self {
        Self { turns: 0, read: 0, since: Instant::now() }
    }

    fn check(&mut self, standing: &Standing) -> Result<(), Error> {
        if (self.turns, self.read) != (standing.turns, standing.read) {
            *self = Self { turns: standing.turns, read: standing.read, since: Instant::now() };
        }
        if self.since.elapsed() > STALL_MAX {
            return Err(problem::stalled(STALL_MAX.as_secs()));
        }
        Ok(())
    }
}

/// Asks again while the mesh says that it cannot answer just now, as it does until another node leads.
pub(super) async fn patiently<T>(mut ask: impl AsyncFnMut() -> client::Result<T>) -> client::Result<T> {
    let until = Instant::now() + STALL_MAX;
    loop {
        match ask().await {
            Err(client::Error::Problem(problem)) if problem.retryable && Instant::now() < until => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            answered => return answered,
        }
    }
}

/// All keyed agents of the mesh, without their states.
pub(super) async fn all_agents(client: &Client) -> client::Result<Vec<Agent>> {
    let mut query = AgentQuery { limit: Some(LIST_MAX), ..AgentQuery::default() };
    let mut agents = Vec::new();
    loop {
        let part = client.agents(&query).await?;
        agents.extend(part.items);
        match part.next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(agents),
        }
    }
}
