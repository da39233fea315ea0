//! Ops of tasks.

use std::sync::Arc;

use pelago_core::{
    message::TraceContext,
    record::{
        Assign, Cancel, Enqueue, Finish, NewTask, PartOf, Progress, Retry, RetryPolicy, Return, Sweep, TaskSession,
        TimeOut, Verdict,
    },
};

use super::{
    DecodeError, Fault,
    convert::{Convert, each, field, forms, maybe, missing, newest, present},
};
use crate::{
    headers::{self, proto::Trace},
    proto,
};

impl Convert for RetryPolicy {
    type Form = proto::RetryPolicy;

    fn form(&self) -> proto::RetryPolicy {
        let Self { attempts_max, attempt_ms_max, backoff_ms, backoff_ms_max } = *self;
        proto::RetryPolicy { attempts_max, attempt_ms_max, backoff_ms, backoff_ms_max }
    }

    fn value(form: proto::RetryPolicy) -> Result<Self, DecodeError> {
        let proto::RetryPolicy { attempts_max, attempt_ms_max, backoff_ms, backoff_ms_max } = form;
        Ok(Self {
            attempts_max,
            attempt_ms_max: field("attempt_ms_max", attempt_ms_max)?,
            backoff_ms: field("backoff_ms", backoff_ms)?,
            backoff_ms_max: field("backoff_ms_max", backoff_ms_max)?,
        })
    }
}

impl Convert for NewTask {
    type Form = proto::NewTask;

    fn form(&self) -> proto::NewTask {
        let Self { id, agent, placement, node, input, priority, delay_ms, policy, idempotency, body, part_of } = self;
        proto::NewTask {
            id: id.form(),
            agent: Some(agent.form()),
            placement: placement.form(),
            node: node.as_ref().map(Convert::form),
            input: input.clone(),
            priority: priority.form(),
            delay_ms: *delay_ms,
            policy: Some(policy.form()),
            idempotency: idempotency.as_ref().map(Convert::form),
            body: body.form(),
            part_of: part_of.as_deref().map(Convert::form),
        }
    }

    fn format(&self) -> u8 {
        if self.part_of.is_some() { 6 } else { 1 }
    }

    fn value(form: proto::NewTask) -> Result<Self, DecodeError> {
        let proto::NewTask {
            id,
            agent,
            placement,
            node,
            input,
            priority,
            delay_ms,
            policy,
            idempotency,
            body,
            part_of,
        } = form;
        Ok(Self {
            id: field("id", id)?,
            agent: present("agent", agent)?,
            placement: field("placement", placement)?,
            node: maybe("node", node)?,
            input,
            priority: field("priority", priority)?,
            delay_ms: field("delay_ms", delay_ms)?,
            policy: present("policy", policy)?,
            idempotency: maybe("idempotency", idempotency)?,
            body: field("body", body)?,
            part_of: maybe("part_of", part_of)?.filter(|part_of| *part_of != PartOf::default()).map(Arc::new),
        })
    }
}

impl Convert for PartOf {
    type Form = proto::PartOf;

    fn form(&self) -> proto::PartOf {
        let Self { trace, session, affinity } = self;
        proto::PartOf {
            trace: trace.as_ref().map(Convert::form),
            session: session.as_ref().map(Convert::form),
            affinity: affinity.clone(),
        }
    }

    fn value(form: proto::PartOf) -> Result<Self, DecodeError> {
        let proto::PartOf { trace, session, affinity } = form;
        Ok(Self { trace: maybe("trace", trace)?, session: maybe("session", session)?, affinity })
    }
}

impl Convert for TaskSession {
    type Form = proto::TaskSession;

    fn form(&self) -> proto::TaskSession {
        let Self { name, ttl_ms } = self;
        proto::TaskSession { name: name.form(), ttl_ms: ttl_ms.as_ref().map(Convert::form) }
    }

    fn value(form: proto::TaskSession) -> Result<Self, DecodeError> {
        let proto::TaskSession { name, ttl_ms } = form;
        Ok(Self { name: field("name", name)?, ttl_ms: maybe("ttl_ms", ttl_ms)? })
    }
}

impl Convert for TraceContext {
    type Form = Trace;

    fn form(&self) -> Trace {
        headers::trace_form(self)
    }

    fn value(form: Trace) -> Result<Self, DecodeError> {
        headers::trace_value(form).ok_or_else(|| Fault::Trace.into())
    }
}

impl Convert for Enqueue {
    type Form = proto::Enqueue;

    fn form(&self) -> proto::Enqueue {
        let Self { task, assign } = self;
        proto::Enqueue { task: Some(task.form()), assign: assign.as_ref().map(Convert::form) }
    }

    fn value(form: proto::Enqueue) -> Result<Self, DecodeError> {
        let proto::Enqueue { task, assign } = form;
        Ok(Self { task: present("task", task)?, assign: maybe("assign", assign)? })
    }
}

impl Convert for Assign {
    type Form = proto::Assign;

    fn form(&self) -> proto::Assign {
        let Self { task, holder } = self;
        proto::Assign { task: task.form(), holder: Some(holder.form()) }
    }

    fn value(form: proto::Assign) -> Result<Self, DecodeError> {
        let proto::Assign { task, holder } = form;
        Ok(Self { task: field("task", task)?, holder: present("holder", holder)? })
    }
}

impl Convert for Verdict {
    type Form = proto::finish::Verdict;

    fn form(&self) -> proto::finish::Verdict {
        match self {
            Self::Done(result) => proto::finish::Verdict::Done(result.clone()),
            Self::Failed { reason, retry_after_ms } => proto::finish::Verdict::Failed(proto::Failed {
                reason: reason.clone(),
                retry_after_ms: *retry_after_ms,
            }),
            Self::Hopeless { reason } => proto::finish::Verdict::Hopeless(reason.clone()),
            Self::Returned(why) => {
                let why = match why {
                    Return::NotTaken => proto::Return::NotTaken,
                    Return::SessionBusy => proto::Return::SessionBusy,
                    Return::Interrupted => proto::Return::Interrupted,
                };
                proto::finish::Verdict::Returned(proto::Returned { why: why.into() })
            }
        }
    }

    fn value(form: proto::finish::Verdict) -> Result<Self, DecodeError> {
        Ok(match form {
            proto::finish::Verdict::Done(result) => Self::Done(result),
            proto::finish::Verdict::Failed(proto::Failed { reason, retry_after_ms }) => {
                Self::Failed { reason, retry_after_ms: field("failed.retry_after_ms", retry_after_ms)? }
            }
            proto::finish::Verdict::Hopeless(reason) => Self::Hopeless { reason },
            proto::finish::Verdict::Returned(returned) => Self::Returned(match returned.why() {
                proto::Return::NotTaken => Return::NotTaken,
                proto::Return::SessionBusy => Return::SessionBusy,
                proto::Return::Interrupted => Return::Interrupted,
            }),
        })
    }
}

impl Convert for Finish {
    type Form = proto::Finish;

    fn form(&self) -> proto::Finish {
        let Self { task, token, verdict, sends, enqueues, append } = self;
        proto::Finish {
            task: task.form(),
            token: Some(token.form()),
            verdict: Some(verdict.form()),
            sends: forms(sends),
            enqueues: forms(enqueues),
            append: append.as_deref().map(Convert::form),
        }
    }

    fn format(&self) -> u8 {
        if self.append.is_some() { 6 } else { newest(&self.enqueues) }
    }

    fn value(form: proto::Finish) -> Result<Self, DecodeError> {
        let proto::Finish { task, token, verdict, sends, enqueues, append } = form;
        Ok(Self {
            task: field("task", task)?,
            token: present("token", token)?,
            verdict: Verdict::value(verdict.ok_or_else(|| missing("verdict"))?)?,
            sends: each("sends", sends)?,
            enqueues: each("enqueues", enqueues)?,
            append: maybe("append", append)?.map(Box::new),
        })
    }
}

impl Convert for Progress {
    type Form = proto::Progress;

    fn form(&self) -> proto::Progress {
        let Self { task, token, first, notes } = self;
        proto::Progress { task: task.form(), token: Some(token.form()), first: *first, notes: notes.clone() }
    }

    fn value(form: proto::Progress) -> Result<Self, DecodeError> {
        let proto::Progress { task, token, first, notes } = form;
        Ok(Self { task: field("task", task)?, token: present("token", token)?, first: field("first", first)?, notes })
    }
}

impl Convert for Cancel {
    type Form = proto::Cancel;

    fn form(&self) -> proto::Cancel {
        let Self { task, reason, dead_too } = self;
        proto::Cancel { task: task.form(), reason: reason.clone(), dead_too: *dead_too }
    }

    fn format(&self) -> u8 {
        if self.dead_too { 3 } else { 1 }
    }

    fn value(form: proto::Cancel) -> Result<Self, DecodeError> {
        let proto::Cancel { task, reason, dead_too } = form;
        Ok(Self { task: field("task", task)?, reason, dead_too })
    }
}

impl Convert for Retry {
    type Form = proto::Retry;

    fn form(&self) -> proto::Retry {
        let Self { task } = self;
        proto::Retry { task: task.form() }
    }

    fn value(form: proto::Retry) -> Result<Self, DecodeError> {
        let proto::Retry { task } = form;
        Ok(Self { task: field("task", task)? })
    }
}

impl Convert for TimeOut {
    type Form = proto::TimeOut;

    fn form(&self) -> proto::TimeOut {
        let Self { task, token, retry_after_ms } = self;
        proto::TimeOut { task: task.form(), token: Some(token.form()), retry_after_ms: *retry_after_ms }
    }

    fn value(form: proto::TimeOut) -> Result<Self, DecodeError> {
        let proto::TimeOut { task, token, retry_after_ms } = form;
        Ok(Self {
            task: field("task", task)?,
            token: present("token", token)?,
            retry_after_ms: field("retry_after_ms", retry_after_ms)?,
        })
    }
}

impl Convert for Sweep {
    type Form = proto::Sweep;

    fn form(&self) -> proto::Sweep {
        let Self { ended_before, keyed_ended_before, rows_max } = self;
        proto::Sweep {
            ended_before_ms: ended_before.form(),
            keyed_ended_before_ms: keyed_ended_before.form(),
            rows_max: *rows_max,
        }
    }

    fn value(form: proto::Sweep) -> Result<Self, DecodeError> {
        let proto::Sweep { ended_before_ms, keyed_ended_before_ms, rows_max } = form;
        Ok(Self {
            ended_before: field("ended_before_ms", ended_before_ms)?,
            keyed_ended_before: field("keyed_ended_before_ms", keyed_ended_before_ms)?,
            rows_max,
        })
    }
}
