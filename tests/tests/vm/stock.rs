//! The stock scripts beside the agent: the same root, disc, user data and cluster, from power-on to a ready node.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use cks_tests::server::{Order, Role};

use crate::datacenter::Datacenter;
use crate::life::SERVER;

#[test]
#[ignore = "does not end: in this bed a worker of the stock scripts gets no CNI configuration, and is never ready"]
fn from_power_on_to_a_ready_node() {
    let stock = ready_after(false);
    let agent = ready_after(true);
    println!(
        "power-on to a ready node: stock scripts {:.0} s, cks-agent {:.0} s, ratio {:.2}",
        stock.as_secs_f64(),
        agent.as_secs_f64(),
        agent.as_secs_f64() / stock.as_secs_f64()
    );
}

/// The disc is in the drive 30 s after power-on. The control plane is made by the agent both times.
fn ready_after(by_agent: bool) -> Duration {
    let mut cloud = Datacenter::of(|root| {
        if !by_agent {
            fs::write(root.join("etc/cks-agent/disabled"), "")?;
        }
        Ok(())
    })
    .unwrap();
    let order = Order::small("bed", cloud.hardware.version());
    let walk = SERVER.create(&mut cloud, &order);
    let (cluster, _) = walk.unwrap_or_else(|error| panic!("{error}\n{}", cloud.how_they_are()));
    let worker = cluster.of(Role::Worker).next().unwrap().name.clone();
    let script = cloud.instance(&worker).unwrap().guest.sh("cat /opt/bin/setup-kube-system").unwrap();
    assert_eq!(script.contains("cks-agent attend"), by_agent, "{script}");
    let since = cloud.switched_on(&worker).unwrap().duration_since(UNIX_EPOCH).unwrap();
    let control = cloud.hardware.machine(cluster.control().unwrap()).unwrap();
    let path = r#"{.status.conditions[?(@.type=="Ready")].lastTransitionTime}"#;
    let ready = format!("date -d \"$(/opt/bin/kubectl get node {worker} -o jsonpath='{path}')\" +%s");
    let ready: u64 = control.sh(&ready).unwrap().trim().parse().unwrap();
    Duration::from_secs(ready).checked_sub(since).unwrap()
}
