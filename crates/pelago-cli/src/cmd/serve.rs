//! `pelago serve`: this process as a node.

use std::process::ExitCode;

use pelago_api::problem::Problem;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{builtin, exit::Exit, output::Output, problem};

pub(crate) const EXAMPLES: &str = "\
Examples:
  pelago serve --found                          # a new mesh of this node, or the one it founded before
  pelago serve --name node-2 --join 127.0.0.1:50051 --mesh-addr 127.0.0.1:0 --port 0
  pelago serve --config pelago.toml
  pelago serve --found --port 0 --print-addr json";

#[derive(Debug, clap::Args)]
pub(crate) struct ServeCommand {
    #[command(flatten)]
    pub(crate) args: pelago::ServeArgs,
    /// The process that started this one, and that it shall not outlive
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) child_of: Option<u32>,
}

pub(crate) fn run(args: &pelago::ServeArgs, output: Output) -> ExitCode {
    raise_file_limit();
    let error = match pelago::serve(args, builtin::kinds()) {
        Ok(code) => return code,
        Err(error) => error,
    };
    if let pelago::Error::Config(problems) = &error {
        for found in problems {
            output.problem_as(&problem::of_configuration(found), found);
        }
        return Exit::Usage.into();
    }
    let problem = of_node(&error);
    output.problem(&problem);
    Exit::of(&problem).into()
}

/// Lets this process have as many connections and files as it may: the soft limit of most systems is less than the
/// connections that a node takes.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A node that may have no more makes do with what it has.
    let _kept = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn of_node(error: &pelago::Error) -> Problem {
    let detail = error.to_string();
    if error.is_usage() {
        problem::not_to_be_had(detail)
    } else if error.is_removed() {
        problem::node_removed(detail)
    } else {
        problem::node_ended(detail, error.has_data())
    }
}
