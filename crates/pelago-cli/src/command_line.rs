//! The command line: what may be written on it, and what is said about one that cannot be understood.

use std::{env, ffi::OsString};

use clap::{
    ColorChoice, Parser,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use pelago_api::model::Document;
use serde::Serialize;

use crate::{
    cmd::{Command, help},
    exit::Exit,
    input,
    output::{Error, Format, Output},
    problem,
};

/// A home for durable agents on a handful of machines.
///
/// `pelago serve` is a node and `pelago up` is several; the other commands ask one. Data goes to stdout and everything
/// else to stderr; with `-o json` all of stdout is JSON.
#[derive(Debug, Parser)]
#[command(
    name = "pelago",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "See `pelago help agents` for whom to talk to, and `pelago help exit-codes` for what it ends with.",
    after_long_help = EXAMPLES
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pelago up                             # a mesh of three nodes on this machine
  pelago agent ask counter:a 1          # in another terminal: talk to an agent
  pelago task run flaky 2 --wait        # durable work, with retries
  pelago status
  pelago help agents                    # what the built-in agents take and reply
  pelago help exit-codes                # 0 done, 1 failed, 2 usage, 3 not found, …";

/// Where a node listens that was not told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The nodes of the mesh that `pelago up` keeps in this folder, or one where nodes listen that were not told otherwise.
fn default_urls() -> Vec<String> {
    let here = crate::cmd::up::urls();
    if here.is_empty() { vec![DEFAULT_URL.to_owned()] } else { here }
}

/// Options that every command has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Options {
    /// The node to ask: any node of a mesh answers for all of it. Of several, separated by commas, the next is asked
    /// when one does not answer. In a folder with a mesh of `pelago up` all its nodes are asked
    #[arg(
        long,
        global = true,
        env = "PELAGO_URL",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = url,
        default_values_t = default_urls()
    )]
    pub(crate) url: Vec<String>,
    /// What stdout looks like
    #[arg(short, long, global = true, env = "PELAGO_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
    /// Whether stderr has colours. NO_COLOR and CLICOLOR_FORCE are heard too
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

/// There is no command to run: it cannot be understood, or it asked for help, which was given.
pub(crate) struct Stopped {
    pub(crate) outcome: Result<Exit, Error>,
    pub(crate) output: Output,
}

/// Reads the command line of this process.
pub(crate) fn read() -> Result<CommandLine, Stopped> {
    let words: Vec<OsString> = env::args_os().collect();
    CommandLine::try_parse_from(&words).map_err(|error| {
        let format = format_asked_for(&words, env::var("PELAGO_OUTPUT").ok().as_deref());
        let output = Output::new(format, ColorChoice::Auto);
        Stopped { outcome: explain(&error, &words, output), output }
    })
}

/// Help and version are answers; anything else is a problem.
fn explain(error: &clap::Error, words: &[OsString], output: Output) -> Result<Exit, Error> {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        show_help(&error.render(), output)?;
        return Ok(Exit::Done);
    }
    let help = match kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        true => Some(error.render()),
        false => command_cut_short(error).map(|mut command| command.render_help()),
    };
    let command = help::meant(words.iter().skip(1).filter_map(|word| word.to_str()));
    let Some(help) = help else {
        return Err(problem::usage(what_is_wrong(error), &command).into());
    };
    output.note(help.to_string().trim_end());
    Err(problem::usage("a command is missing", &command).into())
}

/// The command that needs another word. Clap shows its help by itself only when no variable gave an option either.
fn command_cut_short(error: &clap::Error) -> Option<clap::Command> {
    if error.kind() != ErrorKind::MissingSubcommand {
        return None;
    }
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(path)) => help::find(path.split(' ').skip(1)),
        Some(_) | None => None,
    }
}

/// What clap says, without its label and its farewell: a problem has its own.
fn what_is_wrong(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ");
    let end = text.find("\n\nFor more information").unwrap_or(text.len());
    let text = text[..end].trim_end();
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument && is_duration(word) => {
            format!("{text}\n\n  a duration belongs to its option: --wait={word} or --timeout {word}")
        }
        Some(_) | None => text.to_owned(),
    }
}

fn is_duration(word: &str) -> bool {
    input::duration(word).is_ok()
}

/// The address of a node's HTTP API. Without a scheme it stands for `http://`; `bench` takes it for a mesh address.
fn url(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let rest = rest.trim_end_matches('/');
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    match scheme {
        _ if host.is_empty() || rest.contains([' ', '/', '?', '#', '@']) => {
            Err(format!("a URL is a scheme, a host and a port, like {DEFAULT_URL}"))
        }
        "http" => Ok(text.to_owned()),
        "https" => Err(format!("nodes have no TLS yet; try http://{rest}")),
        other => Err(format!("a node speaks HTTP, not {other}; try http://{rest}")),
    }
}

/// Help, where programs asked for it.
#[derive(Serialize)]
struct Help {
    text: String,
}

impl Document for Help {
    const KIND: &'static str = "Help";
}

pub(crate) fn show_help(help: &StyledStr, output: Output) -> Result<(), Error> {
    let help = Help { text: help.to_string() };
    output.document(&help, |help| help.text.clone())
}

/// The format of a command line that could not be read as a whole. `variable` is `PELAGO_OUTPUT`.
fn format_asked_for(words: &[OsString], variable: Option<&str>) -> Format {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let after_flag = words.windows(2).filter(|pair| matches!(pair[0], "-o" | "--output")).map(|pair| pair[1]);
    let with_flag = words
        .iter()
        .filter_map(|word| word.strip_prefix("--output=").or(word.strip_prefix("-o")))
        .map(|value| value.trim_start_matches('='));
    let on_the_line = after_flag.chain(with_flag).find(|format| matches!(*format, "json" | "text" | "wide"));
    match on_the_line.or(variable) {
        Some("json") => Format::Json,
        Some(_) | None => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::builtin;

    #[test]
    fn the_format_is_heard_even_on_a_line_that_cannot_be_read() {
        let format = |line: &str, variable| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            format_asked_for(&words, variable)
        };
        for line in ["x -o json", "x -ojson y", "x -o=json", "x --output json y", "x --output=json"] {
            assert_eq!(format(line, None), Format::Json, "{line}");
        }
        assert_eq!(format("x -o text", Some("json")), Format::Text);
        assert_eq!(format("x -o wide", Some("json")), Format::Text);
        assert_eq!(format("x json", None), Format::Text);
        assert_eq!(format("x", Some("json")), Format::Json);
    }

    #[test]
    fn a_url_without_a_scheme_is_one_and_https_says_what_to_try() {
        for text in ["http://127.0.0.1:8080", "localhost:8080", "http://[::1]:8080/", "node-1"] {
            assert_eq!(url(text).as_deref(), Ok(text));
        }
        let refused = |text| url(text).expect_err("it leads to no node");
        assert_eq!(refused("https://localhost:8443"), "nodes have no TLS yet; try http://localhost:8443");
        assert_eq!(refused("ftp://localhost"), "a node speaks HTTP, not ftp; try http://localhost");
        for text in ["", "http://", ":8080", "a b", "localhost:8080/api/v1", "user@host"] {
            assert!(refused(text).contains(DEFAULT_URL), "{text}");
        }
    }

    #[test]
    fn the_examples_of_the_builtin_agents_can_be_read() {
        for example in builtin::Builtins::all().examples() {
            if let Err(error) = CommandLine::try_parse_from(words(example)) {
                panic!("{example:?} cannot be read: {error}");
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_can_be_read() {
        let mut command = CommandLine::command();
        command.build();
        command.clone().debug_assert();
        check_examples(&command, "pelago");
    }

    fn check_examples(command: &clap::Command, path: &str) {
        let help = command.get_after_long_help().map(StyledStr::to_string);
        let examples = help.as_deref().map(examples).unwrap_or_default();
        for example in &examples {
            if let Err(error) = CommandLine::try_parse_from(words(example)) {
                panic!("the example {example:?} of `{path}` cannot be read: {error}");
            }
        }
        let has_its_own = examples.iter().any(|example| example.starts_with(path));
        assert!(command.has_subcommands() || has_its_own, "`{path}` has no example");
        for child in command.get_subcommands() {
            check_examples(child, &format!("{path} {}", child.get_name()));
        }
    }

    /// The commands of ours in indented lines: without comments, and from behind a pipe.
    fn examples(help: &str) -> Vec<&str> {
        let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
        let commands = lines.flat_map(|line| line.split(" # ").take(1).flat_map(|line| line.split(" | ")));
        commands.map(str::trim).filter(|command| command.starts_with("pelago ")).collect()
    }

    /// Splits as a shell does, as far as the examples need it: blanks, and single quotes around a word.
    fn words(example: &str) -> Vec<String> {
        let quoted = example.split('\'').enumerate();
        let words = quoted.flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    }
}
