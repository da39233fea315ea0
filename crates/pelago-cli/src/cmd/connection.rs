//! `pelago connection …`

use pelago_api::{
    client::Client,
    model::{Connection, NewConnection},
};

use crate::{
    exit::Exit,
    output::{Error, Output, columns},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConnectionCommand {
    /// List the connections along which signals go on
    ///
    /// Those that stand in the configuration of a node hold for signals that this node's agents handle, all others
    /// everywhere.
    #[command(after_long_help = LS_EXAMPLES)]
    Ls {
        /// Only those that lead on from this agent
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
    },
    /// Let signals go on from one agent to another
    ///
    /// It holds at once and on all nodes, and is durable. To add it again changes its filter.
    #[command(after_long_help = ADD_EXAMPLES)]
    Add {
        /// The agent that handles them: all keys of that name
        #[arg(value_name = "FROM")]
        from: String,
        /// The agent that they go on to: NAME, NAME:KEY or NODE/NAME[:KEY]
        #[arg(value_name = "TO")]
        to: String,
        /// Only these contents: "beginning*" for texts, field=value for objects
        #[arg(long, value_name = "FILTER")]
        only: Option<String>,
    },
    /// Let signals go on there no more
    ///
    /// Only what was added can be taken away; what stands in a configuration is changed there.
    #[command(after_long_help = RM_EXAMPLES)]
    Rm {
        /// The agent that it leads on from
        #[arg(value_name = "FROM")]
        from: String,
        /// Where it leads
        #[arg(value_name = "TO")]
        to: String,
    },
}

const LS_EXAMPLES: &str = "\
Examples:
  pelago connection ls
  pelago connection ls --from strategic-main -o json | jq -r '.items[].to'";

const ADD_EXAMPLES: &str = "\
Examples:
  pelago connection add echo counter:a
  pelago connection add strategic-main architect-3
  pelago connection add strategic-main architect-3 --only kind=plan
  pelago connection add strategic-main fire-brigade --only 'urgent*'";

const RM_EXAMPLES: &str = "\
Examples:
  pelago connection rm strategic-main architect-3";

pub(super) async fn run(command: ConnectionCommand, client: &Client, output: Output) -> Result<Exit, Error> {
    match command {
        ConnectionCommand::Ls { from } => ls(from.as_deref(), client, output).await?,
        ConnectionCommand::Add { from, to, only } => {
            let new = NewConnection { from: from.into(), to: to.into(), only: only.map(Into::into) };
            let added = client.connect(&new).await?;
            output.document(&added, |added| format!("{} is connected to {}", added.from, added.to))?;
        }
        ConnectionCommand::Rm { from, to } => {
            let gone = client.disconnect(&from, &to).await?;
            output.document(&gone, |gone| format!("{} is connected to {} no more", gone.from, gone.to))?;
        }
    }
    Ok(Exit::Done)
}

async fn ls(from: Option<&str>, client: &Client, output: Output) -> Result<(), Error> {
    let list = client.connections(from).await?;
    output.document(&list, |list| columns(["FROM", "TO", "ONLY", "DECLARED BY"], list.items.iter().map(row)))?;
    if list.items.is_empty() {
        output.note("signals go on from nowhere; try: pelago connection add echo counter:a");
    }
    Ok(())
}

fn row(connection: &Connection) -> [String; 4] {
    let Connection { from, to, only, declared_by } = connection;
    [from.clone(), to.clone(), only.clone().unwrap_or_default(), declared_by.clone().unwrap_or_default()]
}
