//! `pelago publish` and `pelago tail`: topics.

use std::{num::NonZeroU64, time::Duration};

use pelago::{
    Mesh,
    mesh::{self, Subscription},
};
use pelago_api::{
    client::Client,
    model::{Moved, Payload, Published},
};
use pelago_core::id::Name;
use tokio::time::{Instant, sleep, timeout};

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
When its node is lost, another one of those given is listened at: that is told on stderr, and to programs as a document
of the kind Moved, with how long nothing was heard.

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

/// How long one try to listen elsewhere may take for each node that may be asked, and the pause before the next.
const TRY_MAX: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn tail(args: &TailArgs, urls: &[String], output: Output) -> Result<Exit, Error> {
    let mut listening = Listening::begin(urls, &args.to).await?;
    output.note("listening; Ctrl-C ends it");
    let mut left = args.count.map(NonZeroU64::get);
    let mut heard = Instant::now();
    while left != Some(0) {
        match listening.subscription.next().await {
            Ok(published) => show(published, output)?,
            // The node was lost: another one hears the same.
            Err(error) => {
                output.note(&format!("{error}; trying again"));
                let from = listening.node.take();
                listening = Listening::again(urls, &args.to).await;
                // When the node was lost nobody knows: it may have been frozen before its link ended.
                let deaf_ms = u64::try_from(heard.elapsed().as_millis()).unwrap_or(u64::MAX);
                moved(&Moved { from, to: listening.node.clone(), deaf_ms }, output)?;
                heard = Instant::now();
                continue;
            }
        }
        heard = Instant::now();
        left = left.map(|left| left - 1);
    }
    Ok(Exit::Done)
}

/// A subscription, and the name of the node that it is at.
struct Listening {
    subscription: Subscription,
    node: Option<String>,
}

impl Listening {
    /// Subscribes at whichever of the nodes answers.
    async fn begin(urls: &[String], to: &str) -> Result<Self, Error> {
        let mesh: Mesh = link_of(urls).await?;
        let subscription = mesh.subscribe(to).await?;
        Ok(Self { subscription, node: mesh.node().as_ref().map(Name::to_string) })
    }

    /// The same, as soon as one does.
    async fn again(urls: &[String], to: &str) -> Self {
        let try_max = TRY_MAX * u32::try_from(urls.len()).unwrap_or(u32::MAX);
        loop {
            if let Ok(Ok(listening)) = timeout(try_max, Self::begin(urls, to)).await {
                return listening;
            }
            sleep(TRY_AGAIN).await;
        }
    }
}

/// To programs it is a document among those of the messages; people read on stdout what was published, and nothing else.
fn moved(moved: &Moved, output: Output) -> Result<(), Error> {
    let Moved { from, to, deaf_ms } = moved;
    let name = |node: &Option<String>| node.clone().unwrap_or_else(|| "another node".into());
    let (from, to) = (name(from), name(to));
    let missed = format!("nothing was heard for {deaf_ms} ms, and what was published then may be missed");
    output.note(&format!("the link with {from} was lost, listening at {to}: {missed}"));
    output.document(moved, |_said_already| String::new())
}

fn show(published: mesh::Published, output: Output) -> Result<(), Error> {
    let published = Published::from(published);
    if published.missed > 0 {
        output.note(&format!("{} messages were missed", published.missed));
    }
    output.document(&published, |Published { topic, message, .. }| format!("{topic} {}", Payload::json(message)))
}
