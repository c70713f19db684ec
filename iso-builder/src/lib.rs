//! Packs CKS ISOs, reads them and proves them.
//!
//! | module | is |
//! |---|---|
//! | [`spec`] | what goes on the ISO: the TOML text → [`spec::Spec`] |
//! | [`fetch`] | downloads into the cache, by digest |
//! | [`content`] | a file of the ISO as a list of byte ranges: nothing is copied before it is written |
//! | [`lane`], [`behind`] | hashing and syncing in threads, beside the reading and the writing |
//! | [`elf`], [`text`], [`tarball`] | is this file what its name says |
//! | [`manifests`] | the images that Kubernetes manifests name, by a real parser |
//! | [`images`] | image archives merged into one, each blob once |
//! | [`bundle`] | the stock layout and its manifest |
//! | [`iso`] | the ISO 9660 writer |
//! | [`build`], [`inspect`], [`verify`] | the three jobs |
//! | [`keys`], [`sign`], [`sums`], [`sbom`] | who vouches for an ISO, and what stands beside it |
//! | [`opened`] | an ISO opened for reading |
//! | [`partial`] | a file that appears when it is whole |
//! | [`progress`], [`cli`], [`report`] | what a person sees |

pub mod behind;
pub mod build;
pub mod bundle;
pub mod cli;
pub mod content;
pub mod elf;
pub mod fetch;
pub mod images;
pub mod inspect;
pub mod iso;
pub mod keys;
pub mod lane;
pub mod manifests;
pub mod opened;
pub mod partial;
pub mod progress;
pub mod report;
pub mod sbom;
pub mod sign;
pub mod spec;
pub mod sums;
pub mod tarball;
pub mod text;
pub mod verify;
