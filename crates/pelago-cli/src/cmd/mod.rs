//! The commands, a file for each noun.

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod help;
pub(crate) mod request;
pub(crate) mod serve;
pub(crate) mod up;

mod agent;
mod connection;
mod node;
mod paging;
mod session;
mod settle;
mod signal;
mod status;
mod task;
mod topic;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a mesh of several nodes on this machine
    ///
    /// Each node is a process of its own. What they hold is kept in a folder, and the next `pelago up` there goes on
    /// with it. Ctrl-C stops them all.
    #[command(after_long_help = up::EXAMPLES)]
    Up(up::UpArgs),
    /// Run a node with the built-in agents
    #[command(after_long_help = serve::EXAMPLES)]
    Serve(serve::ServeCommand),
    /// Watch agents read your files, lose a node and lose nothing else
    ///
    /// A crew of agents on three nodes reads every text file under PATH and writes one report. In the middle a node is
    /// killed. Ends with 1 if anything was lost, doubled or different from what one plain pass over the files makes.
    #[command(after_long_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
    #[command(flatten)]
    Request(request::Request),
    /// Measure how fast a mesh answers
    #[command(after_long_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// Explain a command, or what the program ends with
    #[command(after_long_help = help::EXAMPLES)]
    Help(help::HelpArgs),
}
