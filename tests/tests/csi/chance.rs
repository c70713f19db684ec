//! Random set-ups that can be had again: each suite prints its seed, and `CKS_SEED` gives one.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Random numbers of a suite; the same for the same seed.
pub(crate) fn chance(suite: &str) -> StdRng {
    let seed = variable("CKS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("{suite}: CKS_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A number that is told by the environment.
#[expect(clippy::disallowed_methods, reason = "the one place of these suites that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}
