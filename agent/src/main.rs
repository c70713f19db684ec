//! The program `cks-agent`.

use std::process::ExitCode;

use agent::cli::{Cli, Command};
use agent::{metrics, reconcile, report, run, status, verify, version};
use bootstrap::failure::Failure;
use clap::{CommandFactory as _, Parser as _};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Bootstrap(arguments) => {
            report::log(arguments.verbose);
            Ok(run::bootstrap(&arguments).await)
        }
        Command::Reconcile(arguments) => {
            report::log(arguments.verbose);
            Ok(reconcile::reconcile(&arguments).await)
        }
        Command::Verify(arguments) => {
            report::log(0);
            verify::verify(&arguments).await
        }
        Command::Status(arguments) => status::status(&arguments).await,
        Command::Metrics(arguments) => metrics::print(&arguments),
        Command::Version(arguments) => version::print(&arguments).await,
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
    eprint!("{}", report::lines(&report::state_of(failure)));
    ExitCode::from(failure.code.exit_code())
}
