//! What the distributions' own checkers say.

use cks_tests::process::Command;
use cks_tests::programs;

use crate::places::made;

#[test]
fn lintian_finds_nothing() {
    for program in ["cks-agent", "cks-iso"] {
        let lintian = Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]);
        let output = lintian.arg(made().deb(program)).output().unwrap();
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    }
}

#[test]
fn rpmlint_finds_no_error() {
    let rpmlint = Command::new("rpmlint").arg("-c").arg(programs::workspace().join("packaging/rpm/rpmlint.toml"));
    let output = rpmlint.arg(made().rpm("cks-agent")).arg(made().rpm("cks-iso")).output().unwrap();
    assert!(output.code == 0 && output.stdout.contains(" 0 errors"), "{}{}", output.stdout, output.stderr);
}
