//! Looks from outside: SSH, the old copy protocol, TCP, HTTPS. The clients are the distribution's.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tempfile::TempDir;

use super::Pace;
use crate::leash::POLL;
use crate::netns::Netns;
use crate::process::Command;
use crate::web::inside;

/// Who logs in.
const USER: &str = "cloud";

/// How long a login may take, and a copy: Java waits 60 s for keys to be exchanged, and for the rest as long as it takes.
const LOGIN: Duration = Duration::from_secs(120);

/// What an SSH client does when it knows nobody and asks nobody.
const OPTIONS: [&str; 9] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "GlobalKnownHostsFile=/dev/null",
    "IdentitiesOnly=yes",
    "PreferredAuthentications=publickey",
    "ForwardX11=no",
    "ForwardAgent=no",
    "LogLevel=ERROR",
];

/// The server's end of all conversations with nodes.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) network: String,
    pub(super) public: String,
    key: PathBuf,
    pace: Pace,
    scratch: TempDir,
    /// All that a command says.
    output: PathBuf,
    /// What the SSH client says itself.
    log: PathBuf,
    /// Is there once the client has logged in.
    within: PathBuf,
}

/// What came of one.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// The exit status, or why there was none: what Java throws.
    pub(super) exit: Result<i32, String>,
    pub(super) text: String,
    pub(super) elapsed: Duration,
}

impl Said {
    pub(super) fn is_good(&self) -> bool {
        self.exit == Ok(0)
    }

    /// Why this was no success.
    pub(super) fn why(&self) -> String {
        match &self.exit {
            Ok(status) => format!("exit status {status}"),
            Err(why) => why.clone(),
        }
    }
}

impl Sessions {
    pub(super) fn new(network: &Netns, public: &str, key: &Path, pace: Pace) -> Result<Self> {
        let (network, public, key) = (network.path(), public.to_owned(), key.to_owned());
        let scratch = crate::scratch("sessions")?;
        let [output, log, within] = ["output", "ssh", "within"].map(|name| scratch.path().join(name));
        Ok(Self { network, public, key, pace, scratch, output, log, within })
    }

    /// Runs a command on the node behind a port. `silence` in seconds is how long it may say nothing; how long it takes
    /// nobody asks.
    pub(super) fn execute(&self, port: u16, command: &str, silence: u64) -> Result<Said> {
        let mark = format!("LocalCommand=touch {}", self.within.display());
        let ssh = self.client("ssh", "-p", port, 10).args(["-o", "PermitLocalCommand=yes", "-o", &mark]);
        let ssh = ssh.arg("-T").arg("-E").arg(&self.log).arg(format!("{USER}@{}", self.public)).arg(command);
        self.converse(&ssh, Some(self.pace.limit(silence)))
    }

    /// Copies a file into the login's home by the protocol that has `scp -t` at the other end.
    pub(super) fn copy(&self, port: u16, name: &str, text: &str) -> Result<Said> {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.scratch.path().join(name);
        fs::write(&file, text).with_context(|| format!("Writing {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).context("Making a script executable")?;
        let scp = self.client("scp", "-P", port, 180).args(["-O", "-q"]).arg(&file);
        let said = self.converse(&scp.arg(format!("{USER}@{}:~/", self.public)), None);
        fs::remove_file(&file).with_context(|| format!("Removing {}", file.display()))?;
        said
    }

    fn client(&self, program: &str, flag: &str, port: u16, connect: u64) -> Command {
        let client = OPTIONS
            .iter()
            .fold(Command::new(program).arg("-F").arg("/dev/null"), |client, option| client.args(["-o", option]));
        let connect = format!("ConnectTimeout={}", self.pace.limit(connect).as_secs().max(1));
        let client = client.args(["-o", &connect]).arg("-i").arg(&self.key).arg(flag).arg(port.to_string());
        // Should this program be killed, nobody waits for the client any more.
        client.under("setpriv", ["--pdeathsig", "KILL", "--"]).network(&self.network)
    }

    /// Runs a client to its end. Silence counts from the login on; getting there has its own limit.
    fn converse(&self, client: &Command, silence: Option<Duration>) -> Result<Said> {
        for file in [&self.output, &self.log] {
            fs::write(file, "").with_context(|| format!("Emptying {}", file.display()))?;
        }
        drop(fs::remove_file(&self.within));
        let started = Instant::now();
        let mut running = client.start(&self.output)?;
        let (mut length, mut heard) = (0, None);
        let exit = loop {
            if let Some(code) = running.ended()? {
                break Ok(code);
            }
            let now = fs::metadata(&self.output).context("Asking how much was said")?.len();
            if now != length || heard.is_none() && self.within.exists() {
                (length, heard) = (now, Some(Instant::now()));
            }
            let (limit, since) = match (heard, silence) {
                (Some(heard), Some(silence)) => (silence, heard),
                _ => (LOGIN, started),
            };
            if since.elapsed() > limit {
                running.kill()?;
                break Err(format!("silent for {:.1} s", since.elapsed().as_secs_f32()));
            }
            thread::sleep(POLL);
        };
        let said = fs::read(&self.output).context("Reading what was said")?;
        let own = fs::read_to_string(&self.log).context("Reading the client's log")?;
        let exit = match exit {
            // The client's own trouble: no connection, no login. A command that a signal ended has no status either.
            Ok(255) if !own.trim().is_empty() => Err(own.trim().to_owned()),
            Ok(255) => Err("no exit status".to_owned()),
            other => other,
        };
        Ok(Said { exit, text: String::from_utf8_lossy(&said).into_owned(), elapsed: started.elapsed() })
    }

    /// Whether a port of the public address takes a connection.
    pub(super) fn connect(&self, port: u16) -> Result<Said> {
        let started = Instant::now();
        let address: SocketAddr = format!("{}:{port}", self.public).parse().context("Reading an address")?;
        let limit = self.pace.limit(10);
        let tried = inside(&self.network, move || {
            TcpStream::connect_timeout(&address, limit).map(drop).map_err(|error| anyhow!("{error}"))
        });
        let exit = tried.map(|()| 0).map_err(|error| format!("{error:#}"));
        Ok(Said { exit, text: String::new(), elapsed: started.elapsed() })
    }

    /// What the API tells anybody of its version. Any certificate does, but it has to be for that address.
    pub(super) fn version(&self) -> Result<Said> {
        let address = format!("{}:6443", self.public);
        let started = Instant::now();
        let certificate = format!(
            "openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -checkip {}",
            self.public
        );
        let limit = self.pace.limit(10);
        let checked = Command::new("sh").args(["-c", &certificate]).limit(limit).network(&self.network).output()?;
        if checked.code == 0 && !checked.stdout.contains("does match") {
            let text = checked.stdout.trim().to_owned();
            return Ok(Said { exit: Err(text), text: String::new(), elapsed: started.elapsed() });
        }
        let seconds = limit.as_secs().max(1).to_string();
        let url = format!("https://{address}/version");
        let curl = Command::new("curl").args(["-k", "-sS", "-f", "--max-time", &seconds, &url]).limit(limit);
        let got = curl.network(&self.network).output()?;
        let exit = if got.code == 0 { Ok(0) } else { Err(got.stderr.trim().to_owned()) };
        Ok(Said { exit, text: got.stdout, elapsed: started.elapsed() })
    }
}
