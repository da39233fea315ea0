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
    let mut command = find(args.topic.iter().map(String::as_str))
        .ok_or_else(|| problem::usage(format!("there is no help on `{}`", args.topic.join(" "))))?;
    command_line::show_help(&command.render_long_help(), output)?;
    Ok(Exit::Done)
}

/// Finds a command by the words after `pelago`.
pub(crate) fn find<'w>(words: impl IntoIterator<Item = &'w str>) -> Option<clap::Command> {
    let mut command = CommandLine::command();
    // Tells each command its full name, which its help begins with.
    command.build();
    words.into_iter().try_fold(command, |command, word| command.find_subcommand(word).cloned())
}
