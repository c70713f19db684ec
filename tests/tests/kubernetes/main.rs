//! The Kubernetes bed itself: its machines, and a real cluster on them.

mod machine;
