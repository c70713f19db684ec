//! External programs: every one that the agent starts, started here.
//!
//! Longer than other files: nobody else may start a program, so all that is said about it stands together.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::host::Host;

/// A version is printed at once, or the program hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// What programs find their own programs by: CKS keeps its own in `/opt/bin`.
const PATH: &str = "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As much of what a failed program said last goes into its failure.
const TAIL: usize = 2048;
/// What a program said may still be on its way when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// No more of a line is kept at once, and no more of all that a program says.
const LONGEST_LINE: usize = 1 << 20;
const MOST_WORDS: usize = 32 << 20;

/// Taken while a program is started: until it is executed, it has all open files of this process. Of the process there is
/// one, and so there is one of this.
static STARTING: RwLock<()> = RwLock::new(());

/// For as long as this is kept, no program is started, and so none has a file that is opened and closed meanwhile. Who keeps
/// it must not start one.
pub fn start_none() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// A program of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The node's Kubernetes agent.
    Kubelet,
    /// Joins, upgrades, resets.
    Kubeadm,
    /// Speaks to the API server.
    Kubectl,
    /// The container runtime.
    Containerd,
    /// Speaks CRI to the container runtime.
    Crictl,
    /// The key-value store.
    Etcd,
    /// Speaks to it.
    Etcdctl,
    /// Works on its files.
    Etcdutl,
    /// Starts and stops services.
    Systemctl,
    /// Makes users of the system.
    SystemdSysusers,
    /// Loads kernel modules.
    Modprobe,
    /// Turns swap off.
    Swapoff,
    /// Links, addresses, routes.
    Ip,
    /// The packet filter's rules.
    Nft,
    /// The same, as the older program prints them.
    IptablesSave,
    /// Replaces them.
    IptablesRestore,
    /// The same for IPv6.
    Ip6tablesSave,
    /// The same for IPv6.
    Ip6tablesRestore,
    /// Prints rules that are kept by nftables.
    IptablesNftSave,
    /// Replaces them.
    IptablesNftRestore,
    /// The same for IPv6.
    Ip6tablesNftSave,
    /// The same for IPv6.
    Ip6tablesNftRestore,
    /// Prints rules that are kept in iptables' own tables.
    IptablesLegacySave,
    /// Replaces them.
    IptablesLegacyRestore,
    /// The same for IPv6.
    Ip6tablesLegacySave,
    /// The same for IPv6.
    Ip6tablesLegacyRestore,
    /// The kernel's load balancer.
    Ipvsadm,
    /// Sets of addresses.
    Ipset,
    /// The shell, for lines of a user's own.
    Shell,
    /// Sets SELinux labels as the host's policy wants them.
    Restorecon,
    /// Makes a filesystem.
    MkfsExt3,
    /// The same.
    MkfsExt4,
    /// The same.
    MkfsXfs,
    /// The same.
    MkfsBtrfs,
    /// Repairs ext2, ext3 and ext4.
    E2fsck,
    /// Grows them.
    Resize2fs,
    /// Grows XFS.
    XfsGrowfs,
    /// Grows Btrfs.
    Btrfs,
    /// Looks for signatures on a disk.
    Blkid,
    /// Encrypts disks.
    Cryptsetup,
    /// Speaks to containerd.
    Ctr,
    /// Starts a program in a mount namespace of its own.
    Unshare,
    /// Starts a program as another user.
    Runuser,
    /// Debian's package manager.
    AptGet,
    /// Tells what it knows.
    AptCache,
    /// Installs packages of Debian's.
    Dpkg,
    /// Makes them.
    DpkgDeb,
    /// Red Hat's package manager.
    Dnf,
    /// Tells which packages of Red Hat's are installed.
    Rpm,
    /// Makes a user.
    Useradd,
    /// Changes one.
    Usermod,
    /// Checks settings of sudo.
    Visudo,
}

impl Tool {
    /// Its name as one types it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::Kubeadm => "kubeadm",
            Self::Kubectl => "kubectl",
            Self::Containerd => "containerd",
            Self::Crictl => "crictl",
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::Etcdutl => "etcdutl",
            Self::Systemctl => "systemctl",
            Self::SystemdSysusers => "systemd-sysusers",
            Self::Modprobe => "modprobe",
            Self::Swapoff => "swapoff",
            Self::Ip => "ip",
            Self::Nft => "nft",
            Self::IptablesSave => "iptables-save",
            Self::IptablesRestore => "iptables-restore",
            Self::Ip6tablesSave => "ip6tables-save",
            Self::Ip6tablesRestore => "ip6tables-restore",
            Self::IptablesNftSave => "iptables-nft-save",
            Self::IptablesNftRestore => "iptables-nft-restore",
            Self::Ip6tablesNftSave => "ip6tables-nft-save",
            Self::Ip6tablesNftRestore => "ip6tables-nft-restore",
            Self::IptablesLegacySave => "iptables-legacy-save",
            Self::IptablesLegacyRestore => "iptables-legacy-restore",
            Self::Ip6tablesLegacySave => "ip6tables-legacy-save",
            Self::Ip6tablesLegacyRestore => "ip6tables-legacy-restore",
            Self::Ipvsadm => "ipvsadm",
            Self::Ipset => "ipset",
            Self::Shell => "sh",
            Self::Restorecon => "restorecon",
            Self::MkfsExt3 => "mkfs.ext3",
            Self::MkfsExt4 => "mkfs.ext4",
            Self::MkfsXfs => "mkfs.xfs",
            Self::MkfsBtrfs => "mkfs.btrfs",
            Self::E2fsck => "e2fsck",
            Self::Resize2fs => "resize2fs",
            Self::XfsGrowfs => "xfs_growfs",
            Self::Btrfs => "btrfs",
            Self::Blkid => "blkid",
            Self::Cryptsetup => "cryptsetup",
            Self::Ctr => "ctr",
            Self::Unshare => "unshare",
            Self::Runuser => "runuser",
            Self::AptGet => "apt-get",
            Self::AptCache => "apt-cache",
            Self::Dpkg => "dpkg",
            Self::DpkgDeb => "dpkg-deb",
            Self::Dnf => "dnf",
            Self::Rpm => "rpm",
            Self::Useradd => "useradd",
            Self::Usermod => "usermod",
            Self::Visudo => "visudo",
        }
    }

    /// Where the program may be, best first.
    fn directories(self) -> &'static [&'static str] {
        match self {
            Self::Kubelet | Self::Kubeadm | Self::Kubectl | Self::Crictl => &["/opt/bin", "/usr/bin"],
            Self::Etcd | Self::Etcdctl | Self::Etcdutl => &["/opt/bin", "/usr/bin"],
            Self::Containerd => &["/usr/bin", "/usr/local/bin", "/opt/bin"],
            _ => &["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"],
        }
    }

    /// What makes it print its version.
    fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kubeadm => &["version", "-o", "short"],
            _ => &["--version"],
        }
    }

    /// The program below `host`, where it is installed.
    #[must_use]
    pub fn find(self, host: &Host) -> Option<PathBuf> {
        let name = self.name();
        self.directories().iter().map(|place| host.path(&format!("{place}/{name}"))).find(|path| path.is_file())
    }

    /// What the program prints when it is asked for its version; none where it is not installed.
    ///
    /// # Errors
    /// In words: it can't be started, fails, or does not answer in ten seconds.
    pub async fn ask_version(self, host: &Host) -> Option<Result<String, String>> {
        self.find(host)?;
        let said = self.call(host).args(self.version_arguments()).patience(PATIENCE).ok(Code::Io).await;
        Some(said.map_err(|failure| failure.what))
    }

    /// A run of the program, to be told more and then started.
    pub fn call(self, host: &Host) -> Call {
        Call {
            tool: self,
            path: self.find(host),
            args: Vec::new(),
            env: vec![("PATH".into(), PATH.into()), ("HOME".into(), "/root".into()), ("LANG".into(), "C.UTF-8".into())],
            input: None,
            patience: PATIENCE,
        }
    }
}

/// One run of a program. It has nothing of the agent's own environment.
#[derive(Debug, Clone)]
#[must_use]
pub struct Call {
    tool: Tool,
    path: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    input: Option<Vec<u8>>,
    patience: Duration,
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Call {
    /// With one more argument; never a secret, everybody sees arguments.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// With more arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// With `input` on its standard input; without, it reads nothing.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Ended after `patience`; ten seconds unless told.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// As one would type it.
    #[must_use]
    pub fn shown(&self) -> String {
        let words = self.args.iter().map(|arg| arg.to_string_lossy());
        std::iter::once(self.tool.name().into()).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end, whatever the exit code.
    ///
    /// # Errors
    /// `TOOL_MISSING`, `IO` when it can't be started, `TIMED_OUT`.
    pub async fn output(self) -> Result<Said, Failure> {
        self.lines(|_| {}).await
    }

    /// Runs it to its end and gives its standard output.
    ///
    /// # Errors
    /// As [`Self::output`]; and `code`, with the end of what it said, when it fails.
    pub async fn ok(self, code: Code) -> Result<String, Failure> {
        let shown = self.shown();
        let said = self.output().await?;
        if said.code == Some(0) { Ok(said.stdout) } else { Err(said.failure(&shown, code)) }
    }

    /// As [`Self::output`], with each line of both outputs as it comes.
    ///
    /// # Errors
    /// As [`Self::output`].
    pub async fn lines(self, mut each: impl FnMut(&str)) -> Result<Said, Failure> {
        let shown = self.shown();
        let Some(path) = &self.path else {
            let what = format!("{} is not installed", self.tool.name());
            return Err(Failure::new(Code::ToolMissing, what));
        };
        #[expect(clippy::disallowed_methods, reason = "the one place where the agent starts programs")]
        let mut command = tokio::process::Command::new(path);
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let failed = |e| Failure::new(Code::Io, format!("Running {}", path.display())).with_source(e);
        // A group of its own: what it starts ends with it when it is ended.
        command.process_group(0);
        let mut child = {
            let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
            command.spawn().map_err(failed)?
        };
        let mut group = Group(child.id());
        let (stdin, input) = (child.stdin.take(), self.input);
        let feeding = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that does not want all of it says so by its exit code.
                let _ = stdin.write_all(&input).await;
            }
        };
        let (mut stdout, mut stderr) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
        let running = async {
            let reading = read_both(&mut stdout, &mut stderr, &mut each);
            tokio::pin!(reading);
            let ended = tokio::select! {
                ended = async { tokio::join!(feeding, child.wait()).1 } => ended,
                // It said its last word; it may still be at work.
                () = &mut reading => return child.wait().await,
            };
            // What it left in the background holds the pipes for as long as it likes.
            let _ = tokio::time::timeout(LAST_WORDS, reading).await;
            ended
        };
        let status: ExitStatus = match tokio::time::timeout(self.patience, running).await {
            Ok(status) => status.map_err(failed)?,
            Err(_) => {
                let what = format!("{shown} did not end in {} s", self.patience.as_secs());
                return Err(Failure::new(Code::TimedOut, what));
            }
        };
        group.ended();
        Ok(Said { code: status.code(), stdout: stdout.text, stderr: stderr.text })
    }
}

/// Reads both streams to their ends.
async fn read_both<A, B>(stdout: &mut Lines<A>, stderr: &mut Lines<B>, each: &mut impl FnMut(&str))
where
    A: AsyncRead + Unpin,
    B: AsyncRead + Unpin,
{
    while !(stdout.ended && stderr.ended) {
        let line = tokio::select! {
            line = stdout.next(), if !stdout.ended => line,
            line = stderr.next(), if !stderr.ended => line,
        };
        line.iter().for_each(|line| each(line));
    }
}

/// The processes of a program that has not ended: they end when nobody waits for them any more.
struct Group(Option<u32>);

impl Group {
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|leader| i32::try_from(leader).ok()) {
            // All of them may be gone already.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

impl Said {
    /// The failure of a program that was run as `shown`, with the end of what it said.
    #[must_use]
    pub fn failure(&self, shown: &str, code: Code) -> Failure {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let said = said.trim();
        let from = said.len().saturating_sub(TAIL);
        let from = (from..=said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or_default();
        let tail = said.get(from..).unwrap_or_default().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let ended = self.code.map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with {code}"));
        Failure::new(code, format!("{shown} {ended}: {tail}"))
    }
}

/// A stream of lines, and all that came of it.
struct Lines<R> {
    reader: Option<BufReader<R>>,
    text: String,
    ended: bool,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn of(reader: Option<R>) -> Self {
        Self { ended: reader.is_none(), reader: reader.map(BufReader::new), text: String::new(), buffer: Vec::new() }
    }

    /// The next line; none at the end. Dropped half-way, it goes on where it was.
    async fn next(&mut self) -> Option<String> {
        let reader = self.reader.as_mut()?;
        // A line without end is told in pieces.
        let room = LONGEST_LINE.saturating_sub(self.buffer.len()).max(1);
        match reader.take(room as u64).read_until(b'\n', &mut self.buffer).await {
            Ok(read) if read > 0 || !self.buffer.is_empty() => {
                let line = String::from_utf8_lossy(&self.buffer).into_owned();
                self.buffer.clear();
                if self.text.len() + line.len() <= MOST_WORDS {
                    self.text.push_str(&line);
                }
                Some(line.trim_end_matches('\n').to_owned())
            }
            _ => {
                self.ended = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host::new("/".as_ref()).unwrap()
    }

    #[tokio::test]
    async fn both_outputs_and_the_exit_code_are_told() {
        let mut lines = Vec::new();
        let call = Tool::Shell.call(&host()).args(["-c", "cat; echo b >&2; printf c; exit 3"]).input("a\n");
        let said = call.lines(|line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(3), "a\nc", "b\n"));
        lines.sort();
        assert_eq!(lines, ["a", "b", "c"]);
        let failure = said.failure("sh", Code::KubeadmFailed);
        assert_eq!((failure.code, failure.what.as_str()), (Code::KubeadmFailed, "sh ended with 3: b"));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended() {
        let call = Tool::Shell.call(&host()).args(["-c", "exec sleep 600"]).patience(Duration::from_millis(50));
        assert_eq!(call.output().await.unwrap_err().code, Code::TimedOut);
    }

    #[tokio::test]
    async fn what_it_left_in_the_background_is_not_waited_for() {
        let said = Tool::Shell.call(&host()).args(["-c", "sleep 600 & echo $!"]).output().await.unwrap();
        assert_eq!(said.code, Some(0));
        let left = said.stdout.trim().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn what_it_started_is_ended_with_it() {
        let mut inner = None;
        let call = Tool::Shell.call(&host()).args(["-c", "sleep 600 & echo $!; wait"]);
        let ended = call.patience(Duration::from_millis(300)).lines(|line| inner = line.parse().ok()).await;
        assert_eq!(ended.unwrap_err().code, Code::TimedOut);
        let gone = || nix::sys::signal::kill(Pid::from_raw(inner.unwrap()), None).is_err();
        let began = std::time::Instant::now();
        while !gone() && began.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(gone());
    }

    #[tokio::test]
    async fn a_line_without_end_is_told_in_pieces() {
        let mut longest = 0;
        let call = Tool::Shell.call(&host()).args(["-c", "head -c 3000000 /dev/zero | tr '\\0' x"]);
        call.lines(|line| longest = longest.max(line.len())).await.unwrap();
        assert_eq!(longest, LONGEST_LINE);
    }

    #[tokio::test]
    async fn nothing_of_our_environment_is_handed_on() {
        let said = Tool::Shell.call(&host()).args(["-c", "env"]).env("A", "b").ok(Code::Io).await.unwrap();
        let names: Vec<&str> = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert!(names.contains(&"A") && !names.iter().any(|name| name.starts_with("CARGO")), "{said}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let failure = Tool::Kubeadm.call(&host).output().await.unwrap_err();
        assert_eq!((failure.code, failure.what.as_str()), (Code::ToolMissing, "kubeadm is not installed"));
    }
}
