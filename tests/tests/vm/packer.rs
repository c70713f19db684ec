//! `packer/`: what is written down is understood, and one template is really made.

use std::fs;
use std::time::Duration;

use cks_tests::process::Command;
use cks_tests::programs::workspace;
use cks_tests::vm::Template;
use cks_tests::vm::instance::KERNEL;

const DISTRIBUTIONS: [&str; 4] = ["debian-12", "ubuntu-22.04", "ubuntu-24.04", "rocky-9"];

#[test]
fn every_template_is_understood() {
    let scratch = cks_tests::scratch("packer").unwrap();
    let package = scratch.path().join("cks-agent.deb");
    fs::write(&package, "").unwrap();
    for distribution in DISTRIBUTIONS {
        let build = Command::new(workspace().join("packer/build")).args(["--validate", distribution]);
        build.arg(&package).arg(scratch.path().join("output")).ok().unwrap();
    }
}

/// Debian's own cloud image can't be had here: its place takes a root of the same packages, whose kernel QEMU is handed.
#[test]
#[ignore = "minutes of a boot with apt-get in it: just bed-packer"]
fn a_template_of_debian_is_made() {
    let scratch = cks_tests::scratch("packer").unwrap();
    let [packages, output] = ["packages", "output"].map(|name| scratch.path().join(name));
    Command::new(workspace().join("packaging/tools")).args(["deb"]).limit(Duration::from_secs(900)).ok().unwrap();
    let pack = Command::new(workspace().join("packaging/build")).args(["--quick", "--only", "cks-agent", "-o"]);
    pack.arg(&packages).limit(Duration::from_secs(600)).ok().unwrap();
    let deb = fs::read_dir(&packages).unwrap().map(|entry| entry.unwrap().path());
    let deb = deb.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb")).unwrap();
    let image = Template::cloud_image().unwrap();
    let [kernel, initramfs] = image.kernel();
    let qemu = format!(
        r#"qemuargs=[["-kernel","{}"],["-initrd","{}"],["-append","{KERNEL}"],["-cpu","Nehalem"]]"#,
        kernel.display(),
        initramfs.display()
    );
    let build = Command::new(workspace().join("packer/build")).arg("debian-12").arg(deb).arg(&output);
    let build = build.args(["-var", &format!("source={}", image.disk.display()), "-var", "source_checksum=none"]);
    let build = build.args(["-var", "accelerator=tcg", "-var", &qemu]);
    let said = build.env("PACKER_NO_COLOR", "1").limit(Duration::from_secs(1500)).ok().unwrap();
    assert!(said.contains("cmk register template name=cks-debian-12") && said.contains("forcks=true"), "{said}");
    Command::new("sha256sum").args(["-c", "cks-debian-12.qcow2.sha256"]).directory(&output).ok().unwrap();
    is_sealed(&output.join("cks-debian-12.qcow2"), &scratch.path().join("raw"));
}

/// What an instance would start from, as the filesystem has it.
fn is_sealed(image: &std::path::Path, raw: &std::path::Path) {
    Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(image).arg(raw).ok().unwrap();
    let ask = |request: &str| Command::new("debugfs").args(["-R", request]).arg(raw).ok().unwrap();
    let users = ask("cat /etc/passwd");
    assert!(users.contains("\ncloud:") && !users.contains("packer"), "{users}");
    assert!(matches!(ask("cat /etc/machine-id").trim(), "" | "uninitialized"));
    for gone in [
        "/home/packer",
        "/etc/sudoers.d/90-cloud-init-users",
        "/etc/ssh/ssh_host_ed25519_key",
        "/tmp/cks-agent.package",
    ] {
        let looked = Command::new("debugfs").args(["-R", &format!("stat {gone}")]).arg(raw).output().unwrap();
        assert!(looked.stderr.contains("File not found"), "{gone}: {}", looked.stdout);
    }
    assert!(ask("stat /usr/bin/cks-agent").contains("Type: regular"));
}
