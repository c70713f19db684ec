//! What becomes of a template: a worker of a cluster that a management server of 4.22 makes.

use cks_tests::server::{ManagementServer, Order, Pace, Release};

use crate::datacenter::Datacenter;

#[test]
fn a_worker_gets_its_disc_late() {
    let mut cloud = Datacenter::new().unwrap();
    let server = ManagementServer { release: Release::ALL[3], pace: Pace::BED };
    let order = Order::small("bed", cloud.hardware.version());
    let walk = server.create(&mut cloud, &order);
    let (cluster, transcript) = walk.unwrap_or_else(|error| panic!("{error}\n{}", cloud.how_they_are()));
    println!("{transcript}");
    let worker = cluster.of(cks_tests::server::Role::Worker).next().unwrap().clone();
    println!("{}", cloud.how_they_are());
    let instance = cloud.instance(&worker.name).unwrap();
    println!("{}", instance.guest.sh("ls -la /home/cloud /opt/bin; cks-agent status; journalctl -b -u cks-bootstrap -o short-monotonic --no-pager").unwrap());
}
