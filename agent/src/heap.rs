//! One heap for all threads. glibc gives every other thread a heap of its own, each of which keeps what it once
//! needed: with a dozen threads that unpack layers in turns, half as much again as the agent uses at any moment. The
//! threads ask for large pieces, and seldom; sharing costs them no time that can be measured.

/// Lets the threads that are started from now on share the heap; where the C library has no such setting, nothing.
pub fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    one();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "mallopt(3) has no safe interface")]
fn one() {
    // SAFETY: two numbers; no memory of ours is read or written. glibc takes a lock of its own. What it answers is of
    // no use: without the setting the agent is larger and works as well.
    let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}
