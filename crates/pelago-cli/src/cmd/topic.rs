//! `pelago publish` and `pelago tail`: topics.

use std::num::NonZeroU64;

use pelago::mesh::{self, Subscription};
use pelago_api::{
    client::Client,
    model::{Payload, Published},
};
use pelago_core::id::Name;

use super::request::link_of;
use crate::{
    exit::Exit,
    input::{AboutArgs, InputArgs},
    output::{Error, Output},
};

pub(super) const PUBLISH_EXAMPLES: &str = "\
Examples:
  pelago publish orders.eu '{\"id\": 17}'
  pelago agent tell '#orders.eu' 17       # the same: a topic is told like an agent
  date | pelago publish clock -";

pub(super) const TAIL_EXAMPLES: &str = "\
Examples:
  pelago tail orders.eu                   # Ctrl-C ends it
  pelago tail 'orders.*'                  # * is any part of a dotted name, ** any parts at its end
  pelago tail '**' --count 10 -o json";

#[derive(Debug, clap::Args)]
pub(crate) struct PublishArgs {
    /// The topic: a dotted name
    #[arg(value_name = "TOPIC")]
    topic: Name,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    about: AboutArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// The topics: NAME, or a pattern of dotted names with `*` and `**`
    #[arg(value_name = "PATTERN")]
    to: String,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
}

pub(super) async fn publish(args: &PublishArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let message = args.input.message(&args.about, output)?;
    let told = client.publish(args.topic.as_str(), message).await?;
    output.document(&told, |_nothing_to_tell| String::new())?;
    output.note("published: whoever subscribes at this moment hears it");
    Ok(Exit::Done)
}

pub(super) async fn tail(args: &TailArgs, urls: &[String], output: Output) -> Result<Exit, Error> {
    let mut subscription = subscribed(urls, &args.to).await?;
    output.note("listening; Ctrl-C ends it");
    let mut left = args.count.map(NonZeroU64::get);
    while left != Some(0) {
        match subscription.next().await {
            Ok(published) => show(published, output)?,
            // The node was lost: another one hears the same.
            Err(error) => {
                output.note(&format!("{error}; trying again"));
                if let Ok(other) = subscribed(urls, &args.to).await {
                    subscription = other;
                }
                continue;
            }
        }
        left = left.map(|left| left - 1);
    }
    Ok(Exit::Done)
}

/// Subscribes at whichever of the nodes answers.
async fn subscribed(urls: &[String], to: &str) -> Result<Subscription, Error> {
    Ok(link_of(urls).await?.subscribe(to).await?)
}

fn show(published: mesh::Published, output: Output) -> Result<(), Error> {
    let published = Published::from(published);
    if published.missed > 0 {
        output.note(&format!("{} messages were missed", published.missed));
    }
    output.document(&published, |Published { topic, message, .. }| format!("{topic} {}", Payload::json(message)))
}
