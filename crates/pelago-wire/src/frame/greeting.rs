//! Hello, refusal and goodbye as protobuf.

use bytes::BytesMut;
use pelago_core::{
    id::{BootId, Incarnation, MeshId, Name, NodeId},
    link::{Goodbye, Hello, PerLane, Refusal, Role, Versions},
};
use prost::Message;

use super::Malformed;

#[expect(unreachable_pub, reason = "generated code makes everything public")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.link.v1.rs"));
}

use proto::refuse::Reason;

pub(super) fn put_hello(buffer: &mut BytesMut, hello: &Hello) {
    let Hello { versions, mesh, mesh_name, node_name, node, boot, incarnation, role, features, credit, requests_max } =
        hello;
    let message = proto::Hello {
        version_oldest: versions.oldest,
        version_newest: versions.newest,
        mesh: mesh.map(|mesh| mesh.0.to_le_bytes().to_vec().into()).unwrap_or_default(),
        mesh_name: mesh_name.to_string(),
        node_name: node_name.to_string(),
        node: node.0,
        boot: boot.0.to_le_bytes().to_vec().into(),
        incarnation: incarnation.0,
        role: role_to(*role).into(),
        features: *features,
        credit: credit.0.to_vec(),
        requests_max: *requests_max,
    };
    put(buffer, &message);
}

pub(super) fn hello(payload: &[u8]) -> Result<Hello, Malformed> {
    let proto::Hello {
        version_oldest,
        version_newest,
        mesh,
        mesh_name,
        node_name,
        node,
        boot,
        incarnation,
        role,
        features,
        credit,
        requests_max,
    } = decode(payload)?;
    Ok(Hello {
        versions: Versions { oldest: version_oldest, newest: version_newest },
        mesh: if mesh.is_empty() { None } else { Some(MeshId(wide(&mesh)?)) },
        mesh_name: name(&mesh_name)?,
        node_name: name(&node_name)?,
        node: NodeId(node),
        boot: BootId(wide(&boot)?),
        incarnation: Incarnation(incarnation),
        role: role_from(role)?,
        features,
        credit: PerLane(credit.try_into().map_err(|_| Malformed)?),
        requests_max,
    })
}

pub(super) fn put_refusal(buffer: &mut BytesMut, refusal: &Refusal) {
    let nothing = proto::Nothing {};
    let reason = match refusal {
        Refusal::OtherMesh { mesh_name } => Reason::OtherMesh(mesh_name.to_string()),
        Refusal::SameNode => Reason::SameNode(nothing),
        Refusal::NameTaken { name } => Reason::NameTaken(name.to_string()),
        Refusal::UnknownVersion { oldest, newest } => {
            Reason::UnknownVersion(proto::Versions { oldest: *oldest, newest: *newest })
        }
        Refusal::TooManyLinks { links_max } => Reason::TooManyLinks(*links_max),
        Refusal::Duplicate { here, there } => {
            Reason::Duplicate(proto::Nodes { here: here.to_string(), there: there.to_string() })
        }
        Refusal::OldRun { at } => Reason::OldRun(proto::LaterRun { at: at.clone() }),
        Refusal::Removed => Reason::Removed(nothing),
        Refusal::Running => Reason::Running(nothing),
        Refusal::Stopping => Reason::Stopping(nothing),
        Refusal::TooLittleCredit => Reason::TooLittleCredit(nothing),
        Refusal::NotTheProtocol => Reason::NotTheProtocol(nothing),
    };
    put(buffer, &proto::Refuse { reason: Some(reason) });
}

pub(super) fn refusal(payload: &[u8]) -> Result<Refusal, Malformed> {
    let proto::Refuse { reason } = decode(payload)?;
    Ok(match reason.ok_or(Malformed)? {
        Reason::OtherMesh(mesh) => Refusal::OtherMesh { mesh_name: name(&mesh)? },
        Reason::SameNode(_) => Refusal::SameNode,
        Reason::NameTaken(taken) => Refusal::NameTaken { name: name(&taken)? },
        Reason::UnknownVersion(proto::Versions { oldest, newest }) => Refusal::UnknownVersion { oldest, newest },
        Reason::TooManyLinks(links_max) => Refusal::TooManyLinks { links_max },
        Reason::Duplicate(proto::Nodes { here, there }) => {
            Refusal::Duplicate { here: name(&here)?, there: name(&there)? }
        }
        Reason::OldRun(proto::LaterRun { at }) => Refusal::OldRun { at },
        Reason::Removed(_) => Refusal::Removed,
        Reason::Running(_) => Refusal::Running,
        Reason::Stopping(_) => Refusal::Stopping,
        Reason::TooLittleCredit(_) => Refusal::TooLittleCredit,
        Reason::NotTheProtocol(_) => Refusal::NotTheProtocol,
    })
}

pub(super) fn put_goodbye(buffer: &mut BytesMut, why: Goodbye) {
    let why = match why {
        Goodbye::Stopping => proto::Why::Stopping,
        Goodbye::Replaced => proto::Why::Replaced,
        Goodbye::Broken => proto::Why::Broken,
    };
    put(buffer, &proto::Goodbye { why: why.into() });
}

pub(super) fn goodbye(payload: &[u8]) -> Result<Goodbye, Malformed> {
    let proto::Goodbye { why } = decode(payload)?;
    match proto::Why::try_from(why) {
        Ok(proto::Why::Stopping) => Ok(Goodbye::Stopping),
        Ok(proto::Why::Replaced) => Ok(Goodbye::Replaced),
        Ok(proto::Why::Broken) => Ok(Goodbye::Broken),
        Ok(proto::Why::Unknown) | Err(_) => Err(Malformed),
    }
}

fn role_to(role: Role) -> proto::Role {
    match role {
        Role::Main => proto::Role::Main,
        Role::Consensus => proto::Role::Consensus,
        Role::Client => proto::Role::Client,
    }
}

fn role_from(role: i32) -> Result<Role, Malformed> {
    match proto::Role::try_from(role) {
        Ok(proto::Role::Main) => Ok(Role::Main),
        Ok(proto::Role::Consensus) => Ok(Role::Consensus),
        Ok(proto::Role::Client) => Ok(Role::Client),
        Ok(proto::Role::Unknown) | Err(_) => Err(Malformed),
    }
}

fn put(buffer: &mut BytesMut, message: &impl Message) {
    message.encode(buffer).expect("a buffer in memory has room");
}

fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, Malformed> {
    M::decode(payload).map_err(|_| Malformed)
}

fn wide(bytes: &[u8]) -> Result<u128, Malformed> {
    bytes.try_into().map(u128::from_le_bytes).map_err(|_| Malformed)
}

fn name(text: &str) -> Result<Name, Malformed> {
    Name::new(text).map_err(|_| Malformed)
}
