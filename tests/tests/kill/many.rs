//! Many kills of small nodes, by every role and every way of unpacking.

use bootstrap::bundle::Role;
use cks_tests::programs;

use crate::world::World;
use crate::{crashes, random, undisturbed};

/// Random kills of one test; the two hundred of all roles are these and those of `main`.
const CONTROL_PLANE: usize = 70;
const WORKER: usize = 100;
const OTHER_WAY: usize = 40;
/// Moments at which containerd is killed.
const CRASHES: usize = 10;

#[test]
fn a_control_plane_ends_whole() {
    kill(&World::small(Role::ControlPlane), CONTROL_PLANE);
}

#[test]
fn a_small_worker_ends_whole() {
    kill(&World::small(Role::Worker), WORKER);
}

#[test]
fn a_worker_with_the_native_snapshotter_ends_whole() {
    kill(&World::small(Role::Worker).with_snapshotter("native"), OTHER_WAY);
}

#[test]
fn a_worker_with_another_containerd_ends_whole() {
    match programs::containerd_built("2.3") {
        Ok(programs) => kill(&World::small(Role::Worker).with_programs(programs), OTHER_WAY),
        Err(e) => println!("NOT CHECKED: kills with containerd 2.3: {e:#}"),
    }
}

#[test]
fn a_containerd_that_dies_at_any_moment_is_told_and_made_good() {
    let world = World::small(Role::ControlPlane);
    let (whole, took) = undisturbed(&world);
    crashes::at_random(&world, &whole, took.mul_f64(0.8), CRASHES);
}

fn kill(world: &World, kills: usize) {
    let (whole, took) = undisturbed(world);
    random::kills(world, &whole, took / 2, kills);
}
