//! `cks-iso keygen`, and the options of every command that uses a key.

use std::path::{Path, PathBuf};

use bootstrap::failure::Failure;
use bootstrap::text::plain;
use clap::Args;

use crate::keys::{self, Asked, SecretKey};
use crate::report;

/// Where the password of a secret key comes from.
#[derive(Debug, Args)]
pub(super) struct PasswordOptions {
    /// The file whose first line is the secret key's password, instead of asking at the terminal
    /// [env: CKS_ISO_KEY_PASSWORD_FILE].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordOptions {
    fn asked(self) -> Asked {
        let file = self.password_file.or_else(|| super::set("CKS_ISO_KEY_PASSWORD_FILE").map(PathBuf::from));
        file.map_or(Asked::Terminal, Asked::File)
    }

    /// Opens the secret key at `path`.
    pub(super) fn open(self, path: &Path) -> Result<SecretKey, Failure> {
        SecretKey::load(path, &self.asked())
    }
}

/// Make a pair of keys to sign ISOs with: NAME.key, which is secret, and NAME.pub.
///
/// They are keys of minisign. No file is ever replaced.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso keygen ~/keys/release\n  \
    cks-iso keygen ci --password-file /run/secrets/cks-password")]
pub(super) struct Keygen {
    /// Path and name of the pair, without suffix.
    name: PathBuf,
    /// Leave the secret key unprotected: whoever can read the file can sign.
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    #[command(flatten)]
    password: PasswordOptions,
}

impl Keygen {
    pub(super) fn run(self) -> Result<(), Failure> {
        let asked = self.password.asked();
        let made = keys::generate(&self.name, (!self.no_password).then_some(&asked))?;
        let shown = |path: &Path| plain(&path.to_string_lossy());
        let text = format!(
            "Key      {}\nSecret   {}: keep a copy where no other key is, and tell nobody\n\
             Public   {}: give it to everybody who verifies\n",
            made.id,
            shown(&made.secret),
            shown(&made.public),
        );
        report::print(&text).map_err(super::unprinted)
    }
}
