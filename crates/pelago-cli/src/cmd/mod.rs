//! The commands, a file for each noun.

pub(crate) mod help;
pub(crate) mod request;

mod agent;
mod node;
mod paging;
mod status;
mod task;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a node with the built-in agents
    #[command(after_long_help = SERVE_EXAMPLES)]
    Serve(pelago::ServeArgs),
    #[command(flatten)]
    Request(request::Request),
    /// Explain a command, or what the program ends with
    #[command(after_long_help = help::EXAMPLES)]
    Help(help::HelpArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  pelago serve --found                          # a new mesh of this node, or the one it founded before
  pelago serve --config pelago.toml
  pelago serve --found --port 0 --print-addr json";
