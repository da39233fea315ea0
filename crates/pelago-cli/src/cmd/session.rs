//! `pelago session …`

use pelago_api::{
    client::{Client, SessionQuery},
    model::{Said, Session, SessionHistory, SessionList},
};

use super::paging::Paging;
use crate::{
    exit::Exit,
    output::{Error, Output, columns, one_line},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SessionCommand {
    /// List conversations with agents
    #[command(after_long_help = LS_EXAMPLES)]
    Ls(LsArgs),
    /// Show a conversation and what was said in it
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(NamedArgs),
    /// End a conversation and forget what was said
    ///
    /// A later message of the same session begins a new one.
    #[command(after_long_help = END_EXAMPLES)]
    End(NamedArgs),
}

const LS_EXAMPLES: &str = "\
Examples:
  pelago session ls
  pelago session ls --agent chat
  pelago session ls --all -o json | jq -r '.items[].session'";

const SHOW_EXAMPLES: &str = "\
Examples:
  pelago agent ask chat hello --session s1     # begins it
  pelago session show chat s1
  pelago session show chat s1 -o json | jq -r '.items[].said'";

const END_EXAMPLES: &str = "\
Examples:
  pelago session end chat s1";

/// How many turns are asked for at a time.
const TURNS_MAX: usize = 1_000;

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Only conversations with this agent: NAME or NAME:KEY
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NamedArgs {
    /// The agent: NAME or NAME:KEY
    #[arg(value_name = "ADDRESS")]
    agent: String,
    /// The session
    #[arg(value_name = "SESSION")]
    session: String,
}

pub(super) async fn run(command: SessionCommand, client: &Client, output: Output) -> Result<Exit, Error> {
    match command {
        SessionCommand::Ls(args) => ls(args, client, output).await?,
        SessionCommand::Show(args) => show(&args, client, output).await?,
        SessionCommand::End(NamedArgs { agent, session }) => {
            let ended = client.end_session(&agent, &session).await?;
            output.document(&ended, |ended| format!("session {} of {} has ended", ended.session, ended.agent))?;
        }
    }
    Ok(Exit::Done)
}

async fn ls(args: LsArgs, client: &Client, output: Output) -> Result<(), Error> {
    let LsArgs { agent, paging } = args;
    let (items, next) = paging
        .gather(async |cursor, limit| {
            let query = SessionQuery { agent: agent.clone(), cursor, limit: Some(limit) };
            let SessionList { items, next } = client.sessions(&query).await?;
            Ok((items, next))
        })
        .await?;
    let list = SessionList { items, next };
    output
        .document(&list, |list| columns(["AGENT", "SESSION", "TURNS", "NODE", "USED"], list.items.iter().map(row)))?;
    if list.next.is_some() {
        output.note("there are more; see them with --all");
    } else if list.items.is_empty() {
        output.note("no sessions; try: pelago agent ask chat hello --session s1");
    }
    Ok(())
}

fn row(session: &Session) -> [String; 5] {
    let Session { agent, session, node, used, entries, .. } = session;
    let node = node.clone().unwrap_or_default();
    [agent.clone(), session.clone(), entries.to_string(), node, used.to_string()]
}

async fn show(args: &NamedArgs, client: &Client, output: Output) -> Result<(), Error> {
    let NamedArgs { agent, session } = args;
    let mut history = client.session(agent, session, 0, TURNS_MAX).await?;
    while let Some(after) = history.next {
        let more = client.session(agent, session, after, TURNS_MAX).await?;
        history.items.extend(more.items);
        history.next = more.next;
    }
    output.document(&history, |history| {
        columns(["N", "NODE", "AT", "SAID", "REPLIED"], history.items.iter().map(turn))
    })?;
    let SessionHistory { session: Session { entries, kept, expires, .. }, .. } = &history;
    let dropped = if kept < entries { format!("; the oldest {} are not kept", entries - kept) } else { String::new() };
    output.note(&format!("ends at {expires} if nobody uses it{dropped}"));
    Ok(())
}

fn turn(said: &Said) -> [String; 5] {
    let Said { n, at, node, said, replied } = said;
    [n.to_string(), node.clone(), at.to_string(), one_line(said.json()), one_line(replied.json())]
}
