//! For which machine is a program (ELF specification, "ELF header")?

/// Bytes from the start of a file that [`machine`] needs.
pub const HEADER_BYTES: usize = 20;

/// `e_machine` of the ELF file that begins with `head`; none when it is no ELF file.
#[must_use]
pub fn machine(head: &[u8]) -> Option<u16> {
    let head = head.strip_prefix(b"\x7fELF")?;
    let bytes = [*head.get(14)?, *head.get(15)?];
    match head.get(1)? {
        2 => Some(u16::from_be_bytes(bytes)),
        _ => Some(u16::from_le_bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_byte_orders_are_read_and_other_files_are_not() {
        let head = |order: u8, machine: [u8; 2]| {
            let mut head = vec![0x7f, b'E', b'L', b'F', 2, order];
            head.resize(18, 0);
            head.extend(machine);
            head
        };
        assert_eq!(super::machine(&head(1, [62, 0])), Some(62));
        assert_eq!(super::machine(&head(2, [0, 183])), Some(183));
        assert_eq!(super::machine(b"#!/bin/sh"), None);
        assert_eq!(super::machine(b"\x7fELF\x02"), None);
    }
}
