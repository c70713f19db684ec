//! The gRPC border of volumes: the CSI Identity and Node services, and their registration with kubelet.

pub mod proto;
