//! The tests of the builder, against the tools that others read and write ISOs with.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod building;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod downloads;
#[cfg(test)]
mod fetching;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod importing;
#[cfg(test)]
mod iso9660;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod linting;
#[cfg(test)]
mod locking;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod recipes;
#[cfg(test)]
mod redirects;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod registries;
#[cfg(test)]
mod relocking;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod signing;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod verifying;
