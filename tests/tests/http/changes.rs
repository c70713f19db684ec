//! Files that change on the server while they are fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::bundle::Arch;
use cks_tests::faults::{Fault, Faults, Moment};
use cks_tests::node::{Node, code};
use cks_tests::process::Command;
use cks_tests::small;
use cks_tests::vr::Vr;

use crate::{Bed, ETCD, aged, fetched};

/// Puts another file with these bytes in the place of the one at `path`.
fn replaced(path: PathBuf, bytes: Vec<u8>) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || {
        let part = path.with_extension("part");
        fs::write(&part, &bytes).unwrap();
        Command::new("touch").args(["-d", "2020-01-01"]).arg(&part).ok().unwrap();
        Command::new("chmod").arg("a+r").arg(&part).ok().unwrap();
        fs::rename(part, &path).unwrap();
    })
}

#[test]
fn with_a_digest_the_bytes_are_kept_and_the_digest_decides() {
    let bed = Bed::new();
    let whole = bed.whole();
    let half = bed.etcd_bytes() / 2;
    for (form, file) in bed.forms().into_iter().zip(["cks-iso/etcd/etcd-linux-amd64.tar.gz", "isos/small.iso"]) {
        let file = bed.vr.docroot.join(file);
        let same = fs::read(&file).unwrap();
        let faults = bed.faults(&form.url);
        faults.on(Moment::of(form.path, 0).after(half), Fault::Breaks(replaced(file, same)));
        let node = bed.node();
        let output = node.run(&[&faults.url]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(whole.digest(), node.tree().unwrap().digest());
        assert_eq!(fetched(&node), bed.whole_by(&form.url).1, "each byte is taken once");
        assert!(faults.asked().iter().any(|asked| asked.if_range.is_some() && asked.status == 200));
    }

    // Other content of the same size: it is noticed, and nothing of it gets into force.
    let file = bed.vr.docroot.join("cks-iso").join(ETCD);
    let mut other = fs::read(&file).unwrap();
    other.iter_mut().rev().take(100).for_each(|byte| *byte ^= 1);
    let faults = bed.faults(&bed.vr.url);
    faults.on(Moment::of(ETCD, 0).after(half), Fault::Breaks(replaced(file, other)));
    let node = bed.node();
    let output = node.run(&[&faults.url]).unwrap();
    assert_eq!(code(&output), "DIGEST_MISMATCH", "{output:?}");
    assert_eq!(node.in_force().unwrap(), [""; 0]);
}

/// A stock ISO's content, served as a directory, and another etcd tarball of the same size for it.
fn stock() -> (Vr, tempfile::TempDir, PathBuf) {
    let work = cks_tests::scratch("http").unwrap();
    let directory = work.path().join("components");
    small::components(&directory, Arch::parse(std::env::consts::ARCH).unwrap()).unwrap();
    let vr = Vr::start(&directory).unwrap();
    let file = vr.docroot.join("cks-iso").join(ETCD);
    aged(&file);
    (vr, work, file)
}

fn start_over(vr: &Vr, faults: &Faults, file: &Path, touched: &[u8]) {
    let clean = Node::new("etcd").unwrap().inside(&vr.netns);
    assert_eq!(clean.run(&[&vr.url]).unwrap().code, 0);
    let half = touched.len() as u64 / 2;
    faults.on(Moment::of(ETCD, 0).after(half), Fault::Breaks(replaced(file.to_owned(), touched.to_owned())));
    let node = Node::new("etcd").unwrap().inside(&vr.netns);
    let output = node.run(&[&faults.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}\n{:#?}", faults.asked());
    let asked: Vec<_> = faults.asked().into_iter().filter(|asked| asked.path.ends_with(ETCD)).collect();
    let gets: Vec<_> = asked.iter().filter(|asked| asked.method == "GET").collect();
    assert!(gets[1].if_range.is_some(), "{asked:#?}");
    let from_the_start = gets.iter().filter(|asked| asked.range.is_some_and(|(first, _)| first == 0)).count();
    assert_eq!(from_the_start, 2, "the file was fetched anew: {asked:#?}");
    assert_eq!(clean.tree().unwrap().digest(), node.tree().unwrap().digest());
}

#[test]
fn without_a_digest_the_file_is_fetched_anew() {
    let (vr, _work, file) = stock();
    let faults = Faults::between(&vr.netns, &vr.url).unwrap();
    let bytes = fs::read(&file).unwrap();
    start_over(&vr, &faults, &file, &bytes);
}

#[test]
fn without_a_digest_the_next_run_goes_on_with_the_same_version_only() {
    for changes in [false, true] {
        let (vr, _work, file) = stock();
        let bytes = fs::read(&file).unwrap();
        let faults = Faults::between(&vr.netns, &vr.url).unwrap();
        let half = bytes.len() as u64 / 2;
        faults.on(Moment::of(ETCD, 0).after(half), Fault::Close);
        // Behind the HEAD of the listing and the request that is broken off.
        faults.on(Moment::of(ETCD, 2).always(), Fault::Status(404, None));
        let node = Node::new("etcd").unwrap().inside(&vr.netns);
        let output = node.run(&[&faults.url]).unwrap();
        assert_eq!(code(&output), "SOURCE_FILE_MISSING", "{output:?}");
        if changes {
            replaced(file, bytes.clone())();
        }
        let faults = Faults::between(&vr.netns, &vr.url).unwrap();
        let again = node.run(&[&faults.url]).unwrap();
        assert_eq!(again.code, 0, "{again:?}");
        let fetched: u64 =
            faults.asked().iter().filter(|asked| asked.path.ends_with(ETCD)).map(|asked| asked.bytes).sum();
        assert_eq!(fetched == bytes.len() as u64, changes, "{fetched} of {}", bytes.len());
    }
}
