//! The only file of this crate that starts programs: to their end, under way, or as a daemon.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::leash::{Daemon, Heir, LEASH, NAMESPACES, POLL, Running, code};

/// The time that a command gets unless it says otherwise.
const LIMIT: Duration = Duration::from_secs(300);

/// A program with its arguments, to be run.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    network: Option<String>,
    limit: Duration,
    bare: bool,
}

/// What a finished command said.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Wall time.
    pub elapsed: Duration,
}

impl Command {
    /// The program at a path, or by its name on PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            network: None,
            limit: LIMIT,
            bare: false,
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// In a directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// In the network namespace at the path `network` (`/proc/PID/ns/net`), where no proxy is reachable.
    #[must_use]
    pub fn network(mut self, network: &str) -> Self {
        self.network = Some(network.to_owned());
        self.env("no_proxy", "*").env("NO_PROXY", "*")
    }

    /// Killed after `limit` of wall time (300 s unless told).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// With no other environment than the one told.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// As the arguments of `program`: `timeout 3 this command`.
    #[must_use]
    pub fn under(mut self, program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let inner = std::mem::replace(&mut self.program, OsString::from(program));
        let rest = std::mem::take(&mut self.args);
        self.args = args.into_iter().map(|arg| arg.as_ref().to_owned()).chain([inner]).chain(rest).collect();
        self
    }

    /// Runs to the end, whatever the exit code.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn output(&self) -> Result<Output> {
        let started = Instant::now();
        let limit = format!("{}", self.limit.as_secs());
        let bounded = self.clone().under("timeout", ["-k", "3", limit.as_str()]);
        let run = bounded.std().stdin(Stdio::null()).output();
        let run = run.with_context(|| format!("Running {self}"))?;
        Ok(Output {
            code: code(run.status),
            stdout: String::from_utf8_lossy(&run.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&run.stderr).into_owned(),
            elapsed: started.elapsed(),
        })
    }

    /// Runs to the end and gives the standard output.
    ///
    /// # Errors
    /// When it can't be started or its exit code isn't 0: with the command and what it said.
    pub fn ok(&self) -> Result<String> {
        let output = self.output()?;
        if output.code != 0 {
            bail!("{self}: exit code {}\n{}{}", output.code, output.stdout, output.stderr);
        }
        Ok(output.stdout)
    }

    /// Runs to the end and gives the exit code, and each line of the standard error with the time since the
    /// start at which it came. Nobody reads the standard output.
    ///
    /// # Errors
    /// When it can't be started, or its words can't be read.
    pub fn timed_lines(&self) -> Result<(i32, Vec<(Duration, String)>)> {
        let limit = format!("{}", self.limit.as_secs());
        let bounded = self.clone().under("timeout", ["-k", "3", limit.as_str()]);
        let started = Instant::now();
        let child = bounded.std().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("Running {self}"))?;
        let errors = child.stderr.take().into_iter().flat_map(|errors| BufReader::new(errors).lines());
        let lines: std::io::Result<Vec<_>> = errors.map(|line| Ok((started.elapsed(), line?))).collect();
        let status = child.wait().with_context(|| format!("Waiting for {self}"))?;
        Ok((code(status), lines.with_context(|| format!("Reading what {self} says"))?))
    }

    /// Runs to the end on this program's own terminal, without a limit, and gives the exit code. Once
    /// `stop` is set it is asked to end (SIGTERM).
    ///
    /// # Errors
    /// When it can't be started.
    pub fn attached(&self, stop: &AtomicBool) -> Result<i32> {
        // Should this program be killed, the command ends too.
        let tied = self.clone().under("setpriv", ["--pdeathsig", "TERM"]);
        let mut child = tied.std().spawn().with_context(|| format!("Running {self}"))?;
        let mut asked = false;
        loop {
            if let Some(status) = child.try_wait().with_context(|| format!("Waiting for {self}"))? {
                return Ok(code(status));
            }
            if stop.load(Ordering::Relaxed) && !asked {
                asked = true;
                Self::new("kill").arg("-TERM").arg(child.id().to_string()).output()?;
            }
            thread::sleep(POLL);
        }
    }

    /// Starts it with both outputs going to the end of the file `log`. Killed when dropped.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, log: &Path) -> Result<Running> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("Opening {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("Opening {}", log.display()))?;
        let child = self.std().stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        Ok(Running::new(child.with_context(|| format!("Running {self}"))?, self.to_string()))
    }

    /// Starts it with both outputs going to the end of the file `log`, and gives its process id. This program's
    /// own reaper hears of its end.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn detached(&self, log: &Path) -> Result<u32> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("Opening {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("Opening {}", log.display()))?;
        let child = self.std().stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        Ok(child.with_context(|| format!("Running {self}"))?.id())
    }

    /// Takes the place of this program. Comes back only when that fails.
    #[must_use]
    pub fn exec(&self) -> anyhow::Error {
        anyhow::Error::new(self.std().exec()).context(format!("Running {self}"))
    }

    /// Starts it to wait until what is returned is dropped, or this program is gone: it has to read its standard input
    /// to the end before anything else.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn heir(&self) -> Result<Heir> {
        let mut command = self.std();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Heir::new(command.spawn().with_context(|| format!("Starting {self}"))?))
    }

    /// Starts it on a leash, with both outputs in the file `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn daemon(&self, log: &Path) -> Result<Daemon> {
        self.leashed(log, &[])
    }

    /// As [`Command::daemon`], in a new network namespace: the one of [`Daemon::pid`].
    ///
    /// # Errors
    /// When it can't be started.
    pub fn daemon_with_network(&self, log: &Path) -> Result<Daemon> {
        self.leashed(log, &["--net"])
    }

    fn leashed(&self, log: &Path, more: &[&str]) -> Result<Daemon> {
        let output = File::create(log).with_context(|| format!("Creating {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("Opening {}", log.display()))?;
        let leashed = self.clone().under("sh", ["-c", LEASH, "leash"]).under("unshare", NAMESPACES.iter().chain(more));
        let mut command = leashed.std();
        // An own process group: Ctrl-C at the terminal is for the command that uses the daemon.
        command.stdin(Stdio::piped()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().with_context(|| format!("Starting {self}"))?;
        Ok(Daemon::new(child, self.to_string(), log))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
    fn std(&self) -> std::process::Command {
        // The namespace's path is one of this PID namespace, so it is entered before any other change.
        let mut command = match &self.network {
            Some(network) => {
                let mut outer = std::process::Command::new("nsenter");
                outer.arg(format!("--net={network}")).arg("--").arg(&self.program);
                outer
            }
            None => std::process::Command::new(&self.program),
        };
        if self.bare {
            command.env_clear();
        }
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

/// As one would type it.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in [&self.program].into_iter().chain(&self.args).enumerate() {
            let word = word.to_string_lossy();
            let space = if at == 0 { "" } else { " " };
            let plain =
                !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "'\"$&|<>*?()\\;".contains(c));
            if plain { write!(f, "{space}{word}")? } else { write!(f, "{space}'{word}'")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_one_types_it() {
        let command = Command::new("tar").args(["-x", "a b", ""]).under("timeout", ["3"]);
        assert_eq!(command.to_string(), "timeout 3 tar -x 'a b' ''");
    }

    #[test]
    fn a_refusal_tells_the_command_and_its_words() {
        let error = Command::new("sh").args(["-c", "echo why >&2; exit 3"]).ok().unwrap_err().to_string();
        assert!(error.starts_with("sh -c 'echo why >&2; exit 3': exit code 3") && error.contains("why\n"), "{error}");
    }

    #[test]
    fn lines_come_with_their_time() {
        let (code, lines) = Command::new("sh").args(["-c", "echo a >&2; echo b >&2; exit 4"]).timed_lines().unwrap();
        let words: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!((code, words), (4, vec!["a", "b"]));
        assert!(lines[0].0 <= lines[1].0 && lines[0].0 > Duration::ZERO);
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let output = Command::new("sleep").arg("60").limit(Duration::from_secs(1)).output().unwrap();
        assert_eq!(output.code, 124);
        assert!(output.elapsed < Duration::from_secs(5));
    }
}
