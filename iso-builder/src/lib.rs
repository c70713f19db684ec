//! Packs CKS ISOs, reads them and proves them.
//!
//! | module | is |
//! |---|---|
//! | [`spec`] | what goes on the ISO: the TOML text → [`spec::Spec`] |
//! | [`profile`], [`recipe`] | ready-made parts; the spec with its profiles and defaults written out |
//! | [`project`] | a spec on this machine, with its lock |
//! | [`lock`], [`resolve`] | which bytes a spec stands for, and how that is found out |
//! | [`init`], [`script`] | where a spec comes from: a first one, or the stock script's arguments |
//! | [`inputs`], [`packing`], [`helm`] | the parts of an ISO, opened |
//! | [`replace`] | texts replaced in manifests |
//! | [`references`], [`doubts`] | whether an ISO has the images that its manifests name; what they leave open |
//! | [`register`] | the call that makes an ISO known to CloudStack |
//! | [`access`] | how this machine reaches the world: mirrors, proxies, CAs, credentials |
//! | [`cache`] | what was downloaded, by digest |
//! | [`fetch`], [`registry`] | downloads from servers and image registries into the cache |
//! | [`content`] | a file of the ISO as a list of byte ranges: nothing is copied before it is written |
//! | [`elf`], [`text`], [`tarball`] | is this file what its name says |
//! | [`manifests`] | the images that Kubernetes manifests name, by a real parser |
//! | [`images`], [`layers`] | image archives merged into one, each blob once; their layers, proven or compressed anew |
//! | [`bundle`] | the stock layout and its manifest |
//! | [`iso`] | the ISO 9660 writer |
//! | [`build`], [`inspect`], [`verify`] | the three jobs |
//! | [`import`] | stock ISO → our ISO |
//! | [`serve`] | an ISO and its content over HTTP |
//! | [`keys`], [`sign`], [`sums`], [`sbom`] | who vouches for an ISO, and what stands beside it |
//! | [`lint`], [`diff`] | a spec before it is built; what one bundle brings over another |
//! | [`finding`] | what `verify` and `lint` say |
//! | [`opened`] | a bundle opened for reading: an ISO, a directory, a URL |
//! | [`output`] | the path that an ISO is written to |
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
pub mod doubts;
pub mod elf;
pub mod fetch;
pub mod finding;
pub mod helm;
pub mod images;
pub mod import;
pub mod init;
pub mod inputs;
pub mod inspect;
pub mod iso;
pub mod keys;
pub mod layers;
pub mod lint;
pub mod lock;
pub mod manifests;
pub mod opened;
pub mod output;
pub mod packing;
pub mod partial;
mod pass;
pub mod profile;
pub mod progress;
pub mod project;
pub mod recipe;
pub mod references;
pub mod register;
pub mod registry;
pub mod replace;
pub mod report;
pub mod resolve;
pub mod sbom;
pub mod script;
pub mod serve;
pub mod sign;
pub mod spec;
pub mod sums;
pub mod tarball;
pub mod text;
pub mod verify;
