//! `pelago help`: long help, and topics that are no command.

use clap::CommandFactory;

use crate::{
    command_line::{self, CommandLine},
    exit::{Exit, ExitCodes},
    output::{Error, Output},
    problem,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago help task run
  pelago help exit-codes
  pelago help exit-codes -o json";

#[derive(Debug, clap::Args)]
pub(crate) struct HelpArgs {
    /// A command, or `exit-codes`
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

pub(crate) fn run(args: &HelpArgs, output: Output) -> Result<Exit, Error> {
    if args.topic == ["exit-codes"] {
        output.document(&ExitCodes::all(), ExitCodes::text)?;
        return Ok(Exit::Done);
    }
    let mut command = CommandLine::command();
    // Tells each command its full name, which its help begins with.
    command.build();
    let mut found = &mut command;
    for word in &args.topic {
        found = found
            .find_subcommand_mut(word)
            .ok_or_else(|| problem::usage(format!("there is no help on `{}`", args.topic.join(" "))))?;
    }
    command_line::show_help(&found.render_long_help(), output)?;
    Ok(Exit::Done)
}
