//! Connections, and the op that changes them.

use pelago_core::{
    connection::{Connection, Filter},
    id::Address,
    record::{Connect, ConnectionChange},
};

use super::{
    DecodeError, Fault,
    convert::{Convert, field, maybe, missing, present},
};
use crate::proto::{self, Nothing, connect::Change};

impl Convert for Address {
    type Form = proto::Address;

    fn form(&self) -> proto::Address {
        let Self { node, agent } = self;
        proto::Address { node: node.as_ref().map(Convert::form), agent: Some(agent.form()) }
    }

    fn value(form: proto::Address) -> Result<Self, DecodeError> {
        let proto::Address { node, agent } = form;
        Ok(Self { node: maybe("node", node)?, agent: present("agent", agent)? })
    }
}

impl Convert for Filter {
    type Form = String;

    fn form(&self) -> String {
        self.to_string()
    }

    fn value(form: String) -> Result<Self, DecodeError> {
        form.parse().map_err(|_no_filter| Fault::Filter(form.chars().take(80).collect()).into())
    }
}

impl Convert for Connection {
    type Form = proto::Connection;

    fn form(&self) -> proto::Connection {
        let Self { to, only } = self;
        proto::Connection { to: Some(to.form()), only: only.as_ref().map(Filter::form) }
    }

    fn value(form: proto::Connection) -> Result<Self, DecodeError> {
        let proto::Connection { to, only } = form;
        Ok(Self { to: present("to", to)?, only: maybe("only", only)? })
    }
}

impl Convert for Connect {
    type Form = proto::Connect;

    fn form(&self) -> proto::Connect {
        let Self { from, to, change } = self;
        let change = match change {
            ConnectionChange::Set(only) => Change::Set(only.as_ref().map(Filter::form).unwrap_or_default()),
            ConnectionChange::Gone => Change::Gone(Nothing {}),
        };
        proto::Connect { from: from.form(), to: Some(to.form()), change: Some(change) }
    }

    fn value(form: proto::Connect) -> Result<Self, DecodeError> {
        let proto::Connect { from, to, change } = form;
        let change = match change.ok_or_else(|| missing("change"))? {
            Change::Set(only) if only.is_empty() => ConnectionChange::Set(None),
            Change::Set(only) => ConnectionChange::Set(Some(field("set", only)?)),
            Change::Gone(Nothing {}) => ConnectionChange::Gone,
        };
        Ok(Self { from: field("from", from)?, to: present("to", to)?, change })
    }
}
