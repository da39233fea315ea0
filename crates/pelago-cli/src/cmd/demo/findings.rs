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
    output::{Error, facts},
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
    /// From the kill until something that the node held went on elsewhere: an agent was active, or a task was done.
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
    /// Compares what there is with what should be. `expected` is the report of the plain pass; the victim was killed
    /// then and one of its agents was seen active elsewhere so long after.
    pub(super) fn of(
        listing: &Listing,
        report: &Report,
        expected: &Report,
        store: &Store,
        (victim, killed, rehomed_ms): (Victim, Killed, Option<u64>),
    ) -> Self {
        let mut findings = Self {
            files: listing.files.len() as u64,
            files_skipped: report.skipped.len() as u64,
            sections: expected.summary.sections,
            tasks: store.tasks.len() as u64,
            retries: store.tasks.iter().map(|task| u64::from(task.attempt.saturating_sub(1))).sum(),
            turns: store.status.turns,
            agents_rehomed: victim.rehomed(&store.agents).count() as u64,
            failover_ms: failover_ms(&victim, &store.tasks, killed).into_iter().chain(rehomed_ms).min(),
            killed: victim,
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
            let Some(tasks) = by_key.remove(idempotency_key(path).as_str()) else {
                self.lost.insert(path.clone());
                continue;
            };
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
            (
                "failover",
                self.failover_ms.map_or("nothing that it held was needed again".to_owned(), |ms| format!("{ms} ms")),
            ),
            ("lost", names(&self.lost)),
            ("duplicated", names(&self.duplicated)),
            ("different", names(&self.different)),
            ("report", self.report.clone()),
        ])
    }
}

/// From the kill to the first result of a task that the node was at, by the time of the log.
fn failover_ms(victim: &Victim, tasks: &[Task], killed: Killed) -> Option<u64> {
    let killed_ms = killed.wall.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let first = victim.done_elsewhere(tasks).map(|task| u128::from(task.changed.as_millis())).min()?;
    u64::try_from(first.saturating_sub(killed_ms)).ok()
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
    pub(super) fn new(path: Option<PathBuf>) -> Result<Self, Error> {
        if let Some(path) = &path {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(problem::no_place(format!("the folder of {} is not there", path.display())));
            }
            if path.is_dir() {
                return Err(problem::no_place(format!("{} is a folder", path.display())));
            }
            if path.is_file() {
                return Err(problem::in_the_way(path));
            }
            let made = fs::File::create_new(path).and_then(|_file| fs::remove_file(path));
            made.map_err(|cause| problem::no_place(format!("{} cannot be written: {cause}", path.display())))?;
        }
        Ok(Self(path))
    }

    /// Writes the report; returns where.
    pub(super) fn write(self, text: &str) -> Result<PathBuf, Error> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::single::tests::report_of;

    /// A finished demo of the files `a` and `b`, changed by `change` before it is looked at.
    fn findings(change: impl FnOnce(&mut Report, &mut Store)) -> Findings {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), format!("wolf {name}")).expect("a file");
        }
        let expected = report_of(Some(folder.path()), Path::new("/")).expect("a folder can be listed");
        let listing = crate::report::files::list(Some(folder.path()), Path::new("/")).expect("as before");
        let mut report = expected.clone();
        let section = serde_json::json!({ "Written": {
            "terms": { "section": 1, "totals": expected.summary.totals, "terms": {} },
            "page": expected.pages[0],
        } });
        let mut store = Store {
            status: document(serde_json::json!({
                "mesh": "m", "mesh_id": "0", "node": "n", "node_id": 1, "incarnation": 500, "version": "0",
                "draining": false, "term": 1, "quorum": true, "can_lose": 0, "voters": ["n"], "last_index": 9,
                "applied_index": 9, "log_time": "2024-01-15T10:30:00.000Z", "agents_active": 1, "tasks": {},
                "messages_waiting": 0, "turns": 7, "nodes": [],
            })),
            tasks: vec![task("a", 1), task("b", 2)],
            agents: vec![agent("section:1", 500, section)],
        };
        change(&mut report, &mut store);
        let victim = Victim {
            node: "n".to_owned(),
            tasks: 1,
            sections: 1,
            agents: BTreeMap::from([("section:1".to_owned(), 2)]),
            attempts: ["a", "b"].map(|path| (task(path, 1).id, 1)).into(),
        };
        Findings::of(&listing, &report, &expected, &store, (victim, Killed::at(KILLED_MS), Some(9_000)))
    }

    /// 2024-01-15T10:30:00Z.
    const KILLED_MS: u64 = 1_705_314_600_000;

    fn document<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).expect("it is a document of the API")
    }

    fn task(path: &str, attempt: u32) -> Task {
        let changed = if attempt == 1 { "2024-01-15T10:30:00.500Z" } else { "2024-01-15T10:30:01.250Z" };
        document(serde_json::json!({
            "id": path.repeat(32), "agent": FILE_READER, "placement": "pool", "state": "done", "priority": 4,
            "attempt": attempt, "attempts_max": 5, "attempt_ms_max": 1, "backoff_ms": 1, "backoff_ms_max": 1,
            "idempotency_key": idempotency_key(path), "created": "2024-01-15T10:29:00.000Z",
            "run_at": "2024-01-15T10:29:00.000Z", "changed": changed, "events": 1,
        }))
    }

    fn agent(address: &str, incarnation: u64, state: serde_json::Value) -> Agent {
        document(serde_json::json!({
            "agent": address, "name": section::NAME, "key": "1", "phase": "active", "node": "n",
            "incarnation": incarnation, "epoch": 2, "version": 1, "generation": 1, "last_turn": "0", "chain": "0",
            "state": state,
        }))
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_demo_that_kept_its_word_is_whole() {
        let found = findings(|_, _| ());
        assert!(found.is_whole(), "{found:?}");
        assert_eq!((found.tasks, found.retries, found.agents_rehomed), (2, 1, 1));
        assert_eq!(found.failover_ms, Some(1_250), "a task that the node still finished itself does not count");
    }

    #[test]
    fn a_task_that_is_not_done_is_a_file_lost_and_a_second_one_a_file_doubled() {
        let found = findings(|_, store| store.tasks[0].state = TaskState::Dead);
        assert_eq!((found.lost, found.duplicated), (set(&["a"]), set(&[])));
        let found = findings(|_, store| _ = store.tasks.remove(1));
        assert_eq!((found.lost, found.duplicated), (set(&["b"]), set(&[])));
        let found = findings(|_, store| store.tasks.push(task("b", 1)));
        assert_eq!((found.lost, found.duplicated), (set(&[]), set(&["b"])));
        let found = findings(|_, store| store.tasks.push(task("c", 1)));
        assert_eq!(found.different.len(), 1, "{found:?}");
    }

    #[test]
    fn a_page_that_the_store_does_not_hold_is_found() {
        let found = findings(|_, store| store.agents.clear());
        assert_eq!(found.different, ["section:1 has no page in the store"]);
        let found = findings(|report, _| report.pages[0].entries[0].size.words += 1);
        assert_eq!(found.different, ["section:1 answers another page than the store holds", "a differs in its size"]);
    }

    #[test]
    fn a_file_that_is_gone_from_the_report_is_lost() {
        let found = findings(|report, _| report.pages.clear());
        assert_eq!(found.lost, set(&["a", "b"]));
    }

    #[test]
    fn only_the_first_names_stand_in_the_table() {
        let list = |count: u32| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&list(0)), "0");
        assert_eq!(names(&list(5)), "5: 0, 1, 2, 3, 4");
        assert_eq!(names(&list(6)), "6: 0, 1, 2, 3, 4, …");
        assert_eq!(names(&["a\u{1b}[2J".to_owned()]), "1: a\\u{1b}[2J");
    }
}
