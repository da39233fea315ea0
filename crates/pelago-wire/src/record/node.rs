//! Ops of nodes.

use std::collections::BTreeMap;

use pelago_core::{
    id::{Incarnation, Name, NodeId},
    record::{Expire, Offer, Placement, Register, Remove},
};

use super::{
    DecodeError, Fault,
    convert::{Convert, each, field, forms, maybe, present},
};
use crate::proto;

impl Convert for Placement {
    type Form = i32;

    fn form(&self) -> i32 {
        match self {
            Self::Resident => proto::Placement::Resident,
            Self::Pool => proto::Placement::Pool,
            Self::Keyed => proto::Placement::Keyed,
        }
        .into()
    }

    fn value(form: i32) -> Result<Self, DecodeError> {
        match proto::Placement::try_from(form) {
            Ok(proto::Placement::Resident) => Ok(Self::Resident),
            Ok(proto::Placement::Pool) => Ok(Self::Pool),
            Ok(proto::Placement::Keyed) => Ok(Self::Keyed),
            Ok(proto::Placement::Unspecified) | Err(_) => Err(Fault::Unknown(form).into()),
        }
    }
}

impl Convert for Offer {
    type Form = proto::Offer;

    fn form(&self) -> proto::Offer {
        let Self { placement, tasks_max, layer, connections } = self;
        proto::Offer {
            placement: placement.form(),
            tasks_max: *tasks_max,
            layer: layer.as_ref().map(Name::form),
            connections: forms(connections),
        }
    }

    fn format(&self) -> u8 {
        if self.layer.is_some() || !self.connections.is_empty() { 4 } else { 1 }
    }

    fn value(form: proto::Offer) -> Result<Self, DecodeError> {
        let proto::Offer { placement, tasks_max, layer, connections } = form;
        Ok(Self {
            placement: field("placement", placement)?,
            tasks_max,
            layer: maybe("layer", layer)?,
            connections: each("connections", connections)?,
        })
    }
}

impl Convert for BTreeMap<Name, Offer> {
    type Form = BTreeMap<String, proto::Offer>;

    fn form(&self) -> Self::Form {
        self.iter().map(|(name, offer)| (name.form(), offer.form())).collect()
    }

    fn format(&self) -> u8 {
        self.values().map(Offer::format).max().unwrap_or(1)
    }

    fn value(form: Self::Form) -> Result<Self, DecodeError> {
        let pair = |(name, offer): (String, _)| {
            let offer = Offer::value(offer).map_err(|e| e.within(&format!("[{name}]")))?;
            Ok((Name::value(name)?, offer))
        };
        form.into_iter().map(pair).collect()
    }
}

impl Convert for Register {
    type Form = proto::Register;

    fn form(&self) -> proto::Register {
        let Self { name, directory, boot, mesh_address, http_address, labels, offers, node, left } = self;
        proto::Register {
            name: name.form(),
            directory: directory.form(),
            boot: boot.form(),
            mesh_address: mesh_address.clone(),
            http_address: http_address.clone(),
            labels: labels.clone(),
            offers: offers.form(),
            node: node.as_ref().map(NodeId::form),
            left: left.as_ref().map(Incarnation::form),
        }
    }

    fn value(form: proto::Register) -> Result<Self, DecodeError> {
        let proto::Register { name, directory, boot, mesh_address, http_address, labels, offers, node, left } = form;
        Ok(Self {
            name: field("name", name)?,
            directory: field("directory", directory)?,
            boot: field("boot", boot)?,
            mesh_address,
            http_address,
            labels,
            offers: field("offers", offers)?,
            node: node.map(|node| field("node", node)).transpose()?,
            left: left.map(|left| field("left", left)).transpose()?,
        })
    }
}

impl Convert for Expire {
    type Form = proto::Expire;

    fn form(&self) -> proto::Expire {
        let Self { holder, left } = self;
        proto::Expire { holder: Some(holder.form()), left: *left }
    }

    fn value(form: proto::Expire) -> Result<Self, DecodeError> {
        let proto::Expire { holder, left } = form;
        Ok(Self { holder: present("holder", holder)?, left })
    }
}

impl Convert for Remove {
    type Form = proto::Remove;

    fn form(&self) -> proto::Remove {
        let Self { node } = self;
        proto::Remove { node: node.form() }
    }

    fn value(form: proto::Remove) -> Result<Self, DecodeError> {
        let proto::Remove { node } = form;
        Ok(Self { node: field("node", node)? })
    }
}
