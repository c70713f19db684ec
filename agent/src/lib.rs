//! Does what `bootstrap` decides: the library below the program `cks-agent`.
//!
//! | module | is |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | the file of settings |
//! | [`run`] | `bootstrap`: locate, plan, apply, prove |
//! | [`host`] | the only holder of `/` |
//! | [`files`] | files that appear whole or not at all |
//! | [`tool`] | external programs, spawned in one place |
//! | [`facts`] | what the machine is like now |
//! | [`media`] | where bundle bytes come from |
//! | [`install`] | bytes to files and unpacked tarballs |
//! | [`containerd`] | bytes to images, by containerd's gRPC API |
//! | [`apply`] | a plan, step by step |
//! | [`journal`] | what was done, kept over a crash |
//! | [`board`] | the node's state, written by one and read by all |
//! | [`sources`] | which sources there are, and why not |
//! | [`progress`], [`status`], [`version`], [`report`] | what people and programs are shown |

pub mod apply;
pub mod board;
pub mod cli;
pub mod config;
pub mod containerd;
pub mod facts;
pub mod files;
pub mod host;
pub mod install;
pub mod journal;
pub mod media;
pub mod progress;
pub mod report;
pub mod run;
pub mod sources;
pub mod status;
pub mod tool;
pub mod version;
