//! `pelago`: the program. A node that hosts the built-in agents, and the commands that ask one.
//!
//! [`cmd`] has a file for each noun, [`builtin`] one for each agent. What is written for people and for programs goes
//! through [`output`]; what the process ends with is in [`exit`].
#![forbid(unsafe_code)]

mod builtin;
mod child;
mod cmd;
mod command_line;
mod exit;
mod input;
mod output;
mod problem;
mod report;

use std::{io, process::ExitCode};

use cmd::{Command, serve::ServeCommand};
use command_line::CommandLine;
use exit::Exit;
use output::{Error, Output};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages_small();
    let CommandLine { options, command } = match command_line::read() {
        Ok(command_line) => command_line,
        Err(stopped) => return ExitCode::from(end(stopped.outcome, stopped.output)),
    };
    let output = Output::new(options.output, options.color);
    match command {
        Command::Serve(ServeCommand { child_of: Some(parent), .. }) if child::is_orphan_of(parent) => ExitCode::FAILURE,
        Command::Serve(ServeCommand { args, .. }) => cmd::serve::run(&args, output),
        Command::Up(args) => end(run(cmd::up::run(args, output)), output).into(),
        Command::Demo(args) => end(ask(cmd::demo::run(args, output)), output).into(),
        Command::Bench(args) => end(run(cmd::bench::run(args, &options.url, output)), output).into(),
        Command::Help(topic) => end(cmd::help::run(&topic, output), output).into(),
        Command::Request(request) => end(ask(cmd::request::run(request, &options.url, output)), output).into(),
    }
}

/// Has the system give this process small pages only. The allocator asks for huge ones, of 2 MiB, which each thread's
/// memory fills first: an idle node had 30 MiB more of them, and one whose 200 agents were woken at once 400 MiB.
fn keep_pages_small() {
    // Without it the program does the same in more memory.
    #[cfg(target_os = "linux")]
    let _more_memory = rustix::thread::disable_transparent_huge_pages(true);
}

/// Runs a command that asks a node, until it has its answer or somebody loses patience.
fn ask(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    run(async {
        tokio::select! {
            // First, because a command reads stdin before it waits for anything: until then a signal ends the process.
            biased;
            ended = command => ended,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        }
    })
}

/// Runs a command on this thread.
fn run(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread needs little more than a file descriptor");
    runtime.block_on(command)
}

/// Tells what went wrong, if anything did, and what the process ends with.
fn end(outcome: Result<Exit, Error>, output: Output) -> Exit {
    let problem = match outcome {
        Ok(exit) => return exit,
        Err(Error::Problem(problem)) => *problem,
        // Whoever read this has seen enough, as `head` does.
        Err(Error::Stdout(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
        Err(Error::Stdout(cause)) => problem::unwritable_output(&cause),
    };
    output.problem(&problem);
    Exit::of(&problem)
}
