//! Decides what makes a machine a Kubernetes node: text and bytes in, a plan out.
//!
//! Nothing here opens a file, starts a process, looks at a clock or at the environment. What it is
//! given are values and readers; what it returns are values.
//!
//! | module | is |
//! |---|---|
//! | [`bundle`] | the manifest of a CKS ISO, its layout, its listings |
//! | [`cluster`] | what has to be done to be a member of a cluster |
//! | [`archive`] | image archives: docker-save and OCI layout tars, as indexes into the tar |
//! | [`bounded`] | a reader for tars that may be hostile |
//! | [`disc`] | ISO 9660 images: names, modes and extents |
//! | [`etcd`] | dedicated etcd clusters: who is a member, and how |
//! | [`leaving`] | what a cluster left on a node, and what takes it away |
//! | [`node_spec`] | what a node is meant to become |
//! | [`plan`] | what is missing on a machine, step by step |
//! | [`preflight`] | whether a machine can become that node |
//! | [`rate`] | how fast something goes, and when it will be done |
//! | [`render`] | values to the text of configuration files |
//! | [`router`] | where the network's virtual router may be |
//! | [`secret`] | texts that are shown nowhere |
//! | [`signature`] | who signed a bundle: minisign's keys and signatures |
//! | [`state`] | where a node stands, as status tells it |
//! | [`datasource`] | what data sources say |
//! | [`adoption`] | which of the management server's scripts are taken over |
//! | [`digest`] | the sha256 digest |
//! | [`trust`], [`version`] | who has to have signed a bundle, and how old it may be |
//! | [`user_data`] | what the management server, or an operator, asked of this machine |
//! | [`volume`], [`mountinfo`] | which disk a volume is, what is on it, what is mounted |
//! | [`template`] | what a template, or a machine, needs before it can become a node |
//! | [`text`] | texts from media that nobody vouches for |
//! | [`failure`] | failure codes with their remedies |

pub mod adoption;
pub mod archive;
pub mod bounded;
pub mod bundle;
pub mod cluster;
pub mod datasource;
pub mod digest;
pub mod disc;
pub mod etcd;
pub mod failure;
pub mod leaving;
pub mod mountinfo;
pub mod node_spec;
pub mod plan;
pub mod preflight;
pub mod rate;
pub mod render;
pub mod router;
pub mod secret;
pub mod signature;
pub mod state;
pub mod template;
pub mod text;
pub mod trust;
pub mod user_data;
pub mod version;
pub mod volume;
