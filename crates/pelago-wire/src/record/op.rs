//! One item of a batch: which op it is.

use pelago_core::record::{Expire, Op, Register};

use super::{
    DecodeError,
    convert::{Convert, field, missing},
};
use crate::proto::{self, item};

impl Convert for Op {
    type Form = proto::Item;

    fn form(&self) -> proto::Item {
        let op = match self {
            Self::Register(op) => item::Op::Register(op.form()),
            Self::Expire(op) => item::Op::Expire(op.form()),
            Self::Remove(op) => item::Op::Remove(op.form()),
            Self::Claim(op) => item::Op::Claim(op.form()),
            Self::Turn(op) => item::Op::Turn(op.form()),
            Self::Release(op) => item::Op::Release(op.form()),
            Self::Send(op) => item::Op::Send(op.form()),
            Self::Enqueue(op) => item::Op::Enqueue(op.form()),
            Self::Assign(op) => item::Op::Assign(op.form()),
            Self::Finish(op) => item::Op::Finish(op.form()),
            Self::Progress(op) => item::Op::Progress(op.form()),
            Self::Cancel(op) => item::Op::Cancel(op.form()),
            Self::Retry(op) => item::Op::Retry(op.form()),
            Self::TimeOut(op) => item::Op::TimeOut(op.form()),
            Self::Sweep(op) => item::Op::Sweep(op.form()),
            Self::Dismiss(op) => item::Op::Dismiss(op.form()),
            Self::Connect(op) => item::Op::Connect(op.form()),
            Self::Append(op) => item::Op::Append(op.form()),
            Self::EndSession(op) => item::Op::EndSession(op.form()),
        };
        proto::Item { op: Some(op) }
    }

    fn format(&self) -> u8 {
        match self {
            Self::Turn(op) => op.format(),
            Self::Cancel(op) => op.format(),
            Self::Connect(_) => 4,
            Self::Enqueue(op) => op.task.format(),
            Self::Finish(op) => op.format(),
            Self::Append(op) => op.format(),
            Self::EndSession(_) => 5,
            Self::Register(Register { offers, .. }) if offers.format() > 3 => offers.format(),
            Self::Register(Register { node, left, .. }) if node.is_some() || left.is_some() => 3,
            Self::Expire(Expire { left: true, .. }) => 3,
            Self::Remove(_) => 2,
            Self::Dismiss(_) => 3,
            Self::Register(_)
            | Self::Expire(_)
            | Self::Claim(_)
            | Self::Release(_)
            | Self::Send(_)
            | Self::Assign(_)
            | Self::Progress(_)
            | Self::Retry(_)
            | Self::TimeOut(_)
            | Self::Sweep(_) => 1,
        }
    }

    fn value(form: proto::Item) -> Result<Self, DecodeError> {
        let proto::Item { op } = form;
        Ok(match op.ok_or_else(|| missing("op"))? {
            item::Op::Register(op) => Self::Register(field("register", op)?),
            item::Op::Expire(op) => Self::Expire(field("expire", op)?),
            item::Op::Remove(op) => Self::Remove(field("remove", op)?),
            item::Op::Claim(op) => Self::Claim(field("claim", op)?),
            item::Op::Turn(op) => Self::Turn(field("turn", op)?),
            item::Op::Release(op) => Self::Release(field("release", op)?),
            item::Op::Send(op) => Self::Send(field("send", op)?),
            item::Op::Enqueue(op) => Self::Enqueue(field("enqueue", op)?),
            item::Op::Assign(op) => Self::Assign(field("assign", op)?),
            item::Op::Finish(op) => Self::Finish(field("finish", op)?),
            item::Op::Progress(op) => Self::Progress(field("progress", op)?),
            item::Op::Cancel(op) => Self::Cancel(field("cancel", op)?),
            item::Op::Retry(op) => Self::Retry(field("retry", op)?),
            item::Op::TimeOut(op) => Self::TimeOut(field("time_out", op)?),
            item::Op::Sweep(op) => Self::Sweep(field("sweep", op)?),
            item::Op::Dismiss(op) => Self::Dismiss(field("dismiss", op)?),
            item::Op::Connect(op) => Self::Connect(field("connect", op)?),
            item::Op::Append(op) => Self::Append(field("append", op)?),
            item::Op::EndSession(op) => Self::EndSession(field("end_session", op)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::{AgentId, Claim, Enqueue, Finish, Holder, NewTask, Offer, Register, RetryPolicy, Turn};

    fn refused(op: item::Op) -> String {
        Op::value(proto::Item { op: Some(op) }).expect_err("a bad op").to_string()
    }

    fn id() -> Bytes {
        Bytes::from_static(&[7; 16])
    }

    fn agent() -> Option<AgentId> {
        Some(AgentId { namespace: "default".into(), name: "cart".into(), key: None })
    }

    fn turn() -> Turn {
        let holder = Some(Holder { node: 1, incarnation: 1 });
        Turn { agent: agent(), epoch: 1, holder, turns: 1, turn: id(), ..Turn::default() }
    }

    fn task() -> NewTask {
        let policy = Some(RetryPolicy::default());
        NewTask { id: id(), agent: agent(), placement: 3, policy, body: id(), ..NewTask::default() }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Op::value(proto::Item { op: None }).expect_err("no op").to_string(), "op is missing");
        assert_eq!(
            refused(item::Op::Claim(Claim { agent: agent(), seen: 1, holder: None })),
            "claim.holder is missing"
        );
        let finishes = vec![Finish { task: id(), token: Some(proto::FencingToken::default()), ..Finish::default() }];
        assert_eq!(refused(item::Op::Turn(Turn { finishes, ..turn() })), "turn.finishes[0].verdict is missing");
    }

    #[test]
    fn an_id_of_a_wrong_length_is_refused() {
        let short = Bytes::from_static(&[7; 15]);
        assert_eq!(refused(item::Op::Turn(Turn { turn: short, ..turn() })), "turn.turn has 15 bytes, and an id has 16");
        let absent = NewTask { body: Bytes::new(), ..task() };
        let enqueues = vec![task(), absent];
        assert_eq!(
            refused(item::Op::Turn(Turn { enqueues, ..turn() })),
            "turn.enqueues[1].body has 0 bytes, and an id has 16"
        );
    }

    #[test]
    fn names_and_keys_keep_their_rules() {
        let bad = |name: &str, key: &str| {
            let agent = Some(AgentId { namespace: "default".into(), name: name.into(), key: Some(key.into()) });
            refused(item::Op::Turn(Turn { agent, ..turn() }))
        };
        let rule = "a name has only letters, digits, '.', '_' and '-'";
        assert_eq!(bad("a b", "k"), format!("turn.agent.name \"a b\" is not valid: {rule}"));
        assert_eq!(bad("a", ""), "turn.agent.key \"\" is not valid: a key has 1 to 256 bytes");
    }

    #[test]
    fn an_unknown_choice_is_refused() {
        for placement in [0, 4, -1] {
            let task = Some(NewTask { placement, ..task() });
            assert_eq!(
                refused(item::Op::Enqueue(Enqueue { task, assign: None })),
                format!("enqueue.task.placement has the unknown value {placement}")
            );
        }
        let offers = [("cart".to_owned(), Offer { placement: 9, tasks_max: 1, ..Offer::default() })].into();
        let register = Register { name: "n1".into(), directory: id(), boot: id(), offers, ..Register::default() };
        assert_eq!(refused(item::Op::Register(register)), "register.offers[cart].placement has the unknown value 9");
    }

    #[test]
    fn numbers_that_would_make_a_rule_panic_are_refused() {
        assert_eq!(refused(item::Op::Turn(Turn { turns: 0, ..turn() })), "turn.turns is 0, which is out of range");
        let over = i64::MAX as u64 + 1;
        let too_big = |part: &str| format!("turn.{part} is {over}, which is out of range");
        assert_eq!(refused(item::Op::Turn(Turn { turns: over, ..turn() })), too_big("turns"));
        assert_eq!(refused(item::Op::Turn(Turn { version: over, ..turn() })), too_big("version"));
        assert_eq!(refused(item::Op::Turn(Turn { epoch: over, ..turn() })), too_big("epoch"));
        let task = Some(NewTask { priority: 256, ..task() });
        assert_eq!(
            refused(item::Op::Enqueue(Enqueue { task, assign: None })),
            "enqueue.task.priority is 256, which is out of range"
        );
    }
}
