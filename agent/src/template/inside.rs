//! Programs of the machine that is prepared: started as they are on this one, or below the root of an image's tree.

use std::path::Path;
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use rand::Rng as _;

use crate::host::Host;
use crate::tool::{Call, Said, Tool};

/// How long a package manager may take.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How the script below says that another one works on the same root, and how long that may be so.
const BUSY: i32 = 75;
const BUSY_PATIENCE: Duration = Duration::from_secs(600);
const BUSY_PAUSE: Duration = Duration::from_secs(3);

/// What programs of an image find around them, in a mount namespace that ends with them, however they end. Services must not
/// start there (policy-rc.d), names are looked up as this machine does, and nothing of that is left in the image: an
/// empty file where one has to be mounted over is taken away again.
const SCRIPT: &str = r#"
root=$1; shift
# What a killed run left there comes to its end first: what it stands on would be taken away under it.
exec 9<"$root"
flock -n 9 || { echo 'busy' >&2; exit 75; }
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/lock"
made=
resolv=$root/etc/resolv.conf
if [ -L "$resolv" ]; then
    target=$(readlink "$resolv")
    case $target in
    */run/*)
        target=$root/run/${target##*/run/}
        mkdir -p "${target%/*}"
        if [ -e /etc/resolv.conf ]; then cat /etc/resolv.conf >"$target"; fi
        ;;
    esac
elif [ -e /etc/resolv.conf ]; then
    [ -e "$resolv" ] || { : >"$resolv"; made="$made $resolv"; }
    mount --bind /etc/resolv.conf "$resolv"
fi
policy=$root/usr/sbin/policy-rc.d
if [ -d "$root/usr/sbin" ]; then
    if [ ! -s "$policy" ]; then : >"$policy"; chmod 644 "$policy"; made="$made $policy"; fi
    printf '#!/bin/sh\nexit 101\n' >"$root/run/policy-rc.d"
    chmod 755 "$root/run/policy-rc.d"
    mount --bind "$root/run/policy-rc.d" "$policy"
fi
code=0
chroot "$root" "$@" || code=$?
for path in $made; do
    umount "$path" 2>/dev/null || true
    rm -f "$path"
done
exit $code
"#;

/// Where programs are started.
pub(super) struct Inside<'a> {
    host: &'a Host,
}

impl<'a> Inside<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        Self { host }
    }

    /// Whether it is this machine, and not an image's tree.
    pub(super) fn is_this_machine(&self) -> bool {
        self.host.root() == Path::new("/")
    }

    /// Whether the program is there.
    pub(super) fn has(&self, tool: Tool) -> bool {
        super::facts::program(self.host, tool.name()).is_some()
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// `TOOL_MISSING`, `IO`, `TIMED_OUT`.
    pub(super) async fn run(&self, tool: Tool, args: &[&str]) -> Result<Said, Failure> {
        if !self.has(tool) {
            return Err(Failure::new(
                Code::ToolMissing,
                format!("{} is not installed in {}", tool.name(), self.host.root().display()),
            ));
        }
        let since = Instant::now();
        loop {
            let said = self.call(tool, args)?.output().await?;
            if said.code != Some(BUSY) || said.stderr.trim() != "busy" || since.elapsed() > BUSY_PATIENCE {
                return Ok(said);
            }
            tracing::warn!("a killed run is still at work below {}: waiting for its end", self.host.root().display());
            tokio::time::sleep(BUSY_PAUSE.mul_f64(rand::rng().random_range(0.7..1.3))).await;
        }
    }

    fn call(&self, tool: Tool, args: &[&str]) -> Result<Call, Failure> {
        let call = if self.is_this_machine() {
            tool.call(self.host)
        } else {
            let builder = Host::new(Path::new("/"))?;
            let call = Tool::Unshare.call(&builder).args(["--mount", "--", "/bin/sh", "-euc", SCRIPT, "inside"]);
            // systemctl then works on files alone.
            call.arg(self.host.root()).arg(tool.name()).env("SYSTEMD_OFFLINE", "1")
        };
        let call = call.env("DEBIAN_FRONTEND", "noninteractive").env("APT_LISTCHANGES_FRONTEND", "none");
        Ok(call.args(args).patience(PATIENCE))
    }

    /// Runs a program and gives what it prints.
    ///
    /// # Errors
    /// As [`Self::run`]; and `code`, when it fails.
    pub(super) async fn ok(&self, tool: Tool, args: &[&str], code: Code) -> Result<String, Failure> {
        let said = self.run(tool, args).await?;
        if said.code == Some(0) {
            return Ok(said.stdout);
        }
        Err(said.failure(&format!("{} {}", tool.name(), args.join(" ")), code))
    }
}
