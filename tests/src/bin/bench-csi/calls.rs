//! RPCs as kubelet makes them, over one connection that is kept, without a thread in between.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cks_tests::csi::proto::identity_client::IdentityClient;
use cks_tests::csi::proto::node_client::NodeClient;
use cks_tests::csi::proto::{
    NodeExpandVolumeRequest, NodeGetInfoRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, ProbeRequest,
};
use cks_tests::csi::{Bed, Disk};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use crate::samples::Samples;

/// How long each RPC took.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) probe: Samples,
    pub(crate) info: Samples,
    pub(crate) capabilities: Samples,
    pub(crate) stage: Samples,
    pub(crate) publish: Samples,
    pub(crate) stats: Samples,
    pub(crate) unpublish: Samples,
    pub(crate) unstage: Samples,
}

/// The requests for one volume in one pod.
#[derive(Debug)]
pub(crate) struct Asked {
    stage: NodeStageVolumeRequest,
    publish: NodePublishVolumeRequest,
    stats: NodeGetVolumeStatsRequest,
    expand: NodeExpandVolumeRequest,
    unpublish: NodeUnpublishVolumeRequest,
    unstage: NodeUnstageVolumeRequest,
}

impl Asked {
    /// Makes the directories that kubelet makes before it calls.
    pub(crate) fn of(bed: &Bed, disk: &Disk, pod: u32) -> Result<Self> {
        Ok(Self {
            stage: bed.stage(disk)?,
            publish: bed.publish(disk, pod)?,
            stats: bed.stats(disk, pod)?,
            expand: bed.expand(disk, pod, 1)?,
            unpublish: bed.unpublish(disk, pod)?,
            unstage: bed.unstage(disk)?,
        })
    }
}

/// A client whose connection lives on the thread that calls.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    channel: Channel,
}

macro_rules! calls {
    ($($name:ident: $client:ident.$rpc:ident($message:expr);)*) => {
        impl Client {
            $(/// How long it took.
            pub(crate) fn $name(&self, asked: &Asked) -> Result<Duration> {
                let message: fn(&Asked) -> _ = $message;
                let message = message(asked);
                let mut client = $client::new(self.channel.clone());
                let begun = Instant::now();
                let answer = self.runtime.block_on(client.$rpc(message));
                let took = begun.elapsed();
                answer.map(|_| took).with_context(|| stringify!($rpc))
            })*
        }
    };
}

calls! {
    probe: IdentityClient.probe(|_: &Asked| ProbeRequest {});
    info: NodeClient.node_get_info(|_: &Asked| NodeGetInfoRequest {});
    capabilities: NodeClient.node_get_capabilities(|_: &Asked| cks_tests::csi::proto::NodeGetCapabilitiesRequest {});
    stage: NodeClient.node_stage_volume(|asked: &Asked| asked.stage.clone());
    publish: NodeClient.node_publish_volume(|asked: &Asked| asked.publish.clone());
    stats: NodeClient.node_get_volume_stats(|asked: &Asked| asked.stats.clone());
    expand: NodeClient.node_expand_volume(|asked: &Asked| asked.expand.clone());
    unpublish: NodeClient.node_unpublish_volume(|asked: &Asked| asked.unpublish.clone());
    unstage: NodeClient.node_unstage_volume(|asked: &Asked| asked.unstage.clone());
}

impl Client {
    /// Connects to the bed's daemon.
    pub(crate) fn new(bed: &Bed) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let path = bed.path(Bed::socket());
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).context("Naming a socket")?;
        let channel = runtime.block_on(endpoint.connect()).context("Connecting to the daemon")?;
        Ok(Self { runtime, channel })
    }
}

/// Every RPC once in each round; the volume is unstaged before and after.
pub(crate) fn rounds(client: &Client, asked: &Asked, rounds: u32, calls: &mut Calls) -> Result<()> {
    for _ in 0..rounds {
        calls.probe.push(client.probe(asked)?);
        calls.info.push(client.info(asked)?);
        calls.capabilities.push(client.capabilities(asked)?);
        calls.stage.push(client.stage(asked)?);
        calls.publish.push(client.publish(asked)?);
        calls.stats.push(client.stats(asked)?);
        calls.unpublish.push(client.unpublish(asked)?);
        calls.unstage.push(client.unstage(asked)?);
    }
    Ok(())
}
