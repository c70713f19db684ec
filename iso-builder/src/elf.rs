//! Is this a program for the bundle's machines (ELF specification, "ELF header").

use bootstrap::bundle::Arch;
pub use bootstrap::bundle::elf::HEADER_BYTES as HEADER;
use bootstrap::bundle::elf::machine;
use bootstrap::failure::{Code, Failure};

/// Accepts what is no ELF file, or one for `arch`.
///
/// # Errors
/// `ARCH_MISMATCH` names `what` and both machines.
pub fn check_machine(what: &str, head: &[u8], arch: Arch) -> Result<(), Failure> {
    match machine(head) {
        Some(found) if found != arch.elf_machine() => {
            let found = [Arch::Amd64, Arch::Arm64]
                .into_iter()
                .find(|other| other.elf_machine() == found)
                .map_or_else(|| format!("ELF machine {found}"), |other| other.to_string());
            Err(Failure::new(Code::ArchMismatch, format!("{what} is a program for {found}, the bundle is for {arch}"))
                .with_remedy(format!("take the linux/{arch} file, or correct arch in the spec")))
        }
        _ => Ok(()),
    }
}

/// Accepts an ELF program for `arch` and nothing else.
///
/// # Errors
/// `CONTENT_INVALID` when it is no program, `ARCH_MISMATCH` when it is one for another machine.
pub fn check_program(what: &str, head: &[u8], arch: Arch) -> Result<(), Failure> {
    if machine(head).is_none() {
        let kind = if crate::text::is_html(head) { "an HTML page" } else { "no ELF program" };
        return Err(Failure::new(Code::ContentInvalid, format!("{what} is {kind}"))
            .with_remedy("replace it with the program: a download was perhaps an error page"));
    }
    check_machine(what, head, arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(18, 0);
        head.extend(machine.to_le_bytes());
        head
    }

    #[test]
    fn programs_are_told_from_other_files() {
        for (head, want) in [
            (header(62), Ok(())),
            (header(183), Err(Code::ArchMismatch)),
            (header(243), Err(Code::ArchMismatch)),
            (header(62)[..19].to_vec(), Err(Code::ContentInvalid)),
            (b"<!DOCTYPE html>".to_vec(), Err(Code::ContentInvalid)),
            (b"#!/bin/sh\n".to_vec(), Err(Code::ContentInvalid)),
            (vec![], Err(Code::ContentInvalid)),
        ] {
            assert_eq!(check_program("k8s/kubelet", &head, Arch::Amd64).map_err(|f| f.code), want, "{head:?}");
        }
        assert!(check_machine("a script", b"#!/bin/sh\n", Arch::Arm64).is_ok());
    }
}
