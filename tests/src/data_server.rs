//! The virtual router as a data server: `/latest/user-data`, `/latest/meta-data/…`, for each guest by its address
//! (CloudStack's `VRGuestNetwork` and `vmdata.py`: a directory for each guest, guarded, and rewriting by the address
//! that asks).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::vr::Vr;

/// What the router's web server makes of a guest's request.
const REWRITES: &str = "RewriteEngine On\n\
    RewriteRule ^user-data$ /userdata/%{REMOTE_ADDR}/user-data [L]\n\
    RewriteRule ^meta-data/?$ /metadata/%{REMOTE_ADDR}/meta-data [L]\n\
    RewriteRule ^meta-data/(.+)$ /metadata/%{REMOTE_ADDR}/$1 [L]\n\
    RewriteRule ^(.+)$ /metadata/%{REMOTE_ADDR}/$1 [L]\n";

/// What a virtual router knows of its guests.
#[derive(Debug)]
pub struct DataServer {
    docroot: PathBuf,
}

impl DataServer {
    /// Makes `vr` a data server, which knows nobody yet.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn of(vr: &Vr) -> Result<Self> {
        let server = Self { docroot: vr.docroot.clone() };
        server.put("latest/.htaccess", REWRITES.as_bytes())?;
        for kind in ["metadata", "userdata"] {
            for guest in fs::read_dir(server.docroot.join(kind)).context("Reading the guests")? {
                let guest = guest.context("Reading the guests")?.path();
                server.forget(&guest.file_name().unwrap_or_default().to_string_lossy())?;
            }
        }
        Ok(server)
    }

    /// Tells the guest at the address `guest` about itself; without `user_data` the server answers 404.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn tell(&self, guest: &str, keys: &[(&str, &str)], user_data: Option<&[u8]>) -> Result<()> {
        let guard = format!("Options +FollowSymLinks\nOrder Deny,Allow\nDeny from all\nAllow from {guest}\n");
        let listing: String = keys.iter().map(|(key, _)| format!("{key}\n")).collect();
        self.put(&format!("metadata/{guest}/.htaccess"), guard.as_bytes())?;
        self.put(&format!("userdata/{guest}/.htaccess"), guard.as_bytes())?;
        if let Some(user_data) = user_data {
            self.put(&format!("userdata/{guest}/user-data"), user_data)?;
        }
        for (key, value) in keys {
            self.put(&format!("metadata/{guest}/{key}"), value.as_bytes())?;
        }
        self.put(&format!("metadata/{guest}/meta-data"), listing.as_bytes())
    }

    /// Keeps everybody from the user data of the guest at the address `guest`, as a router does whose guards are not written
    /// yet: 403.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn guard(&self, guest: &str) -> Result<()> {
        self.put(&format!("userdata/{guest}/.htaccess"), b"Order Deny,Allow\nDeny from all\n")
    }

    /// Forgets the guest at the address `guest`, as a router does that has just started.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub fn forget(&self, guest: &str) -> Result<()> {
        for kind in ["metadata", "userdata"] {
            let directory = self.docroot.join(kind).join(guest);
            for file in fs::read_dir(&directory).into_iter().flatten().flatten() {
                fs::remove_file(file.path()).with_context(|| format!("Removing {}", file.path().display()))?;
            }
        }
        Ok(())
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.docroot.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("Making {}", directory.display()))?;
        }
        fs::write(&path, bytes).with_context(|| format!("Writing {}", path.display()))
    }
}
