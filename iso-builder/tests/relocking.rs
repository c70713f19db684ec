//! Locks that meet another `cks-iso`, and what is said of manifests.

use std::fs;

use bootstrap::digest::Digest;

use crate::fixture::upstream::NETWORK;
use crate::locking::Bed;

fn said_of(bed: &Bed, args: &str) -> (bool, String) {
    let output = bed.try_cks_iso(args);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn lose_cache(bed: &Bed) {
    for directory in ["cache/sha256", "cache/url"] {
        for file in fs::read_dir(bed.path(directory)).into_iter().flatten() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn doubts_about_manifests_are_warnings_of_lock_and_build() {
    let bed = Bed::new();
    let open = "            - {name: A_IMAGE, valueFrom: {fieldRef: {fieldPath: a}}}\n";
    let network = format!("{NETWORK}          env:\n{}", open.repeat(40));
    bed.upstream.change("calico.yaml", Some(network.into_bytes()));
    for args in ["lock spec.toml", "lock spec.toml", "build spec.toml -o a.iso", "build spec.toml -o a.iso --locked"] {
        let (good, said) = said_of(&bed, args);
        let first = "warning: network.yaml:13: DaemonSet calico-node, spec.template.spec.containers[0].env[0]: ";
        assert!(good && said.contains(first) && said.contains("add the image to [[images]]"), "{args}: {said}");
        assert!(said.contains("warning: 29 more places") && !said.contains("network.yaml:30:"), "{args}: {said}");
    }
    let json = bed.cks_iso("lock spec.toml --json");
    assert!(json.contains("network.yaml:13: DaemonSet"), "{json}");
}

#[test]
fn what_a_release_got_wrong_is_replaced_and_stands_in_the_lock() {
    let bed = Bed::new();
    let fault = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n\
                 spec: {containers: [{name: c, image: 'example.org/team/app:latest'}]}\n";
    bed.write("own.yaml", fault);
    let manifests = "\n[manifests.\"own.yaml\"]\nfile = \"own.yaml\"\n";
    bed.write("spec.toml", &format!("{}{manifests}", bed.read("spec.toml")));
    bed.refused("lock spec.toml", "REGISTRY_LACKS_IMAGE", "app:latest");
    let replace = r#"replace = [["a---", "a\n---"], ["app:latest", "app:1.0"], ["absent", "present"]]"#;
    bed.write("spec.toml", &format!("{}{replace}\n", bed.read("spec.toml")));
    let (good, said) = said_of(&bed, "build spec.toml -o a.iso");
    assert!(good && !said.contains("warning: own.yaml") && said.contains("(texts replaced: 2)"), "{said}");
    let healed = fault.replace("a---", "a\n---").replace("app:latest", "app:1.0");
    assert_eq!(bed.on_iso("a.iso", "own.yaml"), healed);
    let lock = bed.lock();
    let own = lock.file("manifests.\"own.yaml\"").unwrap();
    assert_eq!((own.replaced.len(), own.sha256), (2, Some(Digest::of(fault.as_bytes()))));
    bed.cks_iso("verify a.iso");
    // The lock is what counts.
    bed.edit("cks-iso.lock", "\"app:1.0\"", "\"app:1.1\"");
    bed.refused("build spec.toml -o b.iso --locked", "SPEC_INVALID", "the image example.org/team/app:1.1 is not on");
}

#[test]
fn a_lock_of_other_profiles_is_kept_to() {
    let bed = Bed::new();
    bed.cks_iso("build spec.toml -o a.iso");
    // As if the lock was made when the profile had another version, and one file more.
    bed.edit("cks-iso.lock", "v3.30.3/manifests/calico.yaml", "v3.29.9/manifests/calico.yaml");
    let more = "kind: Namespace\napiVersion: v1\nmetadata: {name: more}\n";
    let file = format!(
        "[[files]]\nkey = 'manifests.\"more.yaml\"'\npath = \"more.yaml\"\nurl = \"https://github.com/more.yaml\"\nsize = {}\n\
         sha256 = \"{}\"\n\n[[files]]\nkey = \"etcd\"",
        more.len(),
        Digest::of(more.as_bytes())
    );
    bed.edit("cks-iso.lock", "[[files]]\nkey = \"etcd\"", &file);
    bed.upstream.change("calico.yaml", None);
    bed.upstream.publish("/raw/projectcalico/calico/v3.29.9/manifests/calico.yaml", NETWORK.as_bytes());
    bed.upstream.publish("/gh/more.yaml", more.as_bytes());
    lose_cache(&bed);
    bed.cks_iso("build spec.toml -o b.iso --locked");
    assert_eq!(bed.on_iso("b.iso", "network.yaml"), bed.on_iso("a.iso", "network.yaml"));
    assert_eq!(bed.on_iso("b.iso", "more.yaml"), more);
    bed.edit("cks-iso.lock", "'manifests.\"more.yaml\"'", "'manifests.\"../more.yaml\"'");
    bed.refused("build spec.toml -o c.iso --locked", "LOCK_STALE", "more.yaml\": neither the spec nor a profile");
    bed.edit("cks-iso.lock", "'manifests.\"../more.yaml\"'", "'manifests.\"more.yaml\"'");
    // What is not there can't be made up.
    bed.edit("cks-iso.lock", "url = \"https://github.com/more.yaml\"", "file = \"more.yaml\"");
    bed.refused("build spec.toml -o c.iso --locked", "LOCK_STALE", "more.yaml\": neither the spec nor a profile");
}

#[test]
fn a_lock_that_was_edited_or_stands_in_the_way_is_refused() {
    let bed = Bed::new();
    bed.write("own.toml", "description = 'a'\nversion = '1'\nimages = ['example.org/team/app:1.0']\n");
    bed.edit("spec.toml", "\"etcd\"]", "\"etcd\", \"own.toml\"]");
    nix::unistd::mkfifo(&bed.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (spec, own) = (bed.read("spec.toml"), bed.read("own.toml"));
    for (args, file) in [
        ("lock spec.toml --update --lock spec.toml", "spec.toml"),
        ("lock spec.toml --update --lock own.toml", "own.toml"),
        ("build spec.toml -o a.iso --lock spec.toml", "spec.toml"),
        ("build spec.toml -o own.toml", "own.toml"),
        ("lock spec.toml --update --lock pipe", "pipe is no regular file"),
        ("from-script -o pipe . 1.33.1 1.6.2 1.33.0 net.yaml board.yaml a", "pipe exists and is no regular file"),
    ] {
        bed.refused(args, "CONFIG_INVALID", file);
    }
    assert_eq!((bed.read("spec.toml"), bed.read("own.toml")), (spec, own));
    bed.cks_iso("build spec.toml -o a.iso");
    let size = bed.lock().files[0].size;
    bed.edit("cks-iso.lock", &format!("size = {size}"), "size = 7");
    bed.refused("build spec.toml -o b.iso --locked", "LOCK_STALE", "the lock says 7");
    assert!(!bed.path("b.iso").exists());
}
