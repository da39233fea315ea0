//! What a client hears of topics, over its link.

use std::collections::HashMap;

use bytes::Bytes;
use pelago_core::{link::Lane, message::Content};
use pelago_wire::{
    client::{self as wire, SUBSCRIPTIONS_MAX, answer},
    headers,
    tell::kind,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::clients::NoValue;
use crate::{
    Handle,
    handle::{Error, Published, Subscription},
};

/// The subscriptions of one link, by the numbers that the client gave them. They end with it.
#[derive(Default)]
pub(super) struct Subscriptions(HashMap<u64, DropGuard>);

impl Subscriptions {
    /// Begins one. The answer says whether it did.
    pub(super) fn begin(
        &mut self,
        node: &Handle,
        link: &pelago_net::Handle,
        payload: Bytes,
        loops: &TaskTracker,
    ) -> Result<answer::Answer, NoValue> {
        let wire::Subscribe { to, number } = wire::decode("subscription", payload)?;
        if self.0.len() >= SUBSCRIPTIONS_MAX && !self.0.contains_key(&number) {
            let busy = format!("a link has {SUBSCRIPTIONS_MAX} subscriptions at most");
            return Err(Error::Busy(busy).into());
        }
        let stop = CancellationToken::new();
        loops.spawn(bring(node.subscribe(&to)?, link.clone(), number, stop.clone()));
        // The one that had the number, if any, ends.
        self.0.insert(number, stop.drop_guard());
        Ok(answer::Answer::Subscribed(wire::Subscribed {}))
    }

    pub(super) fn end(&mut self, number: u64) {
        self.0.remove(&number);
    }
}

/// Brings a client what it subscribes to, as fast as it takes it.
async fn bring(mut subscription: Subscription, link: pelago_net::Handle, number: u64, stop: CancellationToken) {
    let bringing = async {
        while let Some(Published { topic, content, missed }) = subscription.next().await {
            let Content { headers, payload } = content;
            let headers = headers::field(headers.as_deref());
            let message = wire::encode(&wire::Published { topic: topic.to_string(), payload, missed, headers });
            if link.send(Lane::Bulk, kind::PUBLISHED, number, &message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = bringing => {}
    }
}
