//! What became of the work, and whether all of it did: from the store, and from the comparison with a plain pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::PathBuf,
    time::UNIX_EPOCH,
};

use pelago_api::{
    client::{self, Client, TaskQuery},
    model::{Agent, Document, Status, Task},
    problem::Problem,
};
use pelago_core::record::TaskState;
use serde::Serialize;

use super::{
    Killed,
    crew::{LIST_MAX, all_agents},
    problem,
    victim::{Victim, many},
};
use crate::{
    builtin::crew::{FILE_READER, idempotency_key, section},
    output::facts,
    report::{
        compare::{Difference, compare},
        files::Listing,
        page::Report,
    },
};

/// How many names stand in one line of the table.
const NAMES_SHOWN: usize = 5;

/// The table.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub(super) files: u64,
    pub(super) files_skipped: u64,
    pub(super) sections: u64,
    pub(super) tasks: u64,
    /// Attempts beyond the first of each task.
    pub(super) retries: u64,
    pub(super) turns: u64,
    pub(super) killed: Victim,
    /// Agents that the node held and that were activated again after the kill.
    pub(super) agents_rehomed: u64,
    /// From the kill to the first result committed afterwards.
    pub(super) failover_ms: Option<u64>,
    pub(super) lost: BTreeSet<String>,
    pub(super) duplicated: BTreeSet<String>,
    pub(super) different: Vec<String>,
    /// Where the report is.
    pub(super) report: String,
}

impl Document for Findings {
    const KIND: &'static str = "Demo";
}

/// What the store says, as any client can read it.
pub(super) struct Store {
    status: Status,
    tasks: Vec<Task>,
    agents: Vec<Agent>,
}

/// Reads all of it. To be called when nothing is under way.
pub(super) async fn read_store(client: &Client) -> client::Result<Store> {
    let status = client.status().await?;
    let listed = all_agents(client).await?;
    let mut agents = Vec::with_capacity(listed.len());
    for agent in listed {
        agents.push(client.agent(&agent.agent).await?);
    }
    Ok(Store { status, tasks: all_tasks(client).await?, agents })
}

async fn all_tasks(client: &Client) -> client::Result<Vec<Task>> {
    let mut query = TaskQuery { limit: Some(LIST_MAX), ..TaskQuery::default() };
    let mut tasks = Vec::new();
    loop {
        let part = client.tasks(&query).await?;
        tasks.extend(part.items);
        match part.next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(tasks),
        }
    }
}

impl Findings {
    /// Compares what there is with what should be. `expected` is the report of the plain pass.
    pub(super) fn of(
        listing: &Listing,
        report: &Report,
        expected: &Report,
        store: &Store,
        (victim, killed): (Victim, Killed),
    ) -> Self {
        let mut findings = Self {
            files: listing.files.len() as u64,
            files_skipped: report.skipped.len() as u64,
            sections: expected.summary.sections,
            tasks: store.tasks.len() as u64,
            retries: store.tasks.iter().map(|task| u64::from(task.attempt.saturating_sub(1))).sum(),
            turns: store.status.turns,
            agents_rehomed: victim.rehomed(&store.agents),
            killed: victim,
            failover_ms: failover_ms(store, killed),
            lost: BTreeSet::new(),
            duplicated: BTreeSet::new(),
            different: Vec::new(),
            report: String::new(),
        };
        findings.check_tasks(listing, &store.tasks);
        findings.check_pages(report, &store.agents);
        findings.check_report(expected, report);
        findings
    }

    /// Each file has one task, and it is done.
    fn check_tasks(&mut self, listing: &Listing, tasks: &[Task]) {
        let mut by_key: BTreeMap<&str, Vec<&Task>> = BTreeMap::new();
        for task in tasks.iter().filter(|task| task.agent == FILE_READER) {
            by_key.entry(task.idempotency_key.as_deref().unwrap_or("")).or_default().push(task);
        }
        for path in &listing.files {
            let tasks = by_key.remove(idempotency_key(path).as_str()).unwrap_or_else(Vec::new);
            if !tasks.iter().any(|task| task.state == TaskState::Done) {
                self.lost.insert(path.clone());
            }
            if tasks.len() > 1 {
                self.duplicated.insert(path.clone());
            }
        }
        self.different.extend(by_key.into_keys().map(|key| format!("nobody asked for the task {key:?}")));
    }

    /// Each section's page is stored as it was answered, and tells neither of missing nor of repeated outcomes.
    fn check_pages(&mut self, report: &Report, agents: &[Agent]) {
        for answered in &report.pages {
            let address = section::address(answered.section);
            let agent = agents.iter().find(|agent| agent.agent == address);
            let state = agent.and_then(|agent| agent.state.as_ref()?.parse::<section::Desk>().ok());
            let Some(stored) = state.as_ref().and_then(section::Desk::page) else {
                self.different.push(format!("{address} has no page in the store"));
                continue;
            };
            self.lost.extend(stored.missing.iter().cloned());
            self.duplicated.extend(stored.repeated.iter().cloned());
            if stored != answered {
                self.different.push(format!("{address} answers another page than the store holds"));
            }
        }
    }

    fn check_report(&mut self, expected: &Report, found: &Report) {
        for difference in compare(expected, found) {
            match difference {
                Difference::Missing { path } => _ = self.lost.insert(path),
                Difference::Doubled { path, .. } => _ = self.duplicated.insert(path),
                Difference::Unexpected { .. } | Difference::Changed { .. } | Difference::Summary { .. } => {
                    self.different.push(difference.to_string());
                }
            }
        }
    }

    /// Whether nothing was lost, doubled or changed.
    pub(super) fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.different.is_empty()
    }

    pub(super) fn table(&self) -> String {
        facts([
            ("files", format!("{} in {}, {} skipped", self.files, many(self.sections, "section"), self.files_skipped)),
            ("tasks", self.tasks.to_string()),
            ("retries", self.retries.to_string()),
            ("turns", self.turns.to_string()),
            ("killed", self.killed.to_string()),
            ("agents re-homed", self.agents_rehomed.to_string()),
            ("failover", self.failover_ms.map_or("no result afterwards".to_owned(), |ms| format!("{ms} ms"))),
            ("lost", names(&self.lost)),
            ("duplicated", names(&self.duplicated)),
            ("different", names(&self.different)),
            ("report", self.report.clone()),
        ])
    }
}

/// From the kill to the first result of the run that came after it, by the time of the log.
fn failover_ms(store: &Store, killed: Killed) -> Option<u64> {
    let killed_ms = killed.wall.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let results = store.tasks.iter().filter(|task| began_at(task) > Some(store.status.incarnation));
    let first = results.map(|task| u128::from(task.changed.as_millis())).min()?;
    u64::try_from(first.saturating_sub(killed_ms)).ok()
}

/// The log entry in which the task's last attempt began.
fn began_at(task: &Task) -> Option<u64> {
    let (index, _) = task.token.as_deref()?.split_once('.')?;
    index.parse().ok()
}

/// How many there are, and the first of their names.
fn names<'a>(names: impl IntoIterator<Item = &'a String, IntoIter: ExactSizeIterator>) -> String {
    let names = names.into_iter();
    let count = names.len();
    if count == 0 {
        return "0".to_owned();
    }
    let shown: Vec<_> = names.take(NAMES_SHOWN).map(|name| name.escape_debug().to_string()).collect();
    let more = if count > NAMES_SHOWN { ", …" } else { "" };
    format!("{count}: {}{more}", shown.join(", "))
}

/// Where the report goes.
pub(super) struct Destination(Option<PathBuf>);

impl Destination {
    /// Checks the place before the work begins. The file itself is not touched until there is a report.
    pub(super) fn new(path: Option<PathBuf>) -> Result<Self, Problem> {
        if let Some(path) = &path {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(problem::no_place(format!("the folder of {} is not there", path.display())));
            }
            if path.is_dir() {
                return Err(problem::no_place(format!("{} is a folder", path.display())));
            }
        }
        Ok(Self(path))
    }

    /// Writes the report; returns where.
    pub(super) fn write(self, text: &str) -> Result<PathBuf, Problem> {
        let unable = |cause: std::io::Error| problem::system("write the report", &cause);
        match self.0 {
            Some(path) => {
                fs::write(&path, text).map_err(unable)?;
                Ok(path)
            }
            None => {
                let file = tempfile::Builder::new().prefix("pelago-report-").suffix(".md").tempfile();
                let mut file = file.map_err(unable)?;
                file.write_all(text.as_bytes()).map_err(unable)?;
                let (_, path) = file.keep().map_err(|kept| unable(kept.error))?;
                Ok(path)
            }
        }
    }
}
