//! What the programs want of a machine.

use std::path::Path;

use cks_tests::process::{Command, Output};
use cks_tests::programs;

use crate::places::{made, run_everywhere};

fn check(most: &str, program: &Path) -> Output {
    Command::new(programs::workspace().join("packaging/check-glibc")).arg(most).arg(program).output().unwrap()
}

#[test]
fn a_program_that_wants_a_newer_glibc_or_another_library_is_refused() {
    let here = Path::new("/usr/bin/true");
    assert_eq!(check("9.9", here).code, 0);
    let refused = check("2.5", here);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("more than 2.5"), "{refused:?}");
    let refused = check("9.9", Path::new("/usr/bin/curl"));
    assert!(refused.code == 1 && refused.stderr.contains("needs lib"), "{refused:?}");
    assert_ne!(check("9.9", Path::new("/etc/passwd")).code, 0);
}

#[test]
fn what_is_packed_for_everybody_wants_no_more_than_glibc_2_28() {
    if !run_everywhere() {
        // What is made of target/debug is for this machine: `just packages` looks at each program that it makes.
        let build = std::fs::read_to_string(programs::workspace().join("packaging/build")).unwrap();
        assert!(build.contains("packaging/check-glibc 2.28 "));
        return;
    }
    let place = cks_tests::scratch("deb").unwrap();
    for program in ["cks-agent", "cks-iso"] {
        Command::new("dpkg-deb").arg("-x").arg(made().deb(program)).arg(place.path()).ok().unwrap();
        let output = check("2.28", &place.path().join("usr/bin").join(program));
        assert_eq!(output.code, 0, "{output:?}");
    }
}
