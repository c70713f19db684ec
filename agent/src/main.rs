//! The program `cks-agent`.

use std::process::ExitCode;

use agent::cli::{self, Cli, Command};
use agent::notify::Notify;
use agent::{
    adopt, csi, etcd, explain, heap, metrics, reconcile, report, serve, sources, status, template, verify, version,
};
use bootstrap::failure::{Code, Failure};
use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    heap::share();
    let command = Cli::parse().command;
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(workers(&command)).enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return fail(&Failure::new(Code::Io, "Starting the runtime").with_source(e)),
        };
    let code = runtime.block_on(run(command));
    // A thread that still waits for a drive or a name server keeps nobody here.
    runtime.shutdown_background();
    code
}

/// A daemon waits, and what it does for a moment is not faster for being handed from one thread to another; downloads are.
fn workers(command: &Command) -> usize {
    if matches!(command, Command::Serve(_)) { 1 } else { 2 }
}

async fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Bootstrap(arguments) => {
            report::log(arguments.verbose, cli::log());
            Ok(agent::run::bootstrap(&arguments).await)
        }
        Command::Reconcile(arguments) => {
            report::log(arguments.verbose, cli::log());
            Ok(reconcile::reconcile(&arguments).await)
        }
        Command::Verify(arguments) => {
            report::log(0, cli::log());
            verify::verify(&arguments).await
        }
        Command::Leave(arguments) => {
            report::log(arguments.verbose, cli::log());
            Ok(agent::leave::leave(&arguments).await)
        }
        Command::Status(arguments) => status::status(&arguments).await,
        Command::Metrics(arguments) => metrics::print(&arguments),
        Command::Sources(arguments) => sources::print(&arguments).await,
        Command::Etcd(arguments) => {
            report::log(0, cli::log());
            etcd::command::run(&arguments).await
        }
        Command::Explain(arguments) => explain::print(&arguments).await,
        Command::Prepare(arguments) => {
            report::log(0, cli::log());
            template::prepare(&arguments).await
        }
        Command::Check(arguments) => template::check(&arguments).await,
        Command::Seal(arguments) => template::seal(&arguments),
        Command::Version(arguments) => version::print(&arguments).await,
        Command::Serve(arguments) => {
            report::log(0, cli::log());
            serve::daemon(&arguments, &Notify::to(cli::notify_socket())).await
        }
        Command::Volumes(arguments) => csi::show::print(&arguments),
        Command::Attend(arguments) => adopt::attend(&arguments).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cks-agent", &mut std::io::stdout());
            Ok(0)
        }
        Command::Man { directory } => report::man_pages(Cli::command(), &directory),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    let state = report::state_of(failure);
    report::log_failure(&state);
    report::last_words(&state, cli::log());
    ExitCode::from(failure.code.exit_code())
}
