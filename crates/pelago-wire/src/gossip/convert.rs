//! Core's types to the generated ones and back. Both sides are taken apart field by field, so that a field added to
//! either does not compile until it is converted both ways.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelago_core::{
    id::{Holder, Incarnation, Name, NodeId},
    membership::{
        ADDRESS_BYTES_MAX, Garbled, Header, Hosting, Identity, LABEL_BYTES_MAX, LABELS_MAX, Load, Member, MemberState,
        Message, News, OFFERS_MAX, Packet, Record, Rumour, Stage,
    },
    record::Placement,
};

use super::proto::{self, Sight, Sort, rumour::News as NewsForm};

/// Shares are told in thousandths.
const WHOLE: u32 = 1_000;

pub(super) fn packet(packet: &Packet) -> proto::Packet {
    let Packet { swim, members, rumours, answer } = packet;
    proto::Packet {
        swim: swim.clone(),
        members: members.iter().map(member).collect(),
        rumours: rumours.iter().map(rumour).collect(),
        answer: *answer,
    }
}

pub(super) fn packet_of(form: proto::Packet) -> Result<Packet, Garbled> {
    let proto::Packet { swim, members, rumours, answer } = form;
    Ok(Packet {
        // Not a slice of all that was read at once: it may be kept for a while.
        swim: Bytes::copy_from_slice(&swim),
        members: members.into_iter().map(member_of).collect::<Result<_, _>>()?,
        rumours: rumours.into_iter().map(rumour_of).collect::<Result<_, _>>()?,
        answer,
    })
}

fn run(holder: Holder) -> proto::Run {
    let Holder { node: NodeId(node), incarnation: Incarnation(incarnation) } = holder;
    proto::Run { node, incarnation }
}

fn run_of(form: Option<proto::Run>) -> Result<Holder, Garbled> {
    let proto::Run { node, incarnation } = form.ok_or_else(|| missing("a run"))?;
    if node == 0 {
        return Err(Garbled("a node that was not admitted takes no part".into()));
    }
    Ok(Holder { node: NodeId(node), incarnation: Incarnation(incarnation) })
}

fn identity(identity: &Identity) -> proto::Identity {
    let Identity { holder, renewal, name, mesh_address } = identity;
    proto::Identity {
        run: Some(run(*holder)),
        renewal: *renewal,
        name: name.to_string(),
        mesh_address: mesh_address.clone(),
    }
}

fn identity_of(form: Option<proto::Identity>) -> Result<Identity, Garbled> {
    let proto::Identity { run, renewal, name, mesh_address } = form.ok_or_else(|| missing("an identity"))?;
    let mesh_address = short("an address", mesh_address, ADDRESS_BYTES_MAX)?;
    Ok(Identity { holder: run_of(run)?, renewal, name: name_of(&name)?, mesh_address })
}

pub(super) fn header(header: &Header<Identity>) -> proto::Header {
    let Header { src, src_incarnation, dst, message } = header;
    let (sort, probe, about) = match message {
        Message::Ping(probe) => (Sort::Ping, *probe, None),
        Message::Ack(probe) => (Sort::Ack, *probe, None),
        Message::PingReq { target, probe_number } => (Sort::PingRequest, *probe_number, Some(target)),
        Message::IndirectPing { origin, probe_number } => (Sort::IndirectPing, *probe_number, Some(origin)),
        Message::IndirectAck { target, probe_number } => (Sort::IndirectAck, *probe_number, Some(target)),
        Message::ForwardedAck { origin, probe_number } => (Sort::ForwardedAck, *probe_number, Some(origin)),
        Message::Announce => (Sort::Announce, 0, None),
        Message::Feed => (Sort::Feed, 0, None),
        Message::Gossip => (Sort::Gossip, 0, None),
        Message::TurnUndead => (Sort::TurnUndead, 0, None),
        Message::Broadcast => (Sort::Broadcast, 0, None),
    };
    proto::Header {
        source: Some(identity(src)),
        contradicted: (*src_incarnation).into(),
        target: Some(identity(dst)),
        sort: sort.into(),
        probe: probe.into(),
        about: about.map(identity),
    }
}

pub(super) fn header_of(form: proto::Header) -> Result<Header<Identity>, Garbled> {
    let proto::Header { source, contradicted, target, sort, probe, about } = form;
    let probe_number = u8::try_from(probe).map_err(|_| Garbled(format!("{probe} is the number of no probe")))?;
    let message = match Sort::try_from(sort) {
        Ok(Sort::Ping) => Message::Ping(probe_number),
        Ok(Sort::Ack) => Message::Ack(probe_number),
        Ok(Sort::PingRequest) => Message::PingReq { target: identity_of(about)?, probe_number },
        Ok(Sort::IndirectPing) => Message::IndirectPing { origin: identity_of(about)?, probe_number },
        Ok(Sort::IndirectAck) => Message::IndirectAck { target: identity_of(about)?, probe_number },
        Ok(Sort::ForwardedAck) => Message::ForwardedAck { origin: identity_of(about)?, probe_number },
        Ok(Sort::Announce) => Message::Announce,
        Ok(Sort::Feed) => Message::Feed,
        Ok(Sort::Gossip) => Message::Gossip,
        Ok(Sort::TurnUndead) => Message::TurnUndead,
        Ok(Sort::Broadcast) => Message::Broadcast,
        Ok(Sort::Unspecified) | Err(_) => return Err(unknown("sort of packet", sort)),
    };
    Ok(Header {
        src: identity_of(source)?,
        src_incarnation: contradicted_of(contradicted)?,
        dst: identity_of(target)?,
        message,
    })
}

pub(super) fn member(member: &Member<Identity>) -> proto::Member {
    let sight = match member.state() {
        MemberState::Alive => Sight::Alive,
        MemberState::Suspect => Sight::Suspect,
        MemberState::Down => Sight::Down,
    };
    let contradicted = member.incarnation().into();
    proto::Member { identity: Some(identity(member.id())), contradicted, sight: sight.into() }
}

pub(super) fn member_of(form: proto::Member) -> Result<Member<Identity>, Garbled> {
    let proto::Member { identity, contradicted, sight } = form;
    let state = match Sight::try_from(sight) {
        Ok(Sight::Alive) => MemberState::Alive,
        Ok(Sight::Suspect) => MemberState::Suspect,
        Ok(Sight::Down) => MemberState::Down,
        Ok(Sight::Unspecified) | Err(_) => return Err(unknown("sight of a node", sight)),
    };
    Ok(Member::new(identity_of(identity)?, contradicted_of(contradicted)?, state))
}

pub(super) fn rumour(rumour: &Rumour) -> proto::Rumour {
    let Rumour { about, version, news } = rumour;
    let news = match news {
        News::Record(Record { stage, http_address, labels, offers }) => NewsForm::Record(proto::Record {
            stage: match stage {
                Stage::Joining => proto::Stage::Joining,
                Stage::Up => proto::Stage::Up,
                Stage::Draining => proto::Stage::Draining,
                Stage::Left => proto::Stage::Left,
            }
            .into(),
            http_address: http_address.clone(),
            labels: labels.clone(),
            offers: offers.iter().map(|(name, of)| (name.to_string(), offer(*of))).collect(),
        }),
        News::Load(Load { cpu, memory, network, network_bytes, queued, messages }) => NewsForm::Load(proto::Load {
            cpu: cpu.map(u32::from),
            memory: memory.map(u32::from),
            network: network.map(u32::from),
            network_bytes: *network_bytes,
            queued: *queued,
            messages: *messages,
        }),
    };
    proto::Rumour { run: Some(run(*about)), version: *version, news: Some(news) }
}

fn rumour_of(form: proto::Rumour) -> Result<Rumour, Garbled> {
    let proto::Rumour { run, version, news } = form;
    let news = match news.ok_or_else(|| missing("a rumour's news"))? {
        NewsForm::Record(record) => News::Record(record_of(record)?),
        NewsForm::Load(proto::Load { cpu, memory, network, network_bytes, queued, messages }) => News::Load(Load {
            cpu: cpu.map(share).transpose()?,
            memory: memory.map(share).transpose()?,
            network: network.map(share).transpose()?,
            network_bytes,
            queued,
            messages,
        }),
    };
    Ok(Rumour { about: run_of(run)?, version, news })
}

fn record_of(form: proto::Record) -> Result<Record, Garbled> {
    let proto::Record { stage, http_address, labels, offers } = form;
    let stage = match proto::Stage::try_from(stage) {
        Ok(proto::Stage::Joining) => Stage::Joining,
        Ok(proto::Stage::Up) => Stage::Up,
        Ok(proto::Stage::Draining) => Stage::Draining,
        Ok(proto::Stage::Left) => Stage::Left,
        Ok(proto::Stage::Unspecified) | Err(_) => return Err(unknown("stage of a node", stage)),
    };
    few("labels", labels.len(), LABELS_MAX)?;
    few("agent names", offers.len(), OFFERS_MAX)?;
    let label = |(name, value): (String, String)| {
        Ok((short("a label", name, LABEL_BYTES_MAX)?, short("a label's value", value, LABEL_BYTES_MAX)?))
    };
    Ok(Record {
        stage,
        http_address: short("an address", http_address, ADDRESS_BYTES_MAX)?,
        labels: labels.into_iter().map(label).collect::<Result<BTreeMap<_, _>, _>>()?,
        offers: offers
            .into_iter()
            .map(|(name, offer)| Ok((name_of(&name)?, offer_of(offer)?)))
            .collect::<Result<BTreeMap<_, _>, _>>()?,
    })
}

fn offer(offer: Hosting) -> proto::Offer {
    let Hosting { placement, tasks_max } = offer;
    let placement = match placement {
        Placement::Resident => proto::Placement::Resident,
        Placement::Pool => proto::Placement::Pool,
        Placement::Keyed => proto::Placement::Keyed,
    };
    proto::Offer { placement: placement.into(), tasks_max }
}

fn offer_of(form: proto::Offer) -> Result<Hosting, Garbled> {
    let proto::Offer { placement, tasks_max } = form;
    let placement = match proto::Placement::try_from(placement) {
        Ok(proto::Placement::Resident) => Placement::Resident,
        Ok(proto::Placement::Pool) => Placement::Pool,
        Ok(proto::Placement::Keyed) => Placement::Keyed,
        Ok(proto::Placement::Unspecified) | Err(_) => return Err(unknown("placement", placement)),
    };
    Ok(Hosting { placement, tasks_max })
}

fn name_of(text: &str) -> Result<Name, Garbled> {
    Name::new(text).map_err(|invalid| Garbled(invalid.to_string()))
}

fn contradicted_of(count: u32) -> Result<u16, Garbled> {
    u16::try_from(count).map_err(|_| Garbled(format!("a node cannot contradict {count} times")))
}

fn share(thousandths: u32) -> Result<u16, Garbled> {
    let whole = u16::try_from(thousandths).ok().filter(|_| thousandths <= WHOLE);
    whole.ok_or_else(|| Garbled(format!("a share of {thousandths} thousandths is more than the whole")))
}

fn short(what: &str, text: String, bytes_max: usize) -> Result<String, Garbled> {
    match text.len() {
        bytes if bytes > bytes_max => Err(Garbled(format!("{what} of {bytes} bytes is longer than {bytes_max}"))),
        _ => Ok(text),
    }
}

fn few(what: &str, count: usize, max: usize) -> Result<(), Garbled> {
    if count > max { Err(Garbled(format!("{count} {what} of one node are more than {max}"))) } else { Ok(()) }
}

fn missing(what: &str) -> Garbled {
    Garbled(format!("{what} is missing"))
}

fn unknown(what: &str, number: i32) -> Garbled {
    Garbled(format!("{number} is a {what} that this release does not know"))
}
