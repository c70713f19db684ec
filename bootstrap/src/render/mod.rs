//! Values to the text of configuration files.

pub mod containerd;
pub mod etcd;
pub mod host;
pub mod kubeadm;
pub mod unit;
pub mod yaml;
