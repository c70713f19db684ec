//! User data → what the management server, or an operator, asked of this machine.
//!
//! ```text
//! bytes ─ decode ─► parts ─ split ─► the server's text ─ server ──┐
//!                             │                                   ├─ wish ─► NodeSpec
//!                             ├────► a cks: section ─── section ──┤
//!                             └────► the user's text ── cni ──────┘
//! ```
//!
//! What cloud-init can't read is read as far as it is the server's. What is not recognised is left alone and named.

mod cloud_config;
pub mod cloud_init;
mod cni;
pub mod decode;
mod jinja;
mod kubeadm;
mod metadata;
mod outline;
mod place;
mod placeholder;
mod reading;
mod section;
pub mod server;
mod shell;
mod split;
mod wish;
pub mod yaml;

use crate::failure::{Code, Failure};

pub use self::metadata::Metadata;
pub use self::outline::outline;
pub use self::place::{Ignored, Origin, Place, Remark};
pub use self::reading::{Adoption, CniFault, PartShown, Reading, Recognised, look, read};

fn refused(what: impl Into<String>) -> Failure {
    Failure::new(Code::UserDataInvalid, what)
}

/// The same, with the place.
fn refused_at(at: Place, what: impl std::fmt::Display) -> Failure {
    refused(format!("{at}: {what}"))
}

/// What is said of a placeholder that is still there.
fn unfilled(what: &str, token: &str) -> String {
    let token = crate::text::plain(token);
    format!("{what} is still the placeholder {{{{ {token} }}}}: the management server did not fill it in")
}
