//! A kernel as QEMU starts it without a boot loader, and the modules that it needs until the root is there. Debian's own
//! initramfs takes 9 s longer under translation, and its packed kernel 4 s.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::process::Command;

/// What a machine boots with.
#[derive(Debug, Clone)]
pub(super) struct Kit {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
}

/// `ata_piix` and `sr_mod` are there early: cloud-init looks for a disc before udev has loaded what drives it.
const SCRIPT: &str = r#"
root=$1 to=$2
release=$(ls "$root/lib/modules")
# The unpacked kernel lies within the packed one, behind the magic number of xz; what follows it is no part of it.
at=$(LC_ALL=C grep -a -b -o -m 1 -P '\xfd7zXZ\x00' "$root/boot/vmlinuz-$release" | head -n 1 | cut -d: -f1)
tail -c +$((at + 1)) "$root/boot/vmlinuz-$release" | xz -dc --single-stream >"$to/vmlinux"
mkdir -p "$to/ram/bin" "$to/ram/dev" "$to/ram/proc" "$to/ram/sys" "$to/ram/root" "$to/ram/modules"
cp "$root/bin/busybox" "$to/ram/bin/"
for module in virtio_pci virtio_blk ext4 crc32c_generic ata_piix sr_mod; do
    modprobe -d "$root" -S "$release" --show-depends "$module"
done | while read -r kind file rest; do
    [ "$kind" = insmod ] || continue
    name=$(basename "$file")
    [ -e "$to/ram/modules/$name" ] || { cp "$file" "$to/ram/modules/"; echo "$name" >>"$to/ram/order"; }
done
cat >"$to/ram/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read -r module; do $b insmod "/modules/$module"; done </order
tries=0
until [ -b /dev/vda ] || [ $tries -ge 100 ]; do $b sleep 0.1; tries=$((tries + 1)); done
$b mount -t ext4 -o rw /dev/vda /root
$b mount --move /dev /root/dev
$b umount /proc /sys
exec $b switch_root /root /sbin/init
INIT
chmod 755 "$to/ram/init"
(cd "$to/ram" && find . | cpio -o -H newc --quiet | gzip -1) >"$to/initramfs"
rm -r "$to/ram"
"#;

impl Kit {
    /// Takes it out of a tree with Debian's kernel, into the directory `to`.
    pub(super) fn of(root: &Path, to: &Path) -> Result<Self> {
        let script = Command::new("bash").args(["-e", "-c", SCRIPT, "kit"]).arg(root).arg(to);
        script.ok().context("Taking a kernel out of its package")?;
        let kit = Self { kernel: to.join("vmlinux"), initramfs: to.join("initramfs") };
        let magic = fs::read(&kit.kernel).context("Reading the kernel")?;
        ensure!(magic.starts_with(b"\x7fELF"), "{} is no ELF file", kit.kernel.display());
        Ok(kit)
    }
}
