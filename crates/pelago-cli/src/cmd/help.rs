//! `pelago help`: long help, and topics that are no command.

use clap::CommandFactory;

use crate::{
    builtin::Builtins,
    command_line::{self, CommandLine},
    exit::{Exit, ExitCodes},
    output::{Error, Output},
    problem,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago help task run
  pelago help exit-codes
  pelago help agents                    # what the built-in agents take and reply
  pelago help exit-codes -o json";

#[derive(Debug, clap::Args)]
pub(crate) struct HelpArgs {
    /// A command, `agents` or `exit-codes`
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

pub(crate) fn run(args: &HelpArgs, output: Output) -> Result<Exit, Error> {
    if args.topic == ["exit-codes"] {
        output.document(&ExitCodes::all(), ExitCodes::text)?;
        return Ok(Exit::Done);
    }
    if args.topic == ["agents"] {
        output.document(&Builtins::all(), Builtins::text)?;
        return Ok(Exit::Done);
    }
    let mut command = find(args.topic.iter().map(String::as_str))
        .ok_or_else(|| problem::usage(format!("there is no help on `{}`", args.topic.join(" ")), "pelago help"))?;
    command_line::show_help(&command.render_long_help(), output)?;
    Ok(Exit::Done)
}

/// The full name of the command that a line means, as far as it can be understood: `pelago task run`.
pub(crate) fn meant<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let mut command = all();
    for word in words {
        // Whatever else stands between: options may come anywhere.
        if let Some(next) = command.find_subcommand(word).cloned() {
            command = next;
        }
    }
    command.get_bin_name().unwrap_or("pelago").to_owned()
}

fn all() -> clap::Command {
    let mut command = CommandLine::command();
    // Tells each command its full name, which its help begins with.
    command.build();
    command
}

/// Finds a command by the words after `pelago`.
pub(crate) fn find<'w>(words: impl IntoIterator<Item = &'w str>) -> Option<clap::Command> {
    let command = all();
    words.into_iter().try_fold(command, |command, word| command.find_subcommand(word).cloned())
}
