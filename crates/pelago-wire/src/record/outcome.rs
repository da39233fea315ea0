//! What became of an op.

use pelago_core::record::{Outcome, Refusal, TaskState};

use super::{
    DecodeError,
    convert::{Convert, each, field, forms, maybe, missing, present},
};
use crate::proto::{self, outcome, refusal};

impl Convert for Outcome {
    type Form = proto::Outcome;

    fn form(&self) -> proto::Outcome {
        let outcome = match self {
            Self::Committed => outcome::Outcome::Committed(proto::Nothing {}),
            Self::Registered { holder, freed } => {
                outcome::Outcome::Registered(proto::Registered { holder: Some(holder.form()), freed: forms(freed) })
            }
            Self::Expired { freed } => outcome::Outcome::Expired(proto::Expired { freed: forms(freed) }),
            Self::Claimed { epoch, version } => {
                outcome::Outcome::Claimed(proto::Claimed { epoch: epoch.form(), version: version.form() })
            }
            Self::Enqueued { token } => {
                outcome::Outcome::Enqueued(proto::Enqueued { token: token.as_ref().map(Convert::form) })
            }
            Self::Assigned { token, attempt } => {
                outcome::Outcome::Assigned(proto::Assigned { token: Some(token.form()), attempt: *attempt })
            }
            Self::Swept { rows } => outcome::Outcome::Swept(*rows),
            Self::Existing { task } => outcome::Outcome::Existing(task.form()),
            Self::Duplicate { position, reply } => {
                outcome::Outcome::Duplicate(proto::Duplicate { position: *position, reply: reply.clone() })
            }
            Self::Refused(refusal) => outcome::Outcome::Refused(refusal.form()),
        };
        proto::Outcome { outcome: Some(outcome) }
    }

    fn format(&self) -> u8 {
        if matches!(self, Self::Refused(Refusal::Overtaken { .. })) {
            5
        } else if matches!(self, Self::Refused(Refusal::NodeRemoved(_))) {
            3
        } else if matches!(self, Self::Refused(Refusal::NodeUp(_))) {
            2
        } else {
            1
        }
    }

    fn value(form: proto::Outcome) -> Result<Self, DecodeError> {
        let proto::Outcome { outcome } = form;
        Ok(match outcome.ok_or_else(|| missing("outcome"))? {
            outcome::Outcome::Committed(proto::Nothing {}) => Self::Committed,
            outcome::Outcome::Registered(proto::Registered { holder, freed }) => Self::Registered {
                holder: present("registered.holder", holder)?,
                freed: each("registered.freed", freed)?,
            },
            outcome::Outcome::Expired(proto::Expired { freed }) => {
                Self::Expired { freed: each("expired.freed", freed)? }
            }
            outcome::Outcome::Claimed(proto::Claimed { epoch, version }) => {
                Self::Claimed { epoch: field("claimed.epoch", epoch)?, version: field("claimed.version", version)? }
            }
            outcome::Outcome::Enqueued(proto::Enqueued { token }) => {
                Self::Enqueued { token: maybe("enqueued.token", token)? }
            }
            outcome::Outcome::Assigned(proto::Assigned { token, attempt }) => {
                Self::Assigned { token: present("assigned.token", token)?, attempt }
            }
            outcome::Outcome::Swept(rows) => Self::Swept { rows: field("swept", rows)? },
            outcome::Outcome::Existing(task) => Self::Existing { task: field("existing", task)? },
            outcome::Outcome::Duplicate(proto::Duplicate { position, reply }) => Self::Duplicate { position, reply },
            outcome::Outcome::Refused(refusal) => Self::Refused(field("refused", refusal)?),
        })
    }
}

impl Convert for Refusal {
    type Form = proto::Refusal;

    fn form(&self) -> proto::Refusal {
        let why = match self {
            Self::Fenced { epoch, version, holder, live } => refusal::Why::Fenced(proto::Fenced {
                epoch: epoch.form(),
                version: version.form(),
                holder: Some(holder.form()),
                live: *live,
            }),
            Self::HolderGone(holder) => refusal::Why::HolderGone(holder.form()),
            Self::StaleToken { task, token } => {
                refusal::Why::StaleToken(proto::StaleToken { task: task.form(), token: Some(token.form()) })
            }
            Self::MessageGone { position } => refusal::Why::MessageGone(*position),
            Self::Overtaken { position } => refusal::Why::Overtaken(*position),
            Self::Full(agent) => refusal::Why::Full(agent.form()),
            Self::TooLarge { what, bytes, bytes_max } => refusal::Why::TooLarge(proto::TooLarge {
                what: (*what).to_owned(),
                bytes: *bytes,
                bytes_max: *bytes_max,
            }),
            Self::Conflict { key } => refusal::Why::Conflict(key.clone()),
            Self::NoTask(task) => refusal::Why::NoTask(task.form()),
            Self::WrongState { task, state } => {
                refusal::Why::WrongState(proto::WrongState { task: task.form(), state: (*state).to_owned() })
            }
            Self::TooEarly => refusal::Why::TooEarly(proto::Nothing {}),
            Self::NameTaken(node) => refusal::Why::NameTaken(node.form()),
            Self::NotAlone => refusal::Why::NotAlone(proto::Nothing {}),
            Self::NodeUp(node) => refusal::Why::NodeUp(node.form()),
            Self::NodeRemoved(node) => refusal::Why::NodeRemoved(node.form()),
        };
        proto::Refusal { why: Some(why) }
    }

    fn value(form: proto::Refusal) -> Result<Self, DecodeError> {
        let proto::Refusal { why } = form;
        Ok(match why.ok_or_else(|| missing("why"))? {
            refusal::Why::Fenced(proto::Fenced { epoch, version, holder, live }) => Self::Fenced {
                epoch: field("fenced.epoch", epoch)?,
                version: field("fenced.version", version)?,
                holder: present("fenced.holder", holder)?,
                live,
            },
            refusal::Why::HolderGone(holder) => Self::HolderGone(field("holder_gone", holder)?),
            refusal::Why::StaleToken(proto::StaleToken { task, token }) => {
                Self::StaleToken { task: field("stale_token.task", task)?, token: present("stale_token.token", token)? }
            }
            refusal::Why::MessageGone(position) => Self::MessageGone { position },
            refusal::Why::Overtaken(position) => Self::Overtaken { position },
            refusal::Why::Full(agent) => Self::Full(field("full", agent)?),
            refusal::Why::TooLarge(proto::TooLarge { what, bytes, bytes_max }) => Self::TooLarge {
                what: part(&what),
                bytes: field("too_large.bytes", bytes)?,
                bytes_max: field("too_large.bytes_max", bytes_max)?,
            },
            refusal::Why::Conflict(key) => Self::Conflict { key },
            refusal::Why::NoTask(task) => Self::NoTask(field("no_task", task)?),
            refusal::Why::WrongState(proto::WrongState { task, state: name }) => {
                Self::WrongState { task: field("wrong_state.task", task)?, state: state(&name) }
            }
            refusal::Why::TooEarly(proto::Nothing {}) => Self::TooEarly,
            refusal::Why::NameTaken(node) => Self::NameTaken(field("name_taken", node)?),
            refusal::Why::NotAlone(proto::Nothing {}) => Self::NotAlone,
            refusal::Why::NodeUp(node) => Self::NodeUp(field("node_up", node)?),
            refusal::Why::NodeRemoved(node) => Self::NodeRemoved(field("node_removed", node)?),
        })
    }
}

/// The parts that the rules of this release measure.
const PARTS: [&str; 15] = [
    "the agent's state",
    "the connections of one agent",
    "the durable sends of one commit",
    "the message",
    "the progress",
    "the reply",
    "the session's entry",
    "the sessions of the mesh",
    "the task's input",
    "the task's list of events",
    "the task's result",
    "the tasks of one commit",
    "the timer's input",
    "the timers of one agent",
    "the timers of one commit",
];

/// A part in this release's words. The text is for people, so one that only the leader's release knows is no error.
fn part(what: &str) -> &'static str {
    PARTS.into_iter().find(|part| *part == what).unwrap_or("a part")
}

fn state(name: &str) -> &'static str {
    let states = [TaskState::Queued, TaskState::Running, TaskState::Done, TaskState::Dead, TaskState::Cancelled];
    states.map(TaskState::name).into_iter().find(|state| *state == name).unwrap_or("in another state")
}

#[cfg(test)]
mod tests {
    use pelago_core::id::TaskId;

    use super::*;

    const RULES: [&str; 5] = [
        include_str!("../../../pelago-core/src/record/agent.rs"),
        include_str!("../../../pelago-core/src/record/connection.rs"),
        include_str!("../../../pelago-core/src/record/session.rs"),
        include_str!("../../../pelago-core/src/record/task.rs"),
        include_str!("../../../pelago-core/src/record/timer.rs"),
    ];

    #[test]
    fn every_part_that_a_rule_measures_is_known() {
        let mut measured: Vec<_> = RULES.into_iter().flat_map(parts_named_in).collect();
        measured.sort_unstable();
        measured.dedup();
        assert_eq!(measured, PARTS);
    }

    #[test]
    fn words_that_only_a_later_release_uses_are_no_error() {
        let later = Refusal::TooLarge { what: "the tail", bytes: 2, bytes_max: 1 };
        assert_eq!(Refusal::value(later.form()), Ok(Refusal::TooLarge { what: "a part", bytes: 2, bytes_max: 1 }));
        let later = Refusal::WrongState { task: TaskId(1), state: "asleep" };
        let read = Refusal::WrongState { task: TaskId(1), state: "in another state" };
        assert_eq!(Refusal::value(later.form()), Ok(read));
    }

    /// The text literals that follow `fits(` or `what:`.
    fn parts_named_in(rules: &str) -> Vec<&str> {
        ["fits(", "what:"]
            .into_iter()
            .flat_map(|mark| rules.split(mark).skip(1))
            .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
            .collect()
    }
}
