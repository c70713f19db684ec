//! CloudStack's virtual router as a web server: Debian's Apache, set up as the system VM sets it up
//! (CloudStack 4.21, `systemvm/debian/etc/apache2`, `cks_iso.sh`), in a private network namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::leash::Daemon;
use crate::netns::{ADDRESS, Netns};
use crate::process::Command;

/// Debian's modules, those of `mods-enabled` after `apt-get install apache2`, and mod_rewrite.
const MODULES: [&str; 20] = [
    "access_compat",
    "alias",
    "auth_basic",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_host",
    "authz_user",
    "autoindex",
    "deflate",
    "dir",
    "env",
    "filter",
    "mime",
    "mpm_event",
    "negotiation",
    "reqtimeout",
    "rewrite",
    "setenvif",
    "status",
];

/// Where Debian keeps them, with the settings that make the index look as on a virtual router.
const MODULES_DIRECTORY: &str = "/etc/apache2/mods-available";

const STATUS: &str = "/server-status";

/// A running virtual router that serves a CKS ISO's content.
#[derive(Debug)]
pub struct Vr {
    /// Where the content is: `http://10.1.1.1/cks-iso/`, reachable inside [`Vr::netns`] only.
    pub url: String,
    /// The directory that `/` stands for.
    pub docroot: PathBuf,
    _apache: Daemon,
    /// The network that the virtual router serves.
    pub netns: Netns,
    directory: TempDir,
}

/// One line of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`.
    pub method: String,
    /// Path, percent-decoded, without the query.
    pub path: String,
    /// `?C=N;O=D`, or nothing.
    pub query: String,
    /// HTTP status.
    pub status: u16,
    /// Bytes sent, with headers.
    pub bytes: u64,
    /// The header `Range`, as sent: `bytes=0-99`.
    pub range: Option<String>,
}

impl Vr {
    /// Serves `content`: a directory, or an .iso file.
    ///
    /// # Errors
    /// When the content can't be read or Apache doesn't start.
    pub fn start(content: &Path) -> Result<Self> {
        let directory = crate::scratch("vr")?;
        let docroot = directory.path().join("html");
        lay_out(&docroot)?;
        place(content, &docroot.join("cks-iso"))?;
        let config = directory.path().join("apache2.conf");
        fs::write(&config, render(directory.path())).context("Writing Apache's configuration")?;
        let netns = Netns::new()?;
        let serve = Command::new("apache2").arg("-DFOREGROUND").arg("-f").arg(&config);
        let mut apache = netns.enter(serve).daemon(&directory.path().join("apache.log"))?;
        let answers = || get(&netns, STATUS).is_ok();
        apache.ready(Duration::from_secs(20), answers).context("Starting Apache as the virtual router")?;
        Ok(Self { url: format!("http://{ADDRESS}/cks-iso/"), docroot, _apache: apache, netns, directory })
    }

    /// Every request so far, once all of them are written down.
    ///
    /// # Errors
    /// When the log can't be read, or a request stays under way for 10 s.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.settle()?;
        let path = self.directory.path().join("access.log");
        let log = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
        log.lines().map(|line| parse(line).with_context(|| format!("Reading the access log: {line:?}"))).collect()
    }

    /// Puts `bytes` in the place of a file under `/cks-iso/`, without touching the file that the content
    /// came from.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let to = self.docroot.join("cks-iso").join(path);
        let part = self.directory.path().join("replacement");
        fs::write(&part, bytes).with_context(|| format!("Writing {}", part.display()))?;
        fs::rename(&part, &to).with_context(|| format!("Replacing {}", to.display()))
    }

    /// Has user data and metadata for the guest at `address`, and for no other (CloudStack's `vmdata.py`).
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn guest(&self, address: &str, user_data: &[u8], metadata: &[(&str, &str)]) -> Result<()> {
        let names: String = metadata.iter().map(|(name, _)| format!("{name}\n")).collect();
        let listed = metadata.iter().copied().chain([("meta-data", names.as_str())]);
        for (name, value) in listed {
            place_for(&self.docroot, address, "metadata", name, value.as_bytes())?;
        }
        place_for(&self.docroot, address, "userdata", "user-data", user_data)
    }

    /// Apache writes a line after the answer has been sent, so a client can be ahead of the log.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let status = get(&self.netns, &format!("{STATUS}?auto"))?;
            let value = |key: &str| -> u64 {
                let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
                line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
            };
            // The one busy worker is the one that answers this.
            if value("BusyWorkers") <= 1 && value("ConnsAsyncWriting") == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "Apache is still busy after 10 s:\n{status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn get(netns: &Netns, path: &str) -> Result<String> {
    let url = format!("http://{ADDRESS}{path}");
    netns.enter(Command::new("curl").args(["-sSf", "--max-time", "5", url.as_str()])).ok()
}

/// The document root as on a virtual router: the index switched on for all of it, and the metadata of
/// guests guarded by the guest's address.
fn lay_out(docroot: &Path) -> Result<()> {
    let guests = [(ADDRESS, "2f0e5c1e-5b0f-4a76-9a1f-6f8a3a1b2c3d"), ("10.1.1.77", "other")];
    write(&docroot.join(".htaccess"), "Options +Indexes\n")?;
    for (guest, id) in guests {
        for (kind, name, text) in [("metadata", "instance-id", id), ("userdata", "user-data", "#cloud-config\n")] {
            place_for(docroot, guest, kind, name, text.as_bytes())?;
        }
    }
    Ok(())
}

/// A file that only the guest at `address` may read.
fn place_for(docroot: &Path, address: &str, kind: &str, name: &str, content: &[u8]) -> Result<()> {
    let directory = docroot.join(kind).join(address);
    let guard = format!("Options +FollowSymLinks\nOrder Deny,Allow\nDeny from all\nAllow from {address}\n");
    write(&directory.join(".htaccess"), &guard)?;
    let path = directory.join(name);
    fs::write(&path, content).with_context(|| format!("Writing {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("Making {}", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("Writing {}", path.display()))
}

/// Puts the content at `to`, where the virtual router mounts the disc.
fn place(content: &Path, to: &Path) -> Result<()> {
    if content.is_dir() {
        return link_tree(content, to);
    }
    if !content.is_file() {
        bail!("{} is neither a directory nor an .iso file", content.display());
    }
    Command::new("xorriso")
        .args(["-osirrox", "on", "-indev"])
        .arg(content)
        .args(["-extract", "/"])
        .arg(to)
        .ok()
        .with_context(|| format!("Extracting {}", content.display()))?;
    Command::new("chmod").args(["-R", "a+rX,u+w"]).arg(to).ok().map(drop)
}

/// Hard links where they do, copies elsewhere: what is served must be readable by Apache's user.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("Making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("Reading {}", from.display()))? {
        let source = entry.with_context(|| format!("Reading {}", from.display()))?.path();
        let target = to.join(source.file_name().unwrap_or_default());
        let meta = fs::metadata(&source).with_context(|| format!("Reading {}", source.display()))?;
        if meta.is_dir() {
            link_tree(&source, &target)?;
        } else if meta.permissions().mode() & 0o444 != 0o444 || fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target).with_context(|| format!("Copying {}", source.display()))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))
                .with_context(|| format!("Opening {} to all", target.display()))?;
        }
    }
    Ok(())
}

fn render(directory: &Path) -> String {
    let place = directory.display();
    let mut text = format!("ServerRoot {place}\nPidFile {place}/apache2.pid\nDefaultRuntimeDir {place}\n");
    for suffix in ["load", "conf"] {
        // The system VM has its own settings of the event module, smaller than Debian's.
        for module in MODULES.iter().filter(|module| suffix == "load" || **module != "mpm_event") {
            text += &format!("IncludeOptional {MODULES_DIRECTORY}/{module}.{suffix}\n");
        }
    }
    text + &format!(
        r#"
Listen {ADDRESS}:80
ServerName cloudinternal.com
User www-data
Group www-data
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
StartServers 1
ThreadsPerChild 25
MaxRequestWorkers 25
ServerTokens Prod
ServerSignature Off
TraceEnable Off
LogLevel warn
ErrorLog {place}/error.log
SetEnvIf Request_URI "^{STATUS}" own
LogFormat "%m\t%>s\t%O\t%{{Range}}i\t%U\t%q" bed
CustomLog {place}/access.log bed env=!own
RewriteEngine On
RewriteRule ^/latest/user-data/?$ /userdata/%{{REMOTE_ADDR}}/user-data [L,PT]
RewriteRule ^/latest/meta-data/?$ /metadata/%{{REMOTE_ADDR}}/meta-data [L,PT]
RewriteRule ^/latest/meta-data/([^/]+)/?$ /metadata/%{{REMOTE_ADDR}}/$1 [L,PT]
RewriteRule ^/latest/([^/]+)/?$ /metadata/%{{REMOTE_ADDR}}/$1 [L,PT]
AccessFileName .htaccess
<FilesMatch "^\.ht">
    Require all denied
</FilesMatch>
<Directory />
    Options FollowSymLinks
    AllowOverride None
</Directory>
DocumentRoot {place}/html
<Directory {place}/html>
    Options Indexes FollowSymLinks MultiViews
    AllowOverride All
    Order allow,deny
    Allow from all
</Directory>
"#
    )
}

fn parse(line: &str) -> Result<Request> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [method, status, bytes, range, path, query] = fields[..] else {
        bail!("{} fields instead of 6", fields.len());
    };
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        status: status.parse().context("Reading the status")?,
        bytes: bytes.parse().context("Reading the bytes sent")?,
        range: (range != "-").then(|| range.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_a_request() {
        let request = parse("GET\t206\t412\tbytes=0-99\t/cks-iso/docker/pause:3.10.tar\t").unwrap();
        assert_eq!((request.status, request.bytes), (206, 412));
        assert_eq!(request.range.as_deref(), Some("bytes=0-99"));
        assert_eq!(request.path, "/cks-iso/docker/pause:3.10.tar");
        assert!(parse("GET\t200").is_err());
    }
}
