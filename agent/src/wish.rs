//! What the node shall become: told by arguments, or by its user data.

use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;

use crate::board::Board;
use crate::cli;
use crate::config::Config;
use crate::host::Host;

/// Who says what the node shall become.
#[derive(Debug)]
pub enum Wish {
    /// The arguments: it is installed, and nothing more.
    Arguments(Box<NodeSpec>),
    /// Its user data.
    UserData,
}

/// What was said.
#[derive(Debug)]
pub struct Told {
    /// What the node shall become.
    pub spec: NodeSpec,
    /// The settings, with what the user data says instead.
    pub settings: Config,
}

impl Wish {
    /// The wish of `arguments`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the value.
    pub fn of(arguments: &cli::Bootstrap, host: &Host) -> Result<Self, Failure> {
        let Some(role) = arguments.role else { return Ok(Self::UserData) };
        let name = arguments.node_name.clone().unwrap_or_else(|| host.name());
        let cluster = arguments.etcd_initial_cluster.as_deref();
        let spec = NodeSpec::new(role.into(), &name, arguments.node_ip, cluster)?;
        Ok(Self::Arguments(Box::new(spec)))
    }

    /// Finds out what is wanted.
    ///
    /// # Errors
    /// `METADATA_UNREACHABLE`, `USER_DATA_INVALID`, `USER_DATA_UNKNOWN`.
    pub async fn resolve(self, _host: &Host, settings: Config, _board: &Board) -> Result<Told, Failure> {
        match self {
            Self::Arguments(spec) => Ok(Told { spec: *spec, settings }),
            Self::UserData => Err(Failure::new(Code::UserDataUnknown, "no user data is read yet")),
        }
    }
}
