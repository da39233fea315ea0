//! `pelago task …`

mod list;
mod named;
mod run;
mod show;
mod wait;

use pelago_api::{client::Client, model::words};

use self::named::Named;
use crate::{
    exit::Exit,
    output::{Error, Output},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum TaskCommand {
    /// Enqueue a task
    ///
    /// It survives the loss of nodes and is tried again when it fails. Once this command says its id, it is durable.
    #[command(after_long_help = run::EXAMPLES)]
    Run(run::RunArgs),
    /// List tasks, newest first
    #[command(after_long_help = list::EXAMPLES)]
    Ls(list::LsArgs),
    /// Show a task with its input and result
    #[command(after_long_help = show::EXAMPLES)]
    Show(show::ShowArgs),
    /// Wait until a task has ended, and show its result
    ///
    /// Ends with 0 if it is done, 1 if it is dead or was cancelled, 7 if it goes on after --timeout.
    #[command(after_long_help = wait::EXAMPLES)]
    Wait(wait::WaitArgs),
    /// Call a task off, or dismiss a dead one
    ///
    /// What waits or runs is called off. A dead task that nobody will retry is cancelled by this too, so that `pelago
    /// status` does not name it as a problem any more; its events still tell why it died. A task that is done stays so.
    #[command(after_long_help = CANCEL_EXAMPLES)]
    Cancel(CancelArgs),
    /// Start a dead or cancelled task afresh
    #[command(after_long_help = RETRY_EXAMPLES)]
    Retry(RetryArgs),
    /// Show what happened to a task
    #[command(after_long_help = show::EVENTS_EXAMPLES)]
    Events(show::EventsArgs),
}

const CANCEL_EXAMPLES: &str = "\
Examples:
  pelago task cancel 0199c0ffee0123456789abcdef012345
  pelago task cancel 0199c0ffee0123456789abcdef012345 --reason 'ordered twice'";

const RETRY_EXAMPLES: &str = "\
Examples:
  pelago task retry 0199c0ffee0123456789abcdef012345
  pelago task retry 0199c0ffee0123456789abcdef012345 --wait=1m";

#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// The task: its id, or enough of its beginning
    #[arg(value_name = "ID")]
    id: Named,
    /// Why, for whoever looks at the task later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// The task: its id, or enough of its beginning
    #[arg(value_name = "ID")]
    id: Named,
    #[command(flatten)]
    wait: wait::AndWait,
}

pub(super) async fn run(command: TaskCommand, client: &Client, output: Output) -> Result<Exit, Error> {
    match command {
        TaskCommand::Run(args) => run::run(args, client, output).await,
        TaskCommand::Ls(args) => list::run(args, client, output).await,
        TaskCommand::Show(args) => show::run(&args, client, output).await,
        TaskCommand::Wait(args) => wait::run(&args, client, output).await,
        TaskCommand::Cancel(args) => cancel(&args, client, output).await,
        TaskCommand::Retry(args) => retry(&args, client, output).await,
        TaskCommand::Events(args) => show::events(&args, client, output).await,
    }
}

async fn cancel(args: &CancelArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let task = client.cancel(args.id.find(client).await?, args.reason.as_deref()).await?;
    output.document(&task, |task| words::task_state::as_str(task.state).to_owned())?;
    Ok(Exit::Done)
}

async fn retry(args: &RetryArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let task = client.retry(args.id.find(client).await?).await?;
    if let Some(limit) = args.wait.limit() {
        return wait::until_ended(task.id, limit, client, output).await;
    }
    output.document(&task, |task| words::task_state::as_str(task.state).to_owned())?;
    output.note(&format!("next: pelago task wait {}", task.id));
    Ok(Exit::Done)
}
