//! Questions within sessions: where each is asked, and how it goes to another node.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::{
    agent::Failure,
    id::{AgentId, Holder, Name},
    route,
};
use pelago_wire::mesh::{self as wire, kind};
use tokio::time::Instant;

use super::{
    answer::{self, Question},
    router::{Router, Wish},
};
use crate::{
    agents::Agents,
    sessions::{InSession, WhenBusy},
};

/// A question within a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conversing {
    pub(super) question: Question,
    pub(super) within: InSession,
}

/// What a request sticks to: whatever has the same key goes to the same host, as long as that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stick {
    pub(super) key: u64,
    /// The host that has what belongs to the request. It is preferred as long as it is there.
    pub(super) held: Option<Holder>,
}

impl Stick {
    /// Requests to one agent with the same text.
    pub(crate) fn to(agent: &AgentId, text: &str) -> Self {
        Self { key: route::key_among(agent, text), held: None }
    }
}

impl Wish for Conversing {
    type Answer = Bytes;
    const KIND: u16 = kind::CONVERSE;

    fn agent(&self) -> &AgentId {
        &self.question.agent
    }

    fn payload(&self) -> &Bytes {
        &self.question.content.payload
    }

    fn encode(&self) -> Bytes {
        let within = session_form(&self.within);
        wire::encode(&wire::Converse { ask: Some(answer::ask_of(&self.question)), within: Some(within) })
    }

    fn decode(&self, answer: Bytes) -> (Result<Bytes, Failure>, Option<u32>) {
        answer::decode_asked(answer)
    }

    async fn here(&self, agents: Arc<Agents>, _deadline: Instant) -> Result<Bytes, Failure> {
        let Question { agent, content, remember } = &self.question;
        Box::pin(agents.converse(agent, &self.within, remember.clone(), content.clone())).await
    }

    fn may_be_repeated(&self) -> bool {
        false
    }
}

impl Router {
    /// Where a session is: where its last turn was, as far as is known here.
    pub(super) async fn session_stick(&self, agent: &AgentId, within: &InSession) -> Stick {
        let (reader, id) = (Arc::clone(&self.reader), within.with(agent));
        let read = tokio::task::spawn_blocking(move || reader.view(|view| view.session(&id))).await;
        // Unread, it is found by its name alone, and the store knows better.
        let row = read.ok().and_then(Result::ok).flatten();
        Stick { held: row.map(|row| row.holder), ..Stick::to(agent, within.name.as_str()) }
    }
}

/// Decodes a question within a session. `None` if it is none.
pub(super) fn decode_conversing(bytes: Bytes) -> Option<Conversing> {
    let wire::Converse { ask, within } = wire::decode("question within a session", bytes).ok()?;
    Some(Conversing { question: answer::question_of(ask?)?, within: session_value(within?)? })
}

fn session_form(within: &InSession) -> wire::Within {
    let InSession { name, busy, ttl } = within;
    wire::Within {
        name: name.to_string(),
        busy: busy.map(|busy| busy.name().to_owned()),
        ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn session_value(within: wire::Within) -> Option<InSession> {
    let wire::Within { name, busy, ttl_ms } = within;
    let busy: Option<WhenBusy> = busy.map(|busy| busy.parse()).transpose().ok()?;
    Some(InSession { name: Name::new(&name).ok()?, busy, ttl: ttl_ms.map(Duration::from_millis) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_within_a_session_arrives_as_it_was_asked() {
        let name = |text| Name::new(text).expect("valid");
        let agent = AgentId::unkeyed(name("chat"));
        let question = Question { agent, content: Bytes::from_static(b"?").into(), remember: None };
        for busy in WhenBusy::ALL.map(Some).into_iter().chain([None]) {
            let ttl = busy.map(|_| Duration::from_millis(1_500));
            let within = InSession { name: name("s1"), busy, ttl };
            let conversing = Conversing { question: question.clone(), within };
            assert_eq!(decode_conversing(conversing.encode()), Some(conversing));
        }
        assert_eq!(decode_conversing(answer::encode_question(&question)), None);
    }
}
