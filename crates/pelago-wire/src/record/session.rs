//! What is appended to sessions, and how they end.

use pelago_core::{
    id::SessionId,
    record::{Append, EndSession, SessionTurn},
};

use super::{
    DecodeError,
    convert::{Convert, each, field, forms, newest, present},
};
use crate::proto;

impl Convert for SessionId {
    type Form = proto::SessionId;

    fn form(&self) -> proto::SessionId {
        let Self { agent, name } = self;
        proto::SessionId { agent: Some(agent.form()), name: name.form() }
    }

    fn value(form: proto::SessionId) -> Result<Self, DecodeError> {
        let proto::SessionId { agent, name } = form;
        Ok(Self { agent: present("agent", agent)?, name: field("name", name)? })
    }
}

impl Convert for SessionTurn {
    type Form = proto::SessionTurn;

    fn form(&self) -> proto::SessionTurn {
        let Self { session, id, seen, after, ttl_ms } = self;
        proto::SessionTurn {
            session: Some(session.form()),
            id: id.form(),
            seen: seen.form(),
            after: after.form(),
            ttl_ms: ttl_ms.form(),
        }
    }

    fn value(form: proto::SessionTurn) -> Result<Self, DecodeError> {
        let proto::SessionTurn { session, id, seen, after, ttl_ms } = form;
        Ok(Self {
            session: present("session", session)?,
            id: field("id", id)?,
            seen: field("seen", seen)?,
            after: field("after", after)?,
            ttl_ms: field("ttl_ms", ttl_ms)?,
        })
    }
}

impl Convert for Append {
    type Form = proto::Append;

    fn form(&self) -> proto::Append {
        let Self { turn, holder, said, replied, sends, enqueues } = self;
        proto::Append {
            turn: Some(turn.form()),
            holder: Some(holder.form()),
            said: said.clone(),
            replied: replied.clone(),
            sends: forms(sends),
            enqueues: forms(enqueues),
        }
    }

    fn format(&self) -> u8 {
        newest(&self.enqueues).max(5)
    }

    fn value(form: proto::Append) -> Result<Self, DecodeError> {
        let proto::Append { turn, holder, said, replied, sends, enqueues } = form;
        Ok(Self {
            turn: present("turn", turn)?,
            holder: present("holder", holder)?,
            said,
            replied,
            sends: each("sends", sends)?,
            enqueues: each("enqueues", enqueues)?,
        })
    }
}

impl Convert for EndSession {
    type Form = proto::EndSession;

    fn form(&self) -> proto::EndSession {
        let Self { session } = self;
        proto::EndSession { session: Some(session.form()) }
    }

    fn value(form: proto::EndSession) -> Result<Self, DecodeError> {
        let proto::EndSession { session } = form;
        Ok(Self { session: present("session", session)? })
    }
}
