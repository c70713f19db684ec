//! Nodes for etcd: each with a network, a root directory and a first process of its own, and the real etcd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cks_tests::leash::Daemon;
use cks_tests::netns::Netns;
use cks_tests::process::{Command, Output};
use cks_tests::programs;
use tempfile::TempDir;

/// What things take at most on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

const INIT: &str = include_str!("init.sh");
const SYSTEMCTL: &str = include_str!("systemctl.sh");

/// Runs in the network that ties the nodes together.
const HUB_SIDE: &str = "ip link add br0 type bridge && ip link set br0 up";
/// Runs there for each node: its wire.
const WIRE: &str = r#"
ip link add "n$1" type veth peer name eth0 netns "$2"
ip link set "n$1" master br0 up
"#;
/// Runs in a node's network.
const NODE_SIDE: &str = r#"
ip address del 10.1.1.1/24 dev lo
ip address add "$1/24" dev eth0
ip link set eth0 up
"#;

fn script(text: &str) -> Command {
    Command::new("sh").args(["-e", "-c", text, "bed"])
}

/// The network that the nodes are in.
pub(crate) struct Hub {
    netns: Netns,
}

impl Hub {
    pub(crate) fn new() -> Result<Self> {
        let netns = Netns::new()?;
        netns.enter(script(HUB_SIDE)).ok().context("Making a bridge")?;
        Ok(Self { netns })
    }
}

/// The programs of etcd 3.6, built before: compiling takes minutes, which a test shall not hide in its time.
pub(crate) fn etcd() -> Result<PathBuf> {
    let found = programs::built_before("etcd", "v3.6")?;
    found.context("etcd 3.6 is not built: run tests/tools/build etcd, or ./dev test")
}

/// A machine that is, or is to be, a member.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) root: PathBuf,
    netns: Netns,
    init: Option<Daemon>,
    _directory: TempDir,
}

impl Node {
    /// `e<number>` at 10.1.1.<10 + number>, with nothing on its disk but etcd's programs.
    pub(crate) fn new(hub: &Hub, number: u8, programs: &Path) -> Result<Self> {
        let address = format!("10.1.1.{}", 10 + number);
        let netns = Netns::new()?;
        hub.netns.enter(script(WIRE).arg(number.to_string()).arg(netns.path())).ok().context("Making a wire")?;
        netns.enter(script(NODE_SIDE).arg(&address)).ok().context("Setting up a node's network")?;
        let directory = cks_tests::scratch("etcd")?;
        let root = directory.path().join("root");
        let mut node = Self { name: format!("e{number}"), address, root, netns, init: None, _directory: directory };
        node.provision(programs)?;
        Ok(node)
    }

    /// A new machine of the same name and address: an empty disk, and nothing runs.
    pub(crate) fn provision(&mut self, programs: &Path) -> Result<()> {
        self.init = None;
        if self.root.exists() {
            Command::new("rm").args(["-r", "--one-file-system"]).arg(&self.root).ok().context("Wiping a node")?;
        }
        for directory in ["opt/bin", "usr/bin", "run/bed", "etc/systemd/system", "var/lib"] {
            fs::create_dir_all(self.root.join(directory))?;
        }
        // etcd's user has to reach its files.
        for directory in [self.root.parent().unwrap_or(&self.root), &self.root] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(self.root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(self.root.join("etc/group"), "root:x:0:\n")?;
        for program in ["etcd", "etcdctl", "etcdutl"] {
            let from = programs.join(program);
            if from.exists() {
                std::os::unix::fs::symlink(from, self.root.join("opt/bin").join(program))?;
            }
        }
        let systemctl = self.root.join("usr/bin/systemctl");
        fs::write(&systemctl, SYSTEMCTL)?;
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
        self.boot()
    }

    /// Starts the machine: with etcd, where its unit is enabled and told.
    pub(crate) fn boot(&mut self) -> Result<()> {
        self.init = None;
        let run = self.root.join("run/bed");
        for left in ["ctl", "wanted", "pid", "state"] {
            let _ = fs::remove_file(run.join(left));
        }
        Command::new("mkfifo").arg(run.join("ctl")).ok()?;
        let init = self.netns.enter(Command::new("sh").args(["-c", INIT, "init"]).arg(&self.root));
        let mut init = init.daemon(&run.join("init.log"))?;
        init.ready(LIMIT, || run.join("state").exists())?;
        self.init = Some(init);
        if self.root.join("etc/systemd/system/etcd.service").exists() {
            self.tell("start")?;
        }
        Ok(())
    }

    /// The machine loses its power.
    pub(crate) fn power_off(&mut self) -> Result<()> {
        self.init.take().map_or(Ok(()), |mut init| init.kill())
    }

    /// Tells the first process: `start`, `stop`, `kill` (SIGKILL to etcd, which is started again).
    pub(crate) fn tell(&self, verb: &str) -> Result<()> {
        fs::write(self.root.join("run/bed/ctl"), format!("{verb}\n")).context("Telling the first process")
    }

    /// `cks-agent etcd …` on this node.
    pub(crate) fn agent(&self, args: &[&str]) -> Result<Command> {
        let agent = Command::new(programs::built("cks-agent")?).arg("etcd").arg("--root").arg(&self.root);
        Ok(self.netns.enter(agent.args(args)))
    }

    /// `cks-agent etcd start`, as one of `members`.
    pub(crate) fn start(&self, members: &str) -> Result<Command> {
        self.agent(&["start", "--node-name", &self.name, "--node-ip", &self.address, "--etcd-initial-cluster", members])
    }

    /// Writes the unit, as a bootstrap does.
    pub(crate) fn unit(&self) -> Result<()> {
        fs::create_dir_all(self.root.join("var/lib/etcd"))?;
        std::os::unix::fs::chown(self.root.join("var/lib/etcd"), Some(999), Some(999))?;
        fs::write(self.root.join("etc/systemd/system/etcd.service"), bootstrap::render::etcd::UNIT)?;
        Ok(())
    }

    /// Stops etcd, as an operator does.
    pub(crate) fn stop(&self) -> Result<()> {
        Command::new(self.root.join("usr/bin/systemctl")).args(["stop", "etcd.service"]).ok().map(drop)
    }

    /// etcdctl on this node, asking its own member.
    pub(crate) fn etcdctl(&self, args: &[&str]) -> Command {
        let pki = self.root.join("etc/etcd/pki");
        let tls = pki.exists();
        let scheme = if tls { "https" } else { "http" };
        let call = Command::new(self.root.join("opt/bin/etcdctl")).env("ETCDCTL_API", "3");
        let call = call.arg("--endpoints").arg(format!("{scheme}://{}:2379", self.address));
        let call = if tls {
            call.arg("--cacert")
                .arg(pki.join("ca.crt"))
                .arg("--cert")
                .arg(pki.join("client.crt"))
                .arg("--key")
                .arg(pki.join("client.key"))
        } else {
            call
        };
        self.netns.enter(call.args(args))
    }

    /// A command in this node's network.
    pub(crate) fn enter(&self, command: Command) -> Command {
        self.netns.enter(command)
    }

    /// Writes a value, with all the time that the members need for another leader.
    pub(crate) fn put(&self, key: &str, value: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.etcdctl(&["put", key, value]).ok() {
                Err(_) if Instant::now() < deadline => {}
                ended => return ended.map(drop),
            }
        }
    }

    /// A value as this member has it, whether there is a leader or not.
    pub(crate) fn get(&self, key: &str) -> Result<String> {
        let get = self.etcdctl(&["get", "--consistency", "s", "--print-value-only", key]).ok()?;
        Ok(get.trim_end().to_owned())
    }

    /// The hash of all that this member has.
    pub(crate) fn hash(&self) -> Result<u64> {
        let json = self.etcdctl(&["endpoint", "hashkv", "-w", "json"]).ok()?;
        let json: serde_json::Value = serde_json::from_str(&json)?;
        json[0]["HashKV"]["hash"].as_u64().context("no hash")
    }

    /// The process id of etcd, as its machine has it.
    pub(crate) fn pid(&self) -> String {
        fs::read_to_string(self.root.join("run/bed/pid")).unwrap_or_default()
    }

    pub(crate) fn log_of_etcd(&self) -> String {
        fs::read_to_string(self.root.join("run/bed/etcd.log")).unwrap_or_default()
    }

    /// What etcd and the first process said, for a failed test.
    pub(crate) fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.root.join("run/bed").join(name)).unwrap_or_default();
        let log = read("etcd.log");
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("--- {}\n{}\n{}\n{end}", self.name, read("init.log"), read("systemctl.log"))
    }
}

/// Members in one network, with an authority where they speak TLS.
pub(crate) struct Bed {
    _hub: Hub,
    pub(crate) nodes: Vec<Node>,
    pub(crate) members: String,
    pub(crate) directory: TempDir,
    tls: bool,
}

impl Bed {
    /// `count` machines that nothing was done to yet.
    pub(crate) fn new(count: u8, tls: bool, programs: &Path) -> Result<Self> {
        let hub = Hub::new()?;
        let nodes = (1..=count).map(|number| Node::new(&hub, number, programs)).collect::<Result<Vec<_>>>()?;
        let members = nodes.iter().map(|node| format!("{}=http://{}:2380", node.name, node.address));
        let members = members.collect::<Vec<_>>().join(",");
        let directory = cks_tests::scratch("etcd-bed")?;
        if tls {
            authority(directory.path(), "ca")?;
        }
        Ok(Self { _hub: hub, nodes, members, directory, tls })
    }

    /// A cluster of `count` members that serves.
    pub(crate) fn formed(count: u8, tls: bool, programs: &Path) -> Result<Self> {
        let bed = Self::new(count, tls, programs)?;
        bed.start_all()?;
        Ok(bed)
    }

    /// The command that makes a node a member.
    pub(crate) fn start(&self, node: &Node) -> Result<Command> {
        self.start_within(node, "100s", "6s")
    }

    /// As [`Bed::start`], giving up after `wait`, and on the others after `others`.
    pub(crate) fn start_within(&self, node: &Node, wait: &str, others: &str) -> Result<Command> {
        let (certificate, key) = (self.directory.path().join("ca.crt"), self.directory.path().join("ca.key"));
        let start = node.start(&self.members)?.args(["--wait", wait, "--wait-others", others, "--wait-serve", "8s"]);
        Ok(if self.tls { start.arg("--ca-certificate").arg(certificate).arg("--ca-key").arg(key) } else { start })
    }

    /// Makes all nodes members, at once.
    pub(crate) fn start_all(&self) -> Result<()> {
        let outputs: Vec<Result<Output>> = thread::scope(|scope| {
            let run = |node| scope.spawn(move || self.start(node)?.output());
            let running: Vec<_> = self.nodes.iter().map(run).collect();
            running.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a thread panicked"))).collect()
        });
        for (node, output) in self.nodes.iter().zip(outputs) {
            let output = output?;
            ensure!(output.code == 0, "{output:?}\n{}", node.log());
        }
        Ok(())
    }

    /// Runs `cks-agent etcd …` on a node to its end, which must be a good one.
    pub(crate) fn ok(&self, node: usize, args: &[&str]) -> Result<String> {
        let output = self.nodes[node].agent(args)?.output()?;
        ensure!(output.code == 0, "{args:?}: {output:?}\n{}", self.nodes[node].log());
        Ok(output.stdout)
    }

    /// Waits until all nodes have the same data.
    pub(crate) fn agree(&self) -> Result<u64> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let hashes: Result<Vec<u64>> = self.nodes.iter().map(Node::hash).collect();
            match hashes {
                Ok(hashes) if hashes.windows(2).all(|pair| pair[0] == pair[1]) => {
                    return hashes.first().copied().context("no nodes");
                }
                other if Instant::now() > deadline => bail!("the members do not agree: {other:?}"),
                _ => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Waits until `condition` holds.
    pub(crate) fn poll(&self, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !condition() {
            assert!(Instant::now() < deadline, "what was waited for did not come\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn logs(&self) -> String {
        self.nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n")
    }
}

/// An authority made by openssl: `NAME.crt`, `NAME.key`.
pub(crate) fn authority(directory: &Path, name: &str) -> Result<()> {
    let file = |end: &str| directory.join(format!("{name}.{end}"));
    let request = Command::new("openssl").args(["req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=etcd CA"]);
    let request = request.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    request.arg("-keyout").arg(file("key")).arg("-out").arg(file("crt")).ok().map(drop)
}

/// A certificate of the authority `issuer` for a peer at `address`.
pub(crate) fn issue(directory: &Path, issuer: &str, address: &str, certificate: &Path, key: &Path) -> Result<()> {
    let (request, names) = (directory.join("leaf.csr"), directory.join("leaf.names"));
    fs::write(&names, format!("subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth,clientAuth\n"))?;
    let ask = Command::new("openssl").args(["req", "-nodes", "-subj", "/CN=peer", "-newkey", "ec"]);
    let ask = ask.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-out"]).arg(&request);
    ask.arg("-keyout").arg(directory.join("leaf.tmp")).ok()?;
    // Into the file that is there, so that its owner stays.
    fs::write(key, fs::read(directory.join("leaf.tmp"))?)?;
    let sign = Command::new("openssl").args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]).arg(&request);
    let sign = sign.arg("-CA").arg(directory.join(format!("{issuer}.crt")));
    let sign = sign.arg("-CAkey").arg(directory.join(format!("{issuer}.key"))).arg("-extfile").arg(&names);
    fs::write(certificate, sign.ok()?)?;
    Ok(())
}
