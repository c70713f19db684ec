//! What is done with volumes, and how each is.

use super::exposition::{Family, Kind};
use super::families::{Labels, family};
use crate::csi::Watched;
use crate::csi::registration::Standing;
use crate::host::Host;

/// The families of what the CSI Node service does.
pub(super) fn of(watched: &Watched, host: &Host) -> Vec<Family> {
    let counts = watched.tally.counts();
    let labels = |(rpc, ended): &(&'static str, &'static str)| -> Labels {
        vec![("rpc", (*rpc).to_owned()), ("ended", (*ended).to_owned())]
    };
    let calls = counts.iter().map(|(key, count)| (labels(key), count.calls as f64));
    let seconds = counts.iter().map(|(key, count)| (labels(key), count.seconds));
    // What can't be listed now is listed the next time; the log of the node's volumes tells why.
    let volumes = watched.list(host).unwrap_or_default();
    let each = |wrong: bool| {
        let of = volumes.iter().filter(move |found| !wrong || found.wrong.is_some());
        of.map(move |found| {
            let disk = found.disk.clone().unwrap_or_default();
            let told = [("volume", found.volume.clone()), ("disk", disk), ("filesystem", found.filesystem.clone())];
            (told.into_iter().take(if wrong { 1 } else { 3 }).collect::<Labels>(), 1.0)
        })
    };
    let registered = watched.registered.borrow().standing == Standing::Registered;
    let registered = std::iter::once((Labels::new(), f64::from(u8::from(registered))));
    vec![
        family("cks_agent_csi_registered", Kind::Gauge, None, "Whether kubelet has registered the driver.", registered),
        family("cks_agent_csi_calls", Kind::Counter, None, "CSI calls, and how they ended.", calls),
        family("cks_agent_csi_seconds", Kind::Counter, Some("seconds"), "How long they took altogether.", seconds),
        family("cks_agent_volume", Kind::Info, None, "Volumes that are mounted.", each(false)),
        family("cks_agent_volume_wrong", Kind::Gauge, None, "Volumes mounted from another disk, or none.", each(true)),
    ]
}
