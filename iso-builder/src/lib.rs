//! Packs CKS ISOs, reads them and proves them.
//!
//! | module | is |
//! |---|---|
//! | [`spec`] | what goes on the ISO: the TOML text → [`spec::Spec`] |
//! | [`access`] | how this machine reaches the world: mirrors, proxies, CAs, credentials |
//! | [`cache`] | what was downloaded, by digest |
//! | [`fetch`], [`registry`] | downloads from servers and image registries into the cache |
//! | [`content`] | a file of the ISO as a list of byte ranges: nothing is copied before it is written |
//! | [`elf`], [`text`], [`tarball`] | is this file what its name says |
//! | [`manifests`] | the images that Kubernetes manifests name, by a real parser |
//! | [`images`] | image archives merged into one, each blob once |
//! | [`bundle`] | the stock layout and its manifest |
//! | [`iso`] | the ISO 9660 writer |
//! | [`build`], [`inspect`], [`verify`] | the three jobs |
//! | [`import`] | stock ISO → our ISO |
//! | [`serve`] | an ISO and its content over HTTP |
//! | [`keys`], [`sign`], [`sums`], [`sbom`] | who vouches for an ISO, and what stands beside it |
//! | [`opened`] | an ISO opened for reading |
//! | [`lint`], [`diff`] | a spec before it is built; what one bundle brings over another |
//! | [`finding`] | what `verify` and `lint` say |
//! | [`opened`] | a bundle opened for reading: an ISO, a directory, a URL |
//! | [`partial`] | a file that appears when it is whole |
//! | [`progress`], [`cli`], [`report`], [`columns`] | what a person sees |

pub mod access;
pub mod build;
pub mod bundle;
pub mod cache;
pub mod cli;
pub mod columns;
pub mod content;
pub mod diff;
pub mod elf;
pub mod fetch;
pub mod finding;
pub mod images;
pub mod import;
pub mod inspect;
pub mod iso;
pub mod keys;
pub mod lint;
pub mod manifests;
pub mod opened;
pub mod partial;
pub mod progress;
pub mod registry;
pub mod report;
pub mod sbom;
pub mod serve;
pub mod sign;
pub mod spec;
pub mod sums;
pub mod tarball;
pub mod text;
pub mod verify;
