//! Does what `bootstrap` decides: the library below the program `cks-agent`.
//!
//! | module | is |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | the file of settings |
//! | [`run`] | `bootstrap`: locate, plan, apply, prove |
//! | [`reconcile`] | the last run again, where something was lost since |
//! | [`host`] | the only holder of `/` |
//! | [`files`] | files that appear whole or not at all |
//! | [`tool`] | external programs, spawned in one place |
//! | [`cluster`] | an installed node becomes a member of its cluster |
//! | [`wish`] | what the node shall become: told by arguments, or by user data |
//! | [`member`] | what a membership is worked on with |
//! | [`metadata`] | what the machine is asked to become, and by whom |
//! | [`adopt`] | takes over from the management server's scripts |
//! | [`facts`] | what the machine is like now |
//! | [`media`] | where bundle bytes come from |
//! | [`install`] | bytes to files and unpacked tarballs |
//! | [`containerd`] | bytes to images, by containerd's gRPC API |
//! | [`preflight`], [`host_settings`] | what keeps the machine from its role; what the running kernel is told |
//! | [`runtime`] | containerd's settings, its restart, and the proof of both |
//! | [`apply`] | a plan, step by step |
//! | [`leave`] | this node out of its cluster, and clean |
//! | [`template`] | a machine becomes a template: `prepare`, `check`, `seal` |
//! | [`layer`] | a layer's tar to files, as containerd unpacks it |
//! | [`volume`] | stage, publish, expand: the recipes; [`csi`] is their gRPC border |
//! | [`etcd`] | a member of a dedicated etcd cluster, and what is done with one |
//! | [`journal`] | what was done, kept over a crash |
//! | `lock` | one process at a time |
//! | [`record`] | what the last run made of this node |
//! | [`verify`] | is it still as it was installed? |
//! | [`trust`] | keys, policy, and what is live |
//! | [`board`] | the node's state, written by one and read by all |
//! | [`view`] | the state as text: pure; [`terminal`] is what it is drawn on |
//! | [`metrics`] | the state for a monitoring system |
//! | [`console`] | its news on the console and in the log, as [`notices`] makes them |
//! | [`outside`] | the same of a run, and its status socket |
//! | [`serve`] | the state over HTTP; [`notify`] tells systemd |
//! | [`sources`] | which sources there are, and why not |
//! | [`progress`], [`status`], [`version`], [`report`] | what people and programs are shown |

pub mod adopt;
pub mod apply;
pub mod board;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod console;
pub mod containerd;
pub mod csi;
pub mod direct;
pub mod etcd;
pub mod explain;
pub mod facts;
pub mod files;
pub mod heap;
pub mod host;
pub mod host_settings;
pub mod install;
pub mod journal;
pub mod layer;
pub mod leave;
mod lock;
pub mod media;
pub mod member;
pub mod metadata;
pub mod metrics;
pub mod notices;
pub mod notify;
pub mod outside;
pub mod preflight;
pub mod progress;
pub mod reconcile;
pub mod record;
pub mod report;
pub mod run;
pub mod runtime;
pub mod serve;
pub mod sources;
pub mod status;
pub mod template;
pub mod terminal;
pub mod tool;
pub mod trust;
pub mod verify;
pub mod version;
pub mod view;
pub mod volume;
pub mod wish;
