//! Dedicated etcd clusters: what a node's data and its peers tell, and what follows from it.
//!
//! | module | is |
//! |---|---|
//! | [`members`] | the members of a cluster, as etcd tells them |
//! | [`wal`] | whose data a data directory holds |
//! | [`standing`] | what a node has to do to be a member |
//! | [`quorum`] | which member may stop or go |
//! | [`answers`] | what `etcdctl` and `etcdutl` print |
//! | [`report`] | a cluster as `cks-agent etcd status` shows it |
//! | [`snapshots`] | names of snapshots, and which are kept |
//! | [`certificates`] | what certificates say, and when they are renewed |
//! | [`account`] | the user that etcd runs as |

pub mod account;
pub mod answers;
pub mod certificates;
pub mod members;
pub mod quorum;
pub mod report;
pub mod snapshots;
pub mod standing;
pub mod wal;
