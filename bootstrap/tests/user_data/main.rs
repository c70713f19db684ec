//! User data as a node gets it, and what is made of it.

#[cfg(test)]
mod documentation;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod templates;
