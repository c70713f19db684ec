//! The tests of the builder, against the tools that others read and write ISOs with.

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod building;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod downloads;
#[cfg(test)]
mod fetching;
#[cfg(test)]
mod iso9660;
#[cfg(test)]
mod locking;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod registries;
#[cfg(test)]
mod verifying;
