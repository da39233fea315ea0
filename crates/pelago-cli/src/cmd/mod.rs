//! The commands, a file for each noun.

pub(crate) mod demo;
pub(crate) mod help;
pub(crate) mod request;

mod agent;
mod bench;
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
    /// Watch agents read your files, lose their node and lose nothing else
    ///
    /// A crew of agents reads every text file under PATH and writes one report. In the middle the node is killed. Ends
    /// with 1 if anything was lost, doubled or different from what one plain pass over the files makes.
    #[command(after_long_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
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
