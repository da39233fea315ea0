//! Looks after things from time to time: forgotten inboxes, free disk space, old tasks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use pelago_core::{
    record::{Op, Outcome, Sweep},
    time::LogTime,
};
use pelago_store::sqlite::{self, Reader, View};

use crate::{agents::Agents, disk, handle::Handle, mesh::Homes, view};

/// How often inboxes that nobody was told of are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// About how many of them are woken at a time.
const INBOXES_MAX: usize = 1_000;
/// How many of the mesh's are read at a time, to find those that belong here.
const INBOXES_READ: u32 = 1_000;
/// Old rows are forgotten once in so many looks, once a minute, and as soon as there are too many.
const LOOKS_PER_SWEEP: u32 = 12;
/// How ended tasks are kept.
const PLAIN: Retention = Retention { ms: 60 * 60 * 1_000, rows: 100_000, keyed: false };
/// How those with an idempotency key are.
const KEYED: Retention = Retention { ms: 7 * 24 * 60 * 60 * 1_000, rows: 1_000_000, keyed: true };
/// The most rows that one commit forgets.
const SWEEP_ROWS_MAX: u32 = 500;

/// How long rows are kept, and how many.
#[derive(Debug, Clone, Copy)]
struct Retention {
    ms: u64,
    rows: u32,
    keyed: bool,
}

pub(crate) struct Keeper {
    pub(crate) handle: Handle,
    pub(crate) agents: Arc<Agents>,
    pub(crate) homes: Homes,
    pub(crate) view: view::Reader,
    pub(crate) reader: Arc<Reader>,
    pub(crate) directory: PathBuf,
    pub(crate) disk_free_bytes_min: u64,
}

impl Keeper {
    pub(crate) async fn run(mut self) {
        // Whether this node has let another lead since its disk became full.
        let mut handed_over = false;
        for look in 1_u32.. {
            self.check_disk(&mut handed_over).await;
            let is_readable = self.wake_inboxes().await;
            // If the database takes nothing more, the next entry ends this run of the node. It may be long in coming.
            if self.handle.leads() || !is_readable {
                self.sweep(!is_readable || look.is_multiple_of(LOOKS_PER_SWEEP)).await;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // The agents of a node that was lost may belong here now.
                () = self.view.changed() => {}
            }
        }
    }

    /// Refuses new work before the log runs out of space, while there is still room to end what runs. A leader hands
    /// over: its disk is the one that nobody's writes can do without.
    async fn check_disk(&self, handed_over: &mut bool) {
        let full = match disk::free_bytes(&self.directory) {
            Ok(free) => free < self.disk_free_bytes_min,
            Err(error) => return tracing::warn!(%error, "the free space of the data directory cannot be read"),
        };
        self.handle.set_disk_full(full);
        // Once, or leadership would go round for as long as all disks are full.
        if full && !*handed_over && self.handle.leads() && self.handle.has_others() {
            *handed_over = self.handle.hand_over().await;
        }
        *handed_over &= full;
    }

    /// Tells agents of messages that came while nobody could tell them. Says whether the rows can be read.
    async fn wake_inboxes(&self) -> bool {
        let reader = Arc::clone(&self.reader);
        let homes = self.homes.clone();
        let read = move || {
            reader.view(|view| {
                let (mut here, mut after) = (Vec::new(), None);
                while here.len() < INBOXES_MAX {
                    let page = view.agents_with_inbox(after.as_ref(), INBOXES_READ)?;
                    for (agent, _) in page.rows {
                        let row = view.agent_row(&agent)?;
                        if homes.place(&agent, row.as_ref()) == Some(homes.me()) {
                            here.push(agent);
                        }
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                Ok(here)
            })
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(here)) => here.iter().for_each(|agent| self.agents.look_into_inbox(agent)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the inboxes cannot be read");
                return false;
            }
            Err(_stopping) => {}
        }
        true
    }

    /// Forgets tasks and replies whose time is over, and, also when that is not `due`, the oldest tasks if there are too
    /// many.
    async fn sweep(&self, due: bool) {
        let reader = Arc::clone(&self.reader);
        let surplus = move || reader.view(|view| Ok([PLAIN.surplus(view)?, KEYED.surplus(view)?]));
        let surplus = match tokio::task::spawn_blocking(surplus).await {
            Ok(Ok(surplus)) => surplus,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the tasks that ended cannot be counted");
                [None; 2]
            }
            Err(_stopping) => return,
        };
        if !due && surplus == [None; 2] {
            return;
        }
        let now = self.handle.log_time().as_millis();
        let before = |kept: Retention, surplus: Option<LogTime>| {
            LogTime::from_millis(now.saturating_sub(kept.ms)).max(surplus.unwrap_or_default())
        };
        let [plain, keyed] = surplus;
        let (ended_before, keyed_ended_before) = (before(PLAIN, plain), before(KEYED, keyed));
        loop {
            let op = Op::Sweep(Sweep { ended_before, keyed_ended_before, rows_max: SWEEP_ROWS_MAX });
            match self.handle.propose(op).await {
                Ok(Outcome::Swept { rows }) if rows >= u64::from(SWEEP_ROWS_MAX) => {}
                // Swept, or not the leader's moment: there is another one soon.
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Retention {
    /// When the youngest task ended that is one too many, if there is one.
    fn surplus(self, view: &View<'_>) -> Result<Option<LogTime>, sqlite::Error> {
        let totals = view.totals()?;
        let ended = totals.tasks_done + totals.tasks_dead + totals.tasks_cancelled;
        if ended <= u64::from(self.rows) { Ok(None) } else { view.ended_beyond(self.keyed, self.rows) }
    }
}
