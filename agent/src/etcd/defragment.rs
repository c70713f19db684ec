//! `cks-agent etcd defragment`: members give unused space back, one after the other, the leader last.

use std::time::{Duration, Instant};

use bootstrap::etcd::report::defragment_order;
use bootstrap::failure::{Code, Failure};

use super::known::Known;
use crate::host::Host;
use crate::run::print_text;
use crate::view;

/// A member serves again at once when it is done.
const BACK: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn defragment(host: &Host) -> Result<u8, Failure> {
    let known = Known::of(host).await?;
    let report = known.report().await;
    let order: Vec<String> = defragment_order(&report)?.iter().map(|member| member.name.clone()).collect();
    for name in order {
        // Looked at anew before each: another may have failed meanwhile.
        let known = healthy(host).await?;
        let member = known.find(&name)?;
        let ctl = known.ctl.at(member.client_urls.clone());
        let before = size(&ctl).await?;
        ctl.defragment().await?;
        let after = size(&healthy(host).await?.ctl.at(member.client_urls.clone())).await?;
        print_text(&format!("{name}: {} before, {} after\n", view::bytes(before), view::bytes(after)));
    }
    let raised = healthy(host).await?.report().await;
    if raised.members.iter().any(|member| member.alarms.iter().any(|alarm| alarm == "NOSPACE")) {
        print_text("NOSPACE is still raised: /opt/bin/etcdctl alarm disarm, once there is space\n");
    }
    Ok(0)
}

/// The cluster, as soon as all its members serve.
async fn healthy(host: &Host) -> Result<Known<'_>, Failure> {
    let began = Instant::now();
    loop {
        let known = Known::of(host).await?;
        match defragment_order(&known.report().await).map(drop) {
            Ok(()) => return Ok(known),
            Err(failure) if began.elapsed() > BACK => return Err(failure),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn size(ctl: &super::ctl::Ctl<'_>) -> Result<u64, Failure> {
    let answers = ctl.status().await?;
    let first = answers.first().map(|status| status.db_bytes);
    first.ok_or_else(|| Failure::new(Code::EtcdUnavailable, "the member does not tell its size"))
}
