//! Packs CKS ISOs, reads them and proves them.
//!
//! | module | is |
//! |---|---|
//! | [`spec`] | what goes on the ISO: the TOML text → [`spec::Spec`] |
//! | [`fetch`] | downloads into the cache, by digest |
//! | [`content`] | a file of the ISO as a list of byte ranges: nothing is copied before it is written |
//! | [`elf`], [`text`], [`tarball`] | is this file what its name says |
//! | [`manifests`] | the images that Kubernetes manifests name, by a real parser |
//! | [`images`] | image archives merged into one, each blob once |
//! | [`bundle`] | the stock layout and its manifest |
//! | [`iso`] | the ISO 9660 writer |
//! | [`build`], [`inspect`], [`verify`] | the three jobs |
//! | [`lint`], [`diff`] | a spec before it is built; what one bundle brings over another |
//! | [`finding`] | what `verify` and `lint` say |
//! | [`opened`] | a bundle opened for reading: an ISO, a directory, a URL |
//! | [`partial`] | a file that appears when it is whole |
//! | [`progress`], [`cli`], [`report`], [`columns`] | what a person sees |

pub mod build;
pub mod bundle;
pub mod cli;
pub mod columns;
pub mod content;
pub mod diff;
pub mod elf;
pub mod fetch;
pub mod finding;
pub mod images;
pub mod inspect;
pub mod iso;
pub mod lint;
pub mod manifests;
pub mod opened;
pub mod partial;
pub mod progress;
pub mod report;
pub mod spec;
pub mod tarball;
pub mod text;
pub mod verify;
