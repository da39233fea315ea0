//! The problem that each error of a node is.

use pelago_core::id::Name;
use pelago_node::handle::Error;

use super::{Code, Problem};

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let problem = |code, hint: &str| Self::new(code, error.to_string(), hint);
        match &error {
            Error::Invalid(_) => {
                let hint = "an address is `name`, `name:key` or `node/name[:key]`; a topic is a dotted name; in a pattern `*` \
                            is any part of one, and `**` any parts at its end";
                problem(Code::BadAddress, hint)
            }
            Error::UnknownAgent { nearest, .. } => {
                problem(Code::UnknownAgent, &meant(nearest)).with_next("pelago node ls")
            }
            Error::WrongKey(_) => {
                let hint = "keyed agents are reached as `name:key`, all others as `name`; only keyed agents get durable messages, \
                            and remember a question by its idempotency key";
                problem(Code::WrongKey, hint)
            }
            Error::UnknownNode(_) => {
                problem(Code::UnknownNode, "no node of the mesh has this name").with_next("pelago node ls")
            }
            Error::NodeUp(_) => {
                let hint =
                    "stop it first; only a node that was stopped or lost can be removed, since it does not come back";
                problem(Code::NodeUp, hint).with_next("pelago node ls")
            }
            Error::UnknownTask(_) => {
                problem(Code::UnknownTask, "tasks are forgotten some time after they ended").with_next("pelago task ls")
            }
            Error::UnknownSignal(_) => {
                let hint = "signals are forgotten ten minutes after they ended, or once the node that took them stops";
                problem(Code::UnknownSignal, hint)
            }
            Error::SignalAway { .. } => {
                let hint = "only that node knows what became of it, and forgets it if it stops; what its turns did stays \
                            done";
                problem(Code::SignalAway, hint).with_next("pelago node ls")
            }
            Error::UnknownConnection { .. } => problem(Code::UnknownConnection, "both ends are written as in the list")
                .with_next("pelago connection ls"),
            Error::NoState(agent) => problem(Code::NoState, "an agent comes into being with its first turn")
                .with_next(format!("pelago agent ask {agent} JSON")),
            Error::Conflict { .. } => problem(Code::Conflict, "repeat the first request exactly, or take a new key"),
            Error::WrongState(_) => {
                problem(Code::WrongState, "nothing was done, nor will be while that is so").with_next("pelago status")
            }
            Error::BadOption(_) => problem(Code::BadField, "change it, or leave it out"),
            Error::TooLarge(_) => problem(Code::TooLarge, "keep large data elsewhere and pass its address"),
            Error::BadCursor => {
                problem(Code::BadCursor, "begin again without a cursor, and pass on `next` as it was given")
            }
            Error::Busy(_) => problem(Code::Busy, "try again in a second").with_next("pelago status"),
            Error::BreakerOpen(_) => {
                let hint = "nothing was done; a node is tried again a second after its third failure in a row, and later \
                            if it still fails: look into its log";
                problem(Code::BreakerOpen, hint).with_next("pelago node ls")
            }
            Error::SessionBusy => {
                let hint =
                    "nothing was done; ask again, or let it wait its turn: `session_busy=queue`, or `--busy queue`";
                problem(Code::SessionBusy, hint)
            }
            Error::Interrupted => {
                problem(Code::Interrupted, "nothing of its turn is kept; a later message of the session took its place")
            }
            Error::UnknownSession(_) => {
                problem(Code::UnknownSession, "it never began, was ended, or nobody used it for too long")
                    .with_next("pelago session ls")
            }
            Error::AgentFailed { hopeless: false, .. } => {
                problem(Code::AgentFailed, "its turn had no effect; as a task it would be tried again")
            }
            Error::AgentFailed { hopeless: true, .. } => {
                problem(Code::AgentRefused, "its turn had no effect; change the request")
            }
            Error::Timeout { .. } => problem(
                Code::Timeout,
                "the request may still take effect; repeat it with the same idempotency key, or wait longer",
            ),
            Error::NoQuorum => {
                let hint = "a write may or may not take effect: repeat it with the same idempotency key; to read what \
                            this node knows, ask over HTTP with ?stale=true";
                problem(Code::NoQuorum, hint).with_next("pelago status")
            }
            Error::InDoubt => problem(
                Code::InDoubt,
                "the request may or may not take effect; with an idempotency key it can be repeated, and counts once",
            ),
            Error::DiskFull => {
                problem(Code::DiskFull, "nothing was done; the status of each node says whether it has to make room")
                    .with_next("pelago status")
            }
            Error::Stopping => problem(Code::Stopping, "ask another node").with_next("pelago node ls"),
            Error::Store(_) => problem(Code::Store, "the log of the node tells more").with_next("pelago status"),
        }
    }
}

/// At most three names: more help nobody.
fn meant(nearest: &[Name]) -> String {
    match nearest {
        [] => "no node of the mesh hosts it".to_owned(),
        [one] => format!("did you mean {one}?"),
        [one, two] => format!("did you mean {one} or {two}?"),
        [one, two, three, ..] => format!("did you mean {one}, {two} or {three}?"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pelago_core::id::{AgentId, SessionId, SignalId, TaskId};

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a short name is valid")
    }

    /// One of each. The match in `From` does not compile without all of them; this list must follow.
    fn errors() -> Vec<Error> {
        let agent = AgentId { namespace: Name::default_namespace(), name: name("cart"), key: None };
        vec![
            Error::Invalid(Name::new("").expect_err("a name is not empty")),
            Error::UnknownAgent { name: name("cart"), nearest: vec![] },
            Error::WrongKey("cart needs a key".into()),
            Error::UnknownNode(name("n9")),
            Error::NodeUp(name("n2")),
            Error::UnknownTask(TaskId(1)),
            Error::NoState(agent),
            Error::Conflict { key: "k".into() },
            Error::WrongState("the task is done".into()),
            Error::BadOption("a task's priority is 0 to 9".into()),
            Error::TooLarge("the input has 600 KiB".into()),
            Error::BadCursor,
            Error::Busy("the mailbox is full".into()),
            Error::BreakerOpen(name("cart")),
            Error::SessionBusy,
            Error::Interrupted,
            Error::UnknownSignal(SignalId(1)),
            Error::SignalAway { id: SignalId(1), node: name("n2") },
            Error::UnknownSession(SessionId { agent: AgentId::unkeyed(name("chat")), name: name("s") }),
            Error::AgentFailed { reason: "no".into(), hopeless: false },
            Error::AgentFailed { reason: "never".into(), hopeless: true },
            Error::Timeout { waited_ms: 5 },
            Error::NoQuorum,
            Error::InDoubt,
            Error::DiskFull,
            Error::Stopping,
            Error::Store("gone".into()),
        ]
    }

    #[test]
    fn every_error_of_a_node_has_its_own_code_and_a_hint() {
        let problems: Vec<Problem> = errors().into_iter().map(Problem::from).collect();
        let codes: BTreeSet<_> = problems.iter().map(|problem| problem.code.as_ref()).collect();
        assert_eq!(codes.len(), problems.len(), "two errors share a code");
        for problem in &problems {
            assert!(!problem.detail.is_empty() && !problem.hint.is_empty(), "{problem}");
        }
    }

    #[test]
    fn an_unknown_agent_names_the_nearest() {
        let nearest = vec![name("counter"), name("countess")];
        let problem = Problem::from(Error::UnknownAgent { name: name("conter"), nearest });
        assert_eq!(problem.detail, "agent conter not found");
        assert_eq!(problem.hint, "did you mean counter or countess?");
    }
}
