//! `pelago agent …`

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use pelago::WhenBusy;
use pelago_api::{
    client::{AgentQuery, AskQuery, Client, DeadMessageQuery},
    model::{Agent, AgentList, DeadMessage, DeadMessageList, Dismissed, Document, Payload, Reached, Timer, words},
};
use pelago_core::id::Name;
use serde::Serialize;

use super::paging::Paging;
use crate::{
    exit::Exit,
    input::{self, AboutArgs, InputArgs},
    output::{Error, Output, columns, one_line},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum AgentCommand {
    /// List keyed agents that have had a turn
    #[command(after_long_help = LS_EXAMPLES)]
    Ls(LsArgs),
    /// Show the state of a keyed agent
    #[command(after_long_help = STATE_EXAMPLES)]
    State(StateArgs),
    /// Ask an agent and show its reply
    #[command(after_long_help = ASK_EXAMPLES)]
    Ask(AskArgs),
    /// Send an agent a durable message
    ///
    /// It is handled once, however long that takes; if the agent fails at it too often, `agent dead` lists it. There is
    /// no reply.
    #[command(after_long_help = SEND_EXAMPLES)]
    Send(MessageArgs),
    /// Tell an agent something that nobody answers
    ///
    /// It is handled at once and at most once: nothing is stored, and it is lost with the node that it is on its way to.
    #[command(after_long_help = TELL_EXAMPLES)]
    Tell(TellArgs),
    /// Tell all agents whose names meet a pattern
    ///
    /// Residents, pools (each once a node), and keyed agents that are in memory, on all nodes. The answer says how many
    /// that were. Like `tell`: nothing is stored, and nobody answers.
    #[command(after_long_help = BROADCAST_EXAMPLES)]
    Broadcast(BroadcastArgs),
    /// List messages that an agent failed at too often
    ///
    /// They are kept and tried no more. What a message was meant to do can be sent again.
    #[command(after_long_help = DEAD_EXAMPLES)]
    Dead(DeadArgs),
    /// Forget the messages that an agent failed at too often
    ///
    /// All that `agent dead ADDRESS` lists, for good: `pelago status` does not name them as a problem any more.
    #[command(after_long_help = DISMISS_EXAMPLES)]
    Dismiss(DismissArgs),
}

const LS_EXAMPLES: &str = "\
Examples:
  pelago agent ls
  pelago agent ls --name counter --limit 10
  pelago agent ls --all -o json | jq '.items | length'";

const STATE_EXAMPLES: &str = "\
Examples:
  pelago agent state counter:a
  pelago agent state counter:a -o json";

const ASK_EXAMPLES: &str = "\
Examples:
  pelago agent ask counter:a            # no input is null: the counter adds 1
  pelago agent ask counter:a 5
  pelago agent ask echo '{\"text\": \"hello\"}'
  pelago agent ask counter:a 5 --key order-17    # again with this key: same reply, counted once
  pelago agent ask reminder:a '{\"note\": \"tea\", \"after_ms\": 5000}'   # `agent state reminder:a` shows the timer
  pelago agent ask chat hello --session s1      # again: it has heard 2 messages; `session show chat s1` has them
  pelago agent ask reader @request.json --affinity docs      # the same node for the same text
  echo 5 | pelago agent ask counter:a -
  pelago agent ask echo '[not JSON' --text
  pelago agent ask node-1/reader @request.json --timeout 5s";

const SEND_EXAMPLES: &str = "\
Examples:
  pelago agent send counter:a 5
  pelago agent send counter:a 5 --key order-18";

const TELL_EXAMPLES: &str = "\
Examples:
  pelago agent tell counter:a 5
  pelago agent tell tally '{\"any\": \"JSON\"}'    # counts what it is told; `agent ask tally` says how much
  pelago agent tell node-2/tally 1
  pelago agent tell counter:a 5 --priority 0 --within 2s     # before what waits; not at all if that takes 2 s
  pelago agent tell tally @picture.png --content-type image/png --type 7";

const BROADCAST_EXAMPLES: &str = "\
Examples:
  pelago agent broadcast tally 1          # all agents of this name: one on each node
  pelago agent broadcast counter 1        # all counters in memory
  pelago agent broadcast 'prod.*' '{\"pause\": true}'     # * is any part of a dotted name, ** any parts at its end
  pelago agent broadcast '**' 1 -o json";

const DEAD_EXAMPLES: &str = "\
Examples:
  pelago agent dead
  pelago agent dead counter:a
  pelago agent dead --all -o json | jq -r '.items[].message'";

const DISMISS_EXAMPLES: &str = "\
Examples:
  pelago agent dead counter:a --all -o json | tee dead.json    # keep what they say
  pelago agent dismiss counter:a";

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Only agents of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StateArgs {
    /// The agent: NAME:KEY
    #[arg(value_name = "ADDRESS")]
    address: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    about: AboutArgs,
    /// How long to wait for the reply: like 500ms or 30s, a minute at most
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = reply_limit)]
    timeout: Duration,
    /// The conversation it belongs to: the agent sees what was said before, and is asked where that is
    #[arg(long, value_name = "SESSION", conflicts_with = "affinity")]
    session: Option<Name>,
    /// While another message of the session is being handled: queue, reject or interrupt
    #[arg(long, value_name = "WHAT", requires = "session")]
    busy: Option<WhenBusy>,
    /// How long the session is kept if nobody uses it: like 30s or 24h
    #[arg(long, value_name = "DURATION", requires = "session", value_parser = input::duration)]
    ttl: Option<Duration>,
    /// Questions with the same text here go to the same node
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    affinity: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeadArgs {
    /// Only messages to this agent: NAME:KEY
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DismissArgs {
    /// The agent: NAME:KEY
    #[arg(value_name = "ADDRESS")]
    address: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MessageArgs {
    /// The agent: NAME:KEY; for a question also NAME or NODE/NAME[:KEY]
    #[arg(value_name = "ADDRESS")]
    address: String,
    #[command(flatten)]
    input: InputArgs,
    /// The same key with the same input counts once
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TellArgs {
    /// The agent: NAME, NAME:KEY or NODE/NAME[:KEY]
    #[arg(value_name = "ADDRESS")]
    address: String,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    about: AboutArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BroadcastArgs {
    /// The agents: NAME, or a pattern of dotted names with `*` and `**`
    #[arg(value_name = "PATTERN")]
    to: String,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    about: AboutArgs,
}

/// A node waits no longer for a reply.
const REPLY_MAX: Duration = Duration::from_secs(60);

fn reply_limit(text: &str) -> Result<Duration, &'static str> {
    let limit = input::duration(text)?;
    if limit > REPLY_MAX {
        return Err("nobody waits longer than 60s for a reply; for longer work there is `pelago task run`");
    }
    Ok(limit)
}

pub(super) async fn run(command: AgentCommand, client: &Client, output: Output) -> Result<Exit, Error> {
    match command {
        AgentCommand::Ls(args) => ls(args, client, output).await?,
        AgentCommand::State(args) => state(&args, client, output).await?,
        AgentCommand::Ask(args) => ask(&args, client, output).await?,
        AgentCommand::Send(message) => send(&message, client, output).await?,
        AgentCommand::Tell(args) => tell(&args, client, output).await?,
        AgentCommand::Broadcast(args) => broadcast(&args, client, output).await?,
        AgentCommand::Dead(args) => dead(args, client, output).await?,
        AgentCommand::Dismiss(args) => dismiss(&args, client, output).await?,
    }
    Ok(Exit::Done)
}

async fn ls(args: LsArgs, client: &Client, output: Output) -> Result<(), Error> {
    let LsArgs { name, paging } = args;
    let (items, next) = paging
        .gather(async |cursor, limit| {
            let query = AgentQuery { name: name.clone(), cursor, limit: Some(limit) };
            let AgentList { items, next } = client.agents(&query).await?;
            Ok((items, next))
        })
        .await?;
    let list = AgentList { items, next };
    output.document(&list, |list| columns(["AGENT", "STATE", "NODE", "EPOCH", "TURNS"], list.items.iter().map(row)))?;
    match (&list.next, list.items.is_empty(), name) {
        (Some(_), _, _) => output.note("there are more; see them with --all"),
        (None, true, Some(name)) => output.note(&format!("no agent of the name {name} has had a turn yet")),
        (None, true, None) => output.note(
            "no agents yet; try: pelago agent ask counter:a 1\n\
             what the built-in agents take and reply: pelago help agents",
        ),
        (None, false, _) => {}
    }
    Ok(())
}

fn row(agent: &Agent) -> [String; 5] {
    [
        agent.agent.clone(),
        words::phase::as_str(agent.phase).to_owned(),
        agent.node.clone().unwrap_or_default(),
        agent.epoch.to_string(),
        agent.version.to_string(),
    ]
}

async fn state(args: &StateArgs, client: &Client, output: Output) -> Result<(), Error> {
    let agent = client.agent(&args.address).await?;
    output.document(&agent, |agent| agent.state.as_ref().map_or("null", Payload::json).to_owned())?;
    let node = agent.node.as_deref().unwrap_or("a node that is gone");
    output.note(&match agent.version {
        1 => format!("after 1 turn, epoch {} on {node}", agent.epoch),
        turns => format!("after {turns} turns, epoch {} on {node}", agent.epoch),
    });
    for Timer { name, due, failed } in &agent.timers {
        output.note(&match failed {
            None => format!("timer {name:?} is due at {due}"),
            Some(reason) => format!("timer {name:?} failed too often: {reason}"),
        });
    }
    Ok(())
}

/// What an agent replied.
#[derive(Serialize)]
struct Reply<'a> {
    agent: &'a str,
    reply: Payload,
}

impl Document for Reply<'_> {
    const KIND: &'static str = "Reply";
}

async fn ask(args: &AskArgs, client: &Client, output: Output) -> Result<(), Error> {
    let AskArgs { message, about, timeout, session, busy, ttl, affinity } = args;
    let question = message.input.message(about, output)?;
    let query = AskQuery {
        wait: Some(*timeout),
        idempotency_key: message.key.clone(),
        session: session.as_ref().map(Name::to_string),
        session_busy: *busy,
        session_ttl: *ttl,
        affinity: affinity.clone(),
    };
    let reply = client.ask_as(&message.address, question, &query).await?;
    let reply = Reply { agent: &message.address, reply };
    output.document(&reply, |reply| reply.reply.json().to_owned())
}

async fn send(message: &MessageArgs, client: &Client, output: Output) -> Result<(), Error> {
    let text = message.input.read(output)?.get().to_owned();
    let receipt = client.send(&message.address, text, message.key.as_deref()).await?;
    output.document(&receipt, |_nothing_to_tell| String::new())?;
    output.note(match receipt.existing {
        true => "an earlier message had this key; none was sent",
        false => "sent: it is kept, and handled once; `pelago agent dead` lists it if the agent fails too often",
    });
    Ok(())
}

async fn tell(args: &TellArgs, client: &Client, output: Output) -> Result<(), Error> {
    let message = args.input.message(&args.about, output)?;
    let told = client.tell(&args.address, message).await?;
    output.document(&told, |_nothing_to_tell| String::new())?;
    output.note("told: it is on its way, and handled at most once");
    Ok(())
}

async fn broadcast(args: &BroadcastArgs, client: &Client, output: Output) -> Result<(), Error> {
    let message = args.input.message(&args.about, output)?;
    let reached = client.broadcast(&args.to, message).await?;
    output.document(&reached, |Reached { nodes, agents, .. }| format!("agents told: {agents}, nodes: {nodes}"))?;
    if !reached.missed.is_empty() {
        output.note(&format!("no word from {}: agents there may have been told, or not", reached.missed.join(", ")));
    }
    Ok(())
}

async fn dead(args: DeadArgs, client: &Client, output: Output) -> Result<(), Error> {
    let DeadArgs { address, paging } = args;
    let (items, next) = paging
        .gather(async |cursor, limit| {
            let query = DeadMessageQuery { agent: address.clone(), cursor, limit: Some(limit) };
            let DeadMessageList { items, next } = client.dead_messages(&query).await?;
            Ok((items, next))
        })
        .await?;
    let list = DeadMessageList { items, next };
    output.document(&list, |list| {
        columns(["TO", "FROM", "SENT", "MESSAGE", "REASON"], list.items.iter().map(dead_row))
    })?;
    if list.next.is_some() {
        output.note("there are more; see them with --all");
    } else if list.items.is_empty() {
        output.note("no message failed too often");
    } else {
        output.note(
            "they are tried no more; once the reason is mended, send again what matters (pelago agent send), and \
             forget these: pelago agent dismiss ADDRESS",
        );
    }
    Ok(())
}

async fn dismiss(args: &DismissArgs, client: &Client, output: Output) -> Result<(), Error> {
    let dismissed = client.dismiss(&args.address).await?;
    output.document(&dismissed, |Dismissed { agent, messages }| match messages {
        0 => format!("{agent} has no dead messages"),
        1 => format!("1 dead message of {agent} is forgotten"),
        many => format!("{many} dead messages of {agent} are forgotten"),
    })
}

fn dead_row(message: &DeadMessage) -> [String; 5] {
    let DeadMessage { to, from, sent, reason, message } = message;
    [to.clone(), from.clone(), sent.to_string(), one_line(message.json()), one_line(reason)]
}
