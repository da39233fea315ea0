//! What a node does on request with signals and the connections that they follow.

use std::time::Duration;

use pelago_core::{
    connection::{CONNECTIONS_PER_AGENT_MAX, Connection, Filter, HOPS_MAX},
    id::{Address, Name, SignalId},
    message::Content,
    record::{Connect, ConnectionChange, Op, Outcome},
};

use super::{Connected, Error, Handle, SignalOptions, Trace};
use crate::{mesh::taken, services};

/// The longest that a signal may take.
const SIGNAL_MAX: Duration = Duration::from_mins(10);
/// The longest word that a starter has for itself, in bytes.
const FROM_BYTES_MAX: usize = 256;

impl Handle {
    /// Starts a signal. With `wait` it is waited so long for its end; it goes on if it has not ended by then. A starter
    /// that drops this future while it waits calls the signal off.
    ///
    /// # Errors
    /// [`Error`] says why it was not started.
    ///
    /// # Cancel safety
    /// Dropping the future calls the signal off: what its turns did stays done.
    pub async fn signal(
        &self,
        to: &str,
        content: impl Into<Content> + std::marker::Send,
        options: SignalOptions,
        wait: Option<Duration>,
    ) -> Result<Trace, Error> {
        self.takes_work()?;
        let content = content.into();
        let (address, _) = self.find(to)?;
        services::fits("the signal", &content.payload)?;
        check(&options)?;
        let started = self.parts().signals.start(address, content, options, self.log_time())?;
        let id = started.trace.id;
        match wait {
            Some(wait) => started.wait(wait).await.ok_or(Error::UnknownSignal(id)),
            None => Ok(started.detach()),
        }
    }

    /// A signal, whichever node took it: with `wait` once it has ended, or as it stands then.
    ///
    /// # Errors
    /// [`Error::UnknownSignal`]; [`Error::SignalAway`] if the node that took it does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn trace(&self, id: SignalId, wait: Option<Duration>) -> Result<Trace, Error> {
        let wait = wait.unwrap_or(Duration::ZERO);
        if let Some(trace) = self.parts().signals.trace(id, wait).await {
            return Ok(trace);
        }
        let view = self.parts().view.get();
        let mut others = view.nodes().filter(|node| node.id != self.holder().node);
        let Some(node) = others.find(|node| id.is_of(node.id)).map(|node| node.name.clone()) else {
            return Err(Error::UnknownSignal(id));
        };
        match taken::ask(&self.parts().links, &node, id, wait).await {
            Ok(Some(trace)) => Ok(trace),
            Ok(None) => Err(Error::UnknownSignal(id)),
            Err(taken::NoAnswer) => Err(Error::SignalAway { id, node }),
        }
    }

    /// The connections along which signals go on: those of the configuration of nodes that take part, then those that
    /// were added, each in the order of their agents.
    #[must_use]
    pub fn connections(&self) -> Vec<Connected> {
        let view = self.parts().view.get();
        let mut all = Vec::new();
        for node in view.live() {
            for (from, offer) in &node.offers {
                let declared = |connection: &Connection| Connected {
                    from: from.clone(),
                    connection: connection.clone(),
                    declared_by: Some(node.name.clone()),
                };
                all.extend(offer.connections.iter().map(declared));
            }
        }
        let added = |(from, connection): (&Name, &Connection)| Connected {
            from: from.clone(),
            connection: connection.clone(),
            declared_by: None,
        };
        all.extend(view.added_connections().map(added));
        all.sort_by(|a, b| (&a.from, a.declared_by.is_none()).cmp(&(&b.from, b.declared_by.is_none())));
        all
    }

    /// Adds a connection, or changes its filter. It is durable, and holds for every node.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with it, or why the log does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection in doubt; it can be added again.
    pub async fn connect(&self, from: &str, to: &str, only: Option<Filter>) -> Result<Connected, Error> {
        self.takes_work()?;
        let (from, to) = (self.connected_name(from)?, self.find(to)?.0);
        self.parts().view.get().placement(&from)?;
        let present = self.added(&from);
        if present.iter().all(|connection| connection.to != to) && present.len() >= CONNECTIONS_PER_AGENT_MAX {
            let text = format!("agent {from} has {CONNECTIONS_PER_AGENT_MAX} connections, and can have no more");
            return Err(Error::WrongState(text));
        }
        let change = ConnectionChange::Set(only.clone());
        self.commit(Op::Connect(Connect { from: from.clone(), to: to.clone(), change })).await?;
        Ok(Connected { from, connection: Connection { to, only }, declared_by: None })
    }

    /// Takes a connection away that was added.
    ///
    /// # Errors
    /// [`Error::UnknownConnection`]; [`Error::WrongState`] if a configuration declares it; or why the log does not
    /// answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection in doubt; it can be taken away again.
    pub async fn disconnect(&self, from: &str, to: &str) -> Result<(), Error> {
        let from = self.connected_name(from)?;
        let to = Address::parse(&Name::default_namespace(), to)?;
        let op = Connect { from: from.clone(), to: to.clone(), change: ConnectionChange::Gone };
        if let Outcome::Swept { rows: 1.. } = self.propose(Op::Connect(op)).await?.not_refused()? {
            return Ok(());
        }
        let is_it = |one: &Connected| one.from == from && one.connection.to == to;
        match self.connections().into_iter().filter(is_it).find_map(|one| one.declared_by) {
            Some(node) => {
                let text = format!("the connection from {from} to {to} stands in the configuration of node {node}");
                Err(Error::WrongState(text))
            }
            None => Err(Error::UnknownConnection { from, to }),
        }
    }

    fn added(&self, from: &Name) -> Vec<Connection> {
        let view = self.parts().view.get();
        view.added_connections().filter(|(of, _)| *of == from).map(|(_, connection)| connection.clone()).collect()
    }

    /// The name of an agent from which a connection leads on: it is that of all its keys.
    fn connected_name(&self, from: &str) -> Result<Name, Error> {
        let Address { node, agent } = Address::parse(&Name::default_namespace(), from)?;
        match (node, agent.key) {
            (None, None) => Ok(agent.name),
            (Some(_), _) | (None, Some(_)) => {
                let name = agent.name;
                Err(Error::WrongKey(format!("a connection leads on from all agents of a name: write {name}")))
            }
        }
    }
}

fn check(options: &SignalOptions) -> Result<(), Error> {
    let SignalOptions { from, timeout, hops_max } = options;
    if from.is_empty() || from.len() > FROM_BYTES_MAX || from.contains(char::is_control) {
        return Err(Error::BadOption(format!(
            "whoever starts a signal has a name of 1 to {FROM_BYTES_MAX} bytes, without control characters"
        )));
    }
    if timeout.is_zero() || *timeout > SIGNAL_MAX {
        return Err(Error::BadOption("a signal may take from 1 ms to 10 minutes".into()));
    }
    if hops_max.is_some_and(|hops_max| !(1..=HOPS_MAX).contains(&hops_max)) {
        return Err(Error::BadOption(format!("a signal has from 1 to {HOPS_MAX} hops")));
    }
    Ok(())
}
