//! Names and ids.

use bytes::Bytes;
use pelago_core::{
    id::{
        AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Incarnation, Key, Name, NodeId, TaskId, TimerName,
        TurnId, Version,
    },
    record::{BodyHash, IdempotencyKey, MessageId, Sender},
};

use super::{
    DecodeError,
    convert::{Convert, field, maybe, missing, present},
};
use crate::proto;

macro_rules! newtypes {
    ($form:ty: $($name:ident),*) => {$(
        impl Convert for $name {
            type Form = $form;

            fn form(&self) -> $form {
                let Self(inner) = self;
                inner.form()
            }

            fn value(form: $form) -> Result<Self, DecodeError> {
                Convert::value(form).map(Self)
            }
        }
    )*};
}

newtypes!(u64: NodeId, Incarnation, Epoch, Version);
newtypes!(Bytes: DirectoryId, BootId, TurnId, TaskId, BodyHash);

impl Convert for Name {
    type Form = String;

    fn form(&self) -> String {
        self.as_str().to_owned()
    }

    fn value(form: String) -> Result<Self, DecodeError> {
        Ok(Self::new(&form)?)
    }
}

impl Convert for Key {
    type Form = String;

    fn form(&self) -> String {
        self.as_str().to_owned()
    }

    fn value(form: String) -> Result<Self, DecodeError> {
        Ok(Self::new(&form)?)
    }
}

impl Convert for TimerName {
    type Form = String;

    fn form(&self) -> String {
        self.as_str().to_owned()
    }

    fn value(form: String) -> Result<Self, DecodeError> {
        Ok(Self::new(&form)?)
    }
}

impl Convert for AgentId {
    type Form = proto::AgentId;

    fn form(&self) -> proto::AgentId {
        let Self { namespace, name, key } = self;
        proto::AgentId { namespace: namespace.form(), name: name.form(), key: key.as_ref().map(Key::form) }
    }

    fn value(form: proto::AgentId) -> Result<Self, DecodeError> {
        let proto::AgentId { namespace, name, key } = form;
        Ok(Self { namespace: field("namespace", namespace)?, name: field("name", name)?, key: maybe("key", key)? })
    }
}

impl Convert for Holder {
    type Form = proto::Holder;

    fn form(&self) -> proto::Holder {
        let Self { node, incarnation } = self;
        proto::Holder { node: node.form(), incarnation: incarnation.form() }
    }

    fn value(form: proto::Holder) -> Result<Self, DecodeError> {
        let proto::Holder { node, incarnation } = form;
        Ok(Self { node: field("node", node)?, incarnation: field("incarnation", incarnation)? })
    }
}

impl Convert for FencingToken {
    type Form = proto::FencingToken;

    fn form(&self) -> proto::FencingToken {
        let Self { index, item } = *self;
        proto::FencingToken { index, item }
    }

    fn value(form: proto::FencingToken) -> Result<Self, DecodeError> {
        let proto::FencingToken { index, item } = form;
        Ok(Self { index: field("index", index)?, item })
    }
}

impl Convert for IdempotencyKey {
    type Form = proto::IdempotencyKey;

    fn form(&self) -> proto::IdempotencyKey {
        let Self { namespace, key } = self;
        proto::IdempotencyKey { namespace: namespace.form(), key: key.clone() }
    }

    fn value(form: proto::IdempotencyKey) -> Result<Self, DecodeError> {
        let proto::IdempotencyKey { namespace, key } = form;
        Ok(Self { namespace: field("namespace", namespace)?, key })
    }
}

impl Convert for Sender {
    type Form = proto::Sender;

    fn form(&self) -> proto::Sender {
        use proto::sender::From;
        let from = match self {
            Self::Agent(agent) => From::Agent(agent.form()),
            Self::Task(task) => From::Task(task.form()),
            Self::Client(client) => From::Client(client.form()),
            Self::Timer(name) => From::Timer(name.form()),
        };
        proto::Sender { from: Some(from) }
    }

    fn value(form: proto::Sender) -> Result<Self, DecodeError> {
        use proto::sender::From;
        let proto::Sender { from } = form;
        Ok(match from.ok_or_else(|| missing("from"))? {
            From::Agent(agent) => Self::Agent(field("agent", agent)?),
            From::Task(task) => Self::Task(field("task", task)?),
            From::Client(client) => Self::Client(field("client", client)?),
            From::Timer(name) => Self::Timer(field("timer", name)?),
        })
    }
}

impl Convert for MessageId {
    type Form = proto::MessageId;

    fn form(&self) -> proto::MessageId {
        let Self { sender, generation, seq } = self;
        proto::MessageId { sender: Some(sender.form()), generation: *generation, seq: *seq }
    }

    fn value(form: proto::MessageId) -> Result<Self, DecodeError> {
        let proto::MessageId { sender, generation, seq } = form;
        Ok(Self {
            sender: present("sender", sender)?,
            generation: field("generation", generation)?,
            seq: field("seq", seq)?,
        })
    }
}
