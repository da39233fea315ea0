//! A process and its activations: asks, deliveries, and what activations want.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    agent::{Envelope, Failure, Input, Ticket, Work},
    id::{AgentId, Holder},
    route,
};

use super::{Context, Due, Origin, Process, RESEND};
use crate::{
    hosted::{Hosted, Wish},
    network::{Ask, Packet, Place},
};

/// How long a message waits before it is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How often an ask is passed on.
const HOPS_MAX: u32 = 4;

impl Process {
    pub(super) fn advance(&mut self, activation: u64, input: Input, cx: &mut Context<'_>) {
        if let Some(hosted) = self.activations.get_mut(&activation) {
            let mut wishes = Vec::new();
            hosted.handle(cx.now, input, cx.dice, &mut wishes);
            self.fulfil(activation, wishes, cx);
        }
    }

    pub(super) fn fulfil(&mut self, activation: u64, wishes: Vec<Wish>, cx: &mut Context<'_>) {
        for wish in wishes {
            match wish {
                Wish::Load { load } => self.load(activation, load, cx),
                Wish::Propose { proposal, op } => self.propose(activation, proposal, op, cx),
                Wish::EndTurn { after, run } => cx.after(after, Due::TurnEnds { activation, run }),
                Wish::LookAt(at) => cx.after(at - cx.now, Due::LookAt { activation }),
                Wish::Answer { ticket, answer } => self.answered(ticket, answer, cx),
                Wish::Again(envelope) => {
                    if let Some(hosted) = self.activations.get(&activation) {
                        cx.after(AGAIN, Due::Again { agent: hosted.agent.clone(), envelope });
                    }
                }
                Wish::Gone => {
                    if let Some(hosted) = self.activations.remove(&activation) {
                        self.hosts.retain(|_, n| *n != activation);
                        drop(hosted);
                    }
                }
            }
        }
    }

    pub(super) fn load(&mut self, activation: u64, load: u64, cx: &mut Context<'_>) {
        let Some(hosted) = self.activations.get(&activation).filter(|hosted| hosted.load == load) else { return };
        let Some(holder) = self.holder else { return };
        let (boot, agent) = (self.boot, hosted.agent.clone());
        cx.send(Place::Leader, Packet::Load { from: self.index, boot, activation, load, agent, holder });
        cx.after(RESEND, Due::LoadAgain { activation, load });
    }

    /// Hands something to an agent, which is taken if nobody here holds it.
    pub(super) fn deliver(&mut self, agent: &AgentId, envelope: Envelope, cx: &mut Context<'_>) {
        let Some(holder) = self.able(cx.now).filter(|_| self.delivers()) else {
            return self.answered(envelope.ticket, Err(Failure::Stopped), cx);
        };
        let activation = match self.hosts.get(agent) {
            Some(activation) => *activation,
            None => self.host(agent, holder, cx),
        };
        self.advance(activation, Input::Deliver(envelope), cx);
    }

    fn host(&mut self, agent: &AgentId, holder: Holder, cx: &mut Context<'_>) -> u64 {
        let activation = self.next();
        let mut wishes = Vec::new();
        let hosted = Hosted::new(agent.clone(), holder, cx.now, cx.dice, &mut wishes);
        self.activations.insert(activation, hosted);
        self.hosts.insert(agent.clone(), activation);
        self.fulfil(activation, wishes, cx);
        activation
    }

    pub(super) fn ticket(&mut self, origin: Origin) -> Ticket {
        let ticket = Ticket(self.next());
        self.tickets.insert(ticket, origin);
        ticket
    }

    pub(super) fn ask(&mut self, ask: Ask, cx: &mut Context<'_>) {
        // Other nodes may still ask, clients may not.
        let refuses = self.stopping.is_some() && ask.hops == 0;
        let Some(holder) = self.able(cx.now).filter(|_| !refuses) else {
            return answer(&ask, Err(Failure::Stopped), cx);
        };
        let home = route::rendezvous(&ask.agent, self.nodes.iter().map(|(holder, _)| *holder));
        if self.hosts.contains_key(&ask.agent) || home.is_none_or(|home| home == holder) || ask.hops > 1 {
            return self.ask_here(ask, cx);
        }
        self.forward(ask, home.unwrap_or(holder), cx);
    }

    fn ask_here(&mut self, ask: Ask, cx: &mut Context<'_>) {
        let (agent, payload, remember) = (ask.agent.clone(), ask.payload.clone(), ask.remember.clone());
        let ticket = self.ticket(Origin::Ask(ask));
        let work = Work::Ask { remember, session: None };
        self.deliver(&agent, Envelope { ticket, work, content: payload.into() }, cx);
    }

    fn forward(&mut self, ask: Ask, holder: Holder, cx: &mut Context<'_>) {
        match self.nodes.iter().find(|(known, _)| *known == holder) {
            Some((_, place)) if ask.hops < HOPS_MAX => {
                cx.send(*place, Packet::Ask(Ask { hops: ask.hops + 1, ..ask }));
            }
            Some(_) | None => answer(&ask, Err(Failure::Elsewhere(holder)), cx),
        }
    }

    fn answered(&mut self, ticket: Ticket, result: Result<Bytes, Failure>, cx: &mut Context<'_>) {
        match (self.tickets.remove(&ticket), result) {
            (Some(Origin::Ask(ask)), Err(Failure::Elsewhere(holder))) => self.forward(ask, holder, cx),
            (Some(Origin::Ask(ask)), result) => answer(&ask, result, cx),
            (Some(Origin::Message(id)), _) => {
                self.handling.remove(&id);
            }
            (Some(Origin::Attempt(task, _)), Ok(_)) => {
                self.attempts.remove(&task);
            }
            (Some(Origin::Attempt(task, token)), Err(failure)) => self.attempt_failed(task, token, failure, cx),
            (None, _) => {}
        }
    }
}

fn answer(ask: &Ask, answer: Result<Bytes, Failure>, cx: &mut Context<'_>) {
    cx.send(Place::Client(ask.client), Packet::Answer { serial: ask.serial, answer });
}
