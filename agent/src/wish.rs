//! What the node shall become: told by arguments, or by its user data.

use std::path::PathBuf;

use bootstrap::adoption::standing::Standing;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{Delivery, NodeSpec};
use bootstrap::router;
use bootstrap::state::Phase;
use bootstrap::user_data::{self, Reading};
use clap::ValueEnum as _;

use crate::adopt::{self, Outcome, UserDataRecord};
use crate::board::Board;
use crate::cli;
use crate::cluster::record;
use crate::config::{Config, Policy};
use crate::host::Host;
use crate::media::candidates::ROUTER;
use crate::metadata::{self, Found};
use crate::record::NodeRecord;

/// Who says what the node shall become.
#[derive(Debug)]
pub enum Wish {
    /// The arguments: it is installed, and nothing more.
    Arguments(Box<NodeSpec>),
    /// Its user data.
    UserData {
        /// A file with it, where it is not looked for.
        file: Option<PathBuf>,
        /// A directory with the metadata.
        metadata: Option<PathBuf>,
        /// Whether nothing may be changed.
        dry_run: bool,
        /// What else the command line says.
        insisted: Insisted,
    },
}

/// What the command line says of the delivery: it counts more than the user data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Insisted {
    /// The sources.
    pub sources: bool,
    /// The policy.
    pub policy: bool,
}

/// What was said.
#[derive(Debug)]
pub enum Told {
    /// The node shall become this.
    Become(Box<Task>),
    /// Nothing is to be done, and that is where the node stands.
    Nothing(Phase),
}

/// What the node shall become, and how.
#[derive(Debug)]
pub struct Task {
    /// What the node shall become.
    pub spec: NodeSpec,
    /// The settings, with what the user data says instead.
    pub settings: Config,
    /// The user data that says so.
    pub found: Option<Found>,
}

impl Wish {
    /// The wish of `arguments`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the value.
    pub fn of(arguments: &cli::Bootstrap, host: &Host) -> Result<Self, Failure> {
        let Some(role) = arguments.role else {
            let (file, metadata) = (arguments.user_data.clone(), arguments.metadata.clone());
            let insisted = Insisted { sources: !arguments.sources.is_empty(), policy: arguments.policy.is_some() };
            return Ok(Self::UserData { file, metadata, dry_run: arguments.dry_run, insisted });
        };
        let name = arguments.node_name.clone().unwrap_or_else(|| host.name());
        let cluster = arguments.etcd_initial_cluster.as_deref();
        let spec = NodeSpec::new(role.into(), &name, arguments.node_ip, cluster)?;
        Ok(Self::Arguments(Box::new(spec)))
    }

    /// Finds out what is wanted; where it is the user data that says so, the management server's scripts are taken over
    /// before anything else is done.
    ///
    /// # Errors
    /// `METADATA_UNREACHABLE`, `USER_DATA_INVALID`, `CNI_INVALID`, `CONFIG_INVALID`, `IO`.
    pub async fn resolve(self, host: &Host, mut settings: Config, board: &Board) -> Result<Told, Failure> {
        let (file, directory, dry_run, insisted) = match self {
            Self::Arguments(spec) => return Ok(become_what(*spec, settings, None)),
            Self::UserData { file, metadata, dry_run, insisted } => (file, metadata, dry_run, insisted),
        };
        board.phase(Phase::Discover);
        settings.metadata.user_data = file.or(settings.metadata.user_data);
        settings.metadata.directory = directory.or(settings.metadata.directory);
        let stays = |code: Code, why: &str| {
            board.warn(format!("{code}: {why}: the node stays the member that it is"));
            Ok(Told::Nothing(Phase::Ready))
        };
        let found = match metadata::find(host, &settings, board).await {
            Ok(found) if found.user_data.is_empty() && is_ready(host) => {
                return stays(Code::UserDataUnknown, &format!("{}: has no user data", found.source));
            }
            Ok(found) => found,
            Err(failure) if is_ready(host) => return stays(failure.code, &failure.what),
            Err(failure) => return Err(failure),
        };
        tracing::info!("user data from {}", found.source);
        let reading = user_data::read(&found.user_data, &found.metadata)?;
        tell(&reading, board);
        let Some(spec) = reading.spec.clone() else { return nobody_asks(&reading, board) };
        let standing = adopt::standing(host, &found)?;
        if standing == Standing::OtherMember && !dry_run {
            // cloud-init has written the scripts of another node: they would make this member that one.
            adopt::stay(host, &spec, &settings, board).await?;
        }
        if let Some(phase) = is_over(host, standing, board)? {
            return Ok(Told::Nothing(phase));
        }
        overlay(&mut settings, &spec.delivery, insisted)?;
        if !dry_run {
            if !is_ours(&adopt::adopt(host, &spec, &settings, board).await?, &reading) {
                return Ok(Told::Nothing(Phase::Idle));
            }
            UserDataRecord::begin(host, &found)?;
        }
        Ok(become_what(spec, settings, Some(found)))
    }
}

fn become_what(spec: NodeSpec, settings: Config, found: Option<Found>) -> Told {
    Told::Become(Box::new(Task { spec, settings, found }))
}

/// Whether an earlier run of ours saw this node ready.
fn is_ready(host: &Host) -> bool {
    let kept = record::read(host).ok().flatten();
    kept.is_some_and(|record| record.stage == bootstrap::cluster::Stage::Ready)
}

/// What somebody should know of the user data.
fn tell(reading: &Reading, board: &Board) {
    for remark in &reading.warnings {
        board.warn(format!("USER_DATA: {}: {}", remark.at, remark.text));
    }
    for ignored in &reading.ignored {
        tracing::info!("user data, {}: {} is left alone: {}", ignored.at, ignored.what, ignored.why);
    }
}

/// A machine of somebody else's is left alone; what looks like CloudStack's and asks for nothing that is known, too, but
/// that is said.
fn nobody_asks(reading: &Reading, board: &Board) -> Result<Told, Failure> {
    match reading.wish() {
        Err(failure) if reading.recognised.release.is_some() => Err(failure),
        _ => {
            board.warn(format!("{}: nobody asks this machine to become a node", Code::UserDataUnknown));
            Ok(Told::Nothing(Phase::Idle))
        }
    }
}

/// Where the node stands, if its user data was carried out before.
fn is_over(host: &Host, standing: Standing, board: &Board) -> Result<Option<Phase>, Failure> {
    // What an earlier run installed is looked at all the same.
    let is_installed = NodeRecord::read(host)?.is_some();
    Ok(match standing {
        Standing::Due => None,
        Standing::Done if is_installed => None,
        Standing::Done => Some(Phase::Ready),
        Standing::Left => Some(Phase::Left),
        Standing::OtherMember => {
            board.warn(format!(
                "{}: the user data is another one than that which made this machine a member: run cks-agent leave first",
                Code::AlreadyMember
            ));
            Some(Phase::Ready)
        }
    })
}

/// Whether it is the agent that makes this machine a node. Where adoption is off, scripts that are there run; where there
/// are none, nobody else would.
fn is_ours(outcome: &Outcome, reading: &Reading) -> bool {
    outcome.is_ours()
        || (*outcome == Outcome::Off && reading.adoption.take_over.is_empty() && reading.adoption.refused.is_empty())
}

/// What the user data says of the delivery counts more than the settings, and less than the command line.
fn overlay(settings: &mut Config, delivery: &Delivery, insisted: Insisted) -> Result<(), Failure> {
    if !delivery.sources.is_empty() && !insisted.sources {
        settings.sources.clone_from(&delivery.sources);
    }
    let asks_router = !insisted.sources || settings.sources.iter().any(|source| source == ROUTER);
    if let Some(address) = delivery.router.filter(|_| asks_router) {
        let url = router::url(address);
        let place = settings.sources.iter().position(|source| source == ROUTER).unwrap_or(settings.sources.len());
        if !settings.sources.contains(&url) {
            settings.sources.insert(place, url);
        }
    }
    if let Some(policy) = delivery.policy.as_ref().filter(|_| !insisted.policy) {
        let unknown = |why| Failure::new(Code::UserDataInvalid, format!("cks.policy {policy:?}: {why}"));
        settings.trust.policy = Some(Policy::from_str(policy, false).map_err(unknown)?);
    }
    settings.trust.told.clone_from(&delivery.keys);
    settings.disc.eject |= delivery.eject;
    if let Some(seconds) = delivery.wait_seconds {
        settings.wait = settings.wait.max(std::time::Duration::from_secs(seconds));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bootstrap::adoption::File;
    use bootstrap::render::etcd;
    use bootstrap::user_data::Metadata;

    use super::*;

    #[tokio::test]
    async fn a_member_that_nobody_asks_anything_stays_one() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let file = host.prepare("/user-data").unwrap();
        std::fs::write(&file, "").unwrap();
        let board = Board::new(None);
        let told = async || {
            let wish = Wish::UserData {
                file: Some(file.clone()),
                metadata: None,
                dry_run: false,
                insisted: Insisted::default(),
            };
            match wish.resolve(&host, Config::default(), &board).await.unwrap() {
                Told::Nothing(phase) => phase,
                Told::Become(task) => panic!("{task:?}"),
            }
        };
        assert_eq!(told().await, Phase::Idle);
        let spec = NodeSpec::new(bootstrap::bundle::Role::Worker, "node-1", None, None).unwrap();
        record::reach(&host, &spec, bootstrap::cluster::Stage::Ready).unwrap();
        assert_eq!(told().await, Phase::Ready);
        let warnings = board.snapshot().warnings;
        assert!(
            warnings.last().unwrap().ends_with("/user-data: has no user data: the node stays the member that it is")
        );
    }

    #[tokio::test]
    async fn a_member_is_kept_from_the_scripts_of_another_node() {
        const UNIT: &str = "[Service]\nExecStart=/opt/bin/etcd --name other\n";
        const SCRIPT: &str = "#!/bin/bash -e\nsystemctl restart containerd\n";
        let scenarios = concat!(env!("CARGO_MANIFEST_DIR"), "/../bootstrap/tests/user_data");
        for (scenario, script, membership) in [
            ("01-worker-4.22", File::Setup, "/etc/kubernetes/kubelet.conf"),
            ("04-etcd-4.22", File::SetupEtcd, "/var/lib/etcd/member/x"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let host = Host::new(root.path()).unwrap();
            let put = |path: &str, text: &str| std::fs::write(host.prepare(path).unwrap(), text).unwrap();
            let read = |path: &str| std::fs::read_to_string(host.path(path)).unwrap();
            put(membership, "");
            let carried_out =
                Found { metadata: Metadata::default(), user_data: b"another".to_vec(), source: "x".to_owned() };
            UserDataRecord::end(&host, &carried_out).unwrap();
            put(etcd::UNIT_PATH, UNIT);
            put(script.path(), SCRIPT);
            let resolve = async |board: &Board, dry_run| {
                let file = Some(std::path::PathBuf::from(format!("{scenarios}/{scenario}/user-data")));
                let metadata = Some(host.path("/metadata"));
                put("/metadata/local-hostname", "c1-node-1");
                put("/metadata/local-ipv4", "10.1.1.21");
                Wish::UserData { file, metadata, dry_run, insisted: Insisted::default() }
                    .resolve(&host, Config::default(), board)
                    .await
                    .unwrap()
            };
            let board = Board::new(None);
            assert!(matches!(resolve(&board, true).await, Told::Nothing(Phase::Ready)), "{scenario}");
            assert_eq!((read(script.path()).as_str(), read(etcd::UNIT_PATH).as_str()), (SCRIPT, UNIT), "{scenario}");
            assert!(matches!(resolve(&board, false).await, Told::Nothing(Phase::Ready)), "{scenario}");
            assert!(bootstrap::adoption::is_ours(&read(script.path())), "{scenario}");
            assert_eq!(read(etcd::UNIT_PATH), UNIT, "{scenario}: of no member of ours");
            put(etcd::ENVIRONMENT_PATH, "");
            assert!(matches!(resolve(&board, false).await, Told::Nothing(Phase::Ready)), "{scenario}");
            assert_eq!(read(etcd::UNIT_PATH), etcd::UNIT, "{scenario}");
            assert!(board.snapshot().warnings.iter().any(|warning| warning.starts_with("ALREADY_MEMBER")));
        }
    }

    #[test]
    fn what_the_user_data_says_counts() {
        let mut settings = Config::default();
        let delivery = Delivery {
            router: "10.1.1.1".parse().ok(),
            policy: Some("require-manifest".to_owned()),
            eject: true,
            wait_seconds: Some(1500),
            ..Delivery::default()
        };
        overlay(&mut settings, &delivery, Insisted::default()).unwrap();
        assert_eq!(settings.sources, ["disc", "http://10.1.1.1/cks-iso/", "vr", "/opt/cks/media"]);
        assert_eq!((settings.trust.policy, settings.disc.eject), (Some(Policy::RequireManifest), true));
        assert_eq!(settings.wait.as_secs(), 1500);
        let wrong = Delivery { policy: Some("trust-all".to_owned()), ..Delivery::default() };
        assert_eq!(overlay(&mut settings, &wrong, Insisted::default()).unwrap_err().code, Code::UserDataInvalid);
    }

    #[test]
    fn what_the_command_line_says_counts_more() {
        let delivery = Delivery {
            sources: vec!["/told".to_owned()],
            router: "10.1.1.1".parse().ok(),
            policy: Some("accept-legacy".to_owned()),
            ..Delivery::default()
        };
        let insisted = Insisted { sources: true, policy: true };
        for (sources, asked) in [(vec!["/given"], vec!["/given"]), (vec!["vr"], vec!["http://10.1.1.1/cks-iso/", "vr"])]
        {
            let mut settings =
                Config { sources: sources.into_iter().map(str::to_owned).collect(), ..Config::default() };
            settings.trust.policy = Some(Policy::RequireManifest);
            overlay(&mut settings, &delivery, insisted).unwrap();
            assert_eq!(settings.sources, asked);
            assert_eq!(settings.trust.policy, Some(Policy::RequireManifest));
        }
    }
}
