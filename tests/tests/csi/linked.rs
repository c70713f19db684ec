//! kubelet's directory behind a symbolic link, as on machines whose root disk is small.

use std::fs;

use cks_tests::csi::{Bed, DRIVER, KUBELET, Options};

/// The mount table knows no links: an unstage that looks for the path as it was told would find nothing to unmount, and the
/// disk would be detached while it is mounted.
#[test]
fn a_volume_behind_a_link_is_staged_once_and_taken_away() {
    let bed = Bed::still(&Options::default()).unwrap();
    bed.sh(&format!(
        "umount {KUBELET} && mkdir -p /run/elsewhere && rmdir {KUBELET} && ln -s ../../run/elsewhere {KUBELET}"
    ))
    .unwrap();
    bed.sh(&format!("mkdir -p {KUBELET}/plugins/{DRIVER}")).unwrap();
    bed.restart().unwrap();
    let before = bed.mounts().unwrap();
    let client = bed.client().unwrap();
    let disk = bed.disk(16 << 20).unwrap();
    let read_only = {
        let mut publish = bed.publish(&disk, 2).unwrap();
        publish.readonly = true;
        publish
    };
    for _ in 0..2 {
        client.stage(bed.stage(&disk).unwrap()).unwrap();
        client.publish(bed.publish(&disk, 1).unwrap()).unwrap();
        client.publish(read_only.clone()).unwrap();
        client.expand(bed.expand(&disk, 1, 16 << 20).unwrap()).unwrap();
        client.stats(bed.stats(&disk, 1).unwrap()).unwrap();
    }
    assert_eq!(bed.mounts_of(&disk).unwrap().len(), 3);
    fs::write(bed.path(bed.target(&disk, 1).unwrap()).join("file"), "kept").unwrap();
    assert!(client.unstage(bed.unstage(&disk).unwrap()).is_err(), "it is published still");
    let told = bed.sh(&format!("{} volumes", cks_tests::programs::built("cks-agent").unwrap().display())).unwrap();
    assert!(told.contains(&disk.volume_id), "{told}");
    for pod in [1, 2] {
        client.unpublish(bed.unpublish(&disk, pod).unwrap()).unwrap();
    }
    client.unstage(bed.unstage(&disk).unwrap()).unwrap();
    assert_eq!(bed.mounts().unwrap(), before);
}
