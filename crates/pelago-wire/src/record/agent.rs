//! Ops of keyed agents and their messages.

use pelago_core::record::{
    BodyHash, Claim, Dismiss, IdempotencyKey, MessageBody, MessageId, Release, Remember, Send, SetTimer, TimerChange,
    Turn,
};

use super::{
    DecodeError, Fault,
    convert::{Convert, each, field, forms, maybe, newest, present},
};
use crate::proto;

impl Convert for Claim {
    type Form = proto::Claim;

    fn form(&self) -> proto::Claim {
        let Self { agent, seen, holder } = self;
        proto::Claim { agent: Some(agent.form()), seen: seen.form(), holder: Some(holder.form()) }
    }

    fn value(form: proto::Claim) -> Result<Self, DecodeError> {
        let proto::Claim { agent, seen, holder } = form;
        Ok(Self { agent: present("agent", agent)?, seen: field("seen", seen)?, holder: present("holder", holder)? })
    }
}

impl Convert for Turn {
    type Form = proto::Turn;

    fn form(&self) -> proto::Turn {
        let Self {
            agent,
            epoch,
            holder,
            version,
            turns,
            turn,
            state,
            consumed,
            buried,
            replies,
            finishes,
            sends,
            enqueues,
            timers,
            appends,
        } = self;
        proto::Turn {
            agent: Some(agent.form()),
            epoch: epoch.form(),
            holder: Some(holder.form()),
            version: version.form(),
            turns: *turns,
            turn: turn.form(),
            state: state.clone(),
            consumed: forms(consumed),
            buried: forms(buried),
            replies: forms(replies),
            finishes: forms(finishes),
            sends: forms(sends),
            enqueues: forms(enqueues),
            timers: forms(timers),
            appends: forms(appends),
        }
    }

    fn format(&self) -> u8 {
        let mut messages = self.consumed.iter().chain(self.buried.iter().map(|(id, _)| id));
        let has_no_timers = self.timers.is_empty() && messages.all(|id| id.timer().is_none());
        let own = if has_no_timers { 1 } else { 2 };
        own.max(newest(&self.appends)).max(newest(&self.finishes)).max(newest(&self.enqueues))
    }

    fn value(form: proto::Turn) -> Result<Self, DecodeError> {
        let proto::Turn {
            agent,
            epoch,
            holder,
            version,
            turns,
            turn,
            state,
            consumed,
            buried,
            replies,
            finishes,
            sends,
            enqueues,
            timers,
            appends,
        } = form;
        Ok(Self {
            agent: present("agent", agent)?,
            epoch: field("epoch", epoch)?,
            holder: present("holder", holder)?,
            version: field("version", version)?,
            turns: at_least_one(turns).map_err(|e| e.within("turns"))?,
            turn: field("turn", turn)?,
            state,
            consumed: each("consumed", consumed)?,
            buried: each("buried", buried)?,
            replies: each("replies", replies)?,
            finishes: each("finishes", finishes)?,
            sends: each("sends", sends)?,
            enqueues: each("enqueues", enqueues)?,
            timers: each("timers", timers)?,
            appends: each("appends", appends)?,
        })
    }
}

fn at_least_one(turns: u64) -> Result<u64, DecodeError> {
    if turns == 0 { Err(Fault::Range(turns).into()) } else { u64::value(turns) }
}

/// A message that could not be handled, and why.
impl Convert for (MessageId, String) {
    type Form = proto::Buried;

    fn form(&self) -> proto::Buried {
        let (message, reason) = self;
        proto::Buried { message: Some(message.form()), reason: reason.clone() }
    }

    fn value(form: proto::Buried) -> Result<Self, DecodeError> {
        let proto::Buried { message, reason } = form;
        Ok((present("message", message)?, reason))
    }
}

impl Convert for TimerChange {
    type Form = proto::TimerChange;

    fn form(&self) -> proto::TimerChange {
        let Self { name, set } = self;
        proto::TimerChange { name: name.form(), set: set.as_ref().map(Convert::form) }
    }

    fn value(form: proto::TimerChange) -> Result<Self, DecodeError> {
        let proto::TimerChange { name, set } = form;
        Ok(Self { name: field("name", name)?, set: maybe("set", set)? })
    }
}

impl Convert for SetTimer {
    type Form = proto::SetTimer;

    fn form(&self) -> proto::SetTimer {
        let Self { after_ms, payload } = self;
        proto::SetTimer { after_ms: after_ms.form(), payload: payload.clone() }
    }

    fn value(form: proto::SetTimer) -> Result<Self, DecodeError> {
        let proto::SetTimer { after_ms, payload } = form;
        Ok(Self { after_ms: field("after_ms", after_ms)?, payload })
    }
}

impl Convert for Remember {
    type Form = proto::Remember;

    fn form(&self) -> proto::Remember {
        let Self { key, request, reply } = self;
        proto::Remember { key: Some(key.form()), request: request.form(), reply: reply.clone() }
    }

    fn value(form: proto::Remember) -> Result<Self, DecodeError> {
        let proto::Remember { key, request, reply } = form;
        Ok(Self { key: present("key", key)?, request: field("request", request)?, reply })
    }
}

impl Convert for Release {
    type Form = proto::Release;

    fn form(&self) -> proto::Release {
        let Self { agent, epoch, holder } = self;
        proto::Release { agent: Some(agent.form()), epoch: epoch.form(), holder: Some(holder.form()) }
    }

    fn value(form: proto::Release) -> Result<Self, DecodeError> {
        let proto::Release { agent, epoch, holder } = form;
        Ok(Self { agent: present("agent", agent)?, epoch: field("epoch", epoch)?, holder: present("holder", holder)? })
    }
}

impl Convert for Dismiss {
    type Form = proto::Dismiss;

    fn form(&self) -> proto::Dismiss {
        let Self { agent } = self;
        proto::Dismiss { agent: Some(agent.form()) }
    }

    fn value(form: proto::Dismiss) -> Result<Self, DecodeError> {
        let proto::Dismiss { agent } = form;
        Ok(Self { agent: present("agent", agent)? })
    }
}

impl Convert for MessageBody {
    type Form = proto::MessageBody;

    fn form(&self) -> proto::MessageBody {
        let Self { to, payload } = self;
        proto::MessageBody { to: Some(to.form()), payload: payload.clone() }
    }

    fn value(form: proto::MessageBody) -> Result<Self, DecodeError> {
        let proto::MessageBody { to, payload } = form;
        Ok(Self { to: present("to", to)?, payload })
    }
}

impl Convert for Send {
    type Form = proto::Send;

    fn form(&self) -> proto::Send {
        let Self { id, idempotency, body } = self;
        proto::Send { id: id.form(), idempotency: idempotency.as_ref().map(Convert::form), body: Some(body.form()) }
    }

    fn value(form: proto::Send) -> Result<Self, DecodeError> {
        let proto::Send { id, idempotency, body } = form;
        Ok(Self { id: field("id", id)?, idempotency: maybe("idempotency", idempotency)?, body: present("body", body)? })
    }
}

impl Convert for (IdempotencyKey, BodyHash) {
    type Form = proto::KeyedRequest;

    fn form(&self) -> proto::KeyedRequest {
        let (key, request) = self;
        proto::KeyedRequest { key: Some(key.form()), request: request.form() }
    }

    fn value(form: proto::KeyedRequest) -> Result<Self, DecodeError> {
        let proto::KeyedRequest { key, request } = form;
        Ok((present("key", key)?, field("request", request)?))
    }
}
