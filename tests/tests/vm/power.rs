//! A machine whose power goes while the agent makes it a worker: again and again, and at last it is let alone.

use std::thread;
use std::time::Duration;

use cks_tests::server::Cluster;
use cks_tests::vm::instance::BOOT;

use crate::life::Bed;

/// What the agent has to do takes so long when nobody disturbs it; a cut comes at some moment of that.
const WORK: Duration = Duration::from_secs(60);

/// How often the power goes; `CKS_POWER_CUTS` says otherwise.
#[expect(clippy::disallowed_methods, reason = "a person asks for more")]
fn cuts() -> usize {
    std::env::var("CKS_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(3)
}

/// Each boot goes on where the last one was cut off. What its kernel had not written by then is lost, and with it perhaps
/// files that the agent believed to be whole: `verify` reads every byte of them in the end.
pub(crate) fn cut_at_random_moments(bed: &mut Bed, cluster: &Cluster) {
    let told = bed.cloud.told.clone();
    let disc = bed.cloud.hardware.release(&cluster.version).unwrap().iso.clone();
    bed.cloud.new_instance("cut-1").unwrap().insert(&disc).unwrap();
    bed.cloud.tell("cut-1", &told).unwrap();
    let mut interrupted = 0;
    for cut in 1..=cuts() {
        bed.cloud.boot("cut-1").unwrap_or_else(|error| panic!("boot {cut}: {error:#}"));
        let instance = bed.cloud.instance("cut-1").unwrap();
        // Over already, should it have got to its end before the last cut.
        let begun = "s=$(systemctl show --value -p InactiveExitTimestampMonotonic cks-bootstrap); [ \"$s\" != 0 ]";
        instance.guest.wait("the agent begins", BOOT, begun).unwrap();
        let after = WORK.mul_f64(rand::random::<f64>());
        thread::sleep(after);
        let phase =
            instance.guest.sh("cks-agent status --json | tr -d '\\n' | grep -o '\"phase\": *\"[a-z-]*\"' | head -n 1");
        instance.cut().unwrap();
        let phase = phase.unwrap_or_default();
        interrupted += usize::from(!phase.contains("ready"));
        bed.say(&format!("cut {cut}, {:.1} s after the agent began: {}", after.as_secs_f64(), phase.trim()));
    }
    bed.cloud.boot("cut-1").unwrap();
    bed.ready(cluster, "cut-1");
    bed.is_complete("cut-1");
    assert!(interrupted > 0, "no cut came before the end");
    bed.cloud.remove("cut-1");
}
