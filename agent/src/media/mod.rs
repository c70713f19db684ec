//! Where bundle bytes come from: [`vr`] (an HTTP directory), [`remote`] (an .iso file by HTTP), [`iso`] (a disc
//! or an .iso file, read in user space) and [`tree`] (a directory).
//!
//! A [`Source`] does two things: it opens (manifest or listing), and it reads a byte range of an entry.
//!
//! Which sources there are is looked for all the time: [`candidates`] makes them of the settings' names,
//! [`prober`] looks at each (when [`events`] tell, and from time to time), [`set`] knows what came of it, and
//! [`stream`] reads from the best one that does well.

pub mod candidates;
pub mod discs;
pub mod eject;
pub mod events;
pub mod http;
pub mod iso;
pub mod locate;
mod looks;
pub mod pieces;
pub mod prober;
pub mod remote;
pub mod router;
pub mod seek;
pub mod set;
pub mod shown;
pub mod stream;
pub mod teller;
pub mod tree;
mod turn;
pub mod vr;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bootstrap::bundle::legacy::Listed;
use bootstrap::failure::{Code, Failure};

use crate::config::Http;

pub use self::http::place::without_password;
pub use self::pieces::Pieces;
pub use self::stream::{Media, Stream};
pub use self::turn::Turn;

/// Bytes of one piece that is handed on: large enough for few system calls and messages, small enough
/// that the pieces in flight fit the memory of the smallest node.
pub const PIECE_BYTES: usize = 256 << 10;

/// What opening a source brings to light.
#[derive(Debug)]
pub enum Opened {
    /// The bundle has a manifest.
    Manifest {
        /// The bytes of `cks-bundle.json`. Nobody reads them before their signature is checked.
        bytes: Vec<u8>,
        /// The bytes of `cks-bundle.json.minisig`, where there is one.
        signature: Option<Vec<u8>>,
    },
    /// A stock ISO: only its listing is known.
    Listing(Vec<Listed>),
}

/// A place that bundle bytes come from.
#[derive(Debug)]
pub struct Source {
    /// As it was named by the operator, without a password.
    pub name: String,
    medium: Medium,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Medium {
    Vr(Box<vr::Vr>),
    Remote(Arc<remote::Remote>),
    Iso(iso::Iso),
    Tree(tree::Tree),
}

impl Source {
    /// Opens the source called `name`: `http://…/`, `http://….iso`, an .iso file, a block device, or a
    /// directory. A web server is spoken to as `http` says; when it is `direct`, by no proxy.
    ///
    /// # Errors
    /// `MEDIA_NOT_FOUND`, `MEDIA_NOT_A_BUNDLE`, `SOURCE_…` and `MANIFEST_…`, each naming the source.
    pub async fn open(name: &str, http: &Http, direct: bool) -> Result<(Self, Opened), Failure> {
        let (medium, opened) = if name.starts_with("http://") || name.starts_with("https://") {
            if remote::is_iso(name) {
                let (remote, opened) = remote::Remote::open(name, http, direct).await?;
                (Medium::Remote(remote), opened)
            } else {
                let (vr, opened) = vr::Vr::open(name, http, direct).await?;
                (Medium::Vr(Box::new(vr)), opened)
            }
        } else if name.contains("://") {
            let what = format!("source {}: only http:// and https:// URLs are read", without_password(name));
            return Err(Failure::new(Code::ConfigInvalid, what));
        } else if tree::is_directory(name) {
            let (tree, opened) = tree::Tree::open(name)?;
            (Medium::Tree(tree), opened)
        } else {
            let (iso, opened) = iso::Iso::open(name)?;
            (Medium::Iso(iso), opened)
        };
        Ok((Self { name: without_password(name), medium, bytes: Arc::default() }, opened))
    }

    /// Reads `length` bytes of the entry `path` from `offset` on. `size` is the entry's size as the
    /// manifest or listing tells it; a source that has another size is refused at once.
    ///
    /// # Errors
    /// `SOURCE_…` names the source and the entry.
    pub async fn read(&self, path: &str, size: u64, offset: u64, length: u64) -> Result<Pieces, Failure> {
        let pieces = match &self.medium {
            Medium::Vr(vr) => Pieces::Http(vr.read(path, size, offset, length).await?),
            Medium::Remote(remote) => Pieces::Remote(remote::Remote::read(remote, path, size, offset, length).await?),
            Medium::Iso(iso) => Pieces::File(iso.read(path, size, offset, length)?),
            Medium::Tree(tree) => Pieces::File(tree.read(path, size, offset, length)?),
        };
        Ok(pieces.counted(Arc::clone(&self.bytes)))
    }

    /// Which version of an entry this source has, in its own words, where it tells: what was fetched of an entry
    /// without digest is of use for this version alone.
    pub fn validator(&self, path: &str) -> Option<String> {
        match &self.medium {
            Medium::Vr(vr) => vr.validator(path),
            Medium::Remote(remote) => remote.validator(),
            Medium::Iso(_) | Medium::Tree(_) => None,
        }
    }

    /// How often an entry was found to be another one when it was asked for its rest: where no digest tells, what
    /// was fetched of it has to be fetched again.
    pub fn changes(&self, path: &str) -> u64 {
        match &self.medium {
            Medium::Vr(vr) => vr.changes(path),
            Medium::Remote(remote) => remote.changes(),
            Medium::Iso(_) | Medium::Tree(_) => 0,
        }
    }

    /// Bytes that came from it so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
