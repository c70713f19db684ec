//! What the management server asks of a machine.

mod metadata;

pub use self::metadata::Metadata;
