//! The CSI Node service: requests in, answers out. What is done, is done on threads of their own, which own the volume's
//! guard: a client that gives up changes nothing, and its next try is told that the volume is being worked on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstrap::volume::VolumeId;
use bootstrap::volume::refusal::{Class, Refusal};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::about::About;
use super::proto::csi::node_server::Node;
use super::proto::csi::node_service_capability::rpc::Type as Rpc;
use super::proto::csi::node_service_capability::{self, Type};
use super::proto::csi::volume_usage::Unit;
use super::proto::csi::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse,
    NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest,
    NodeUnstageVolumeResponse, Topology, VolumeCondition, VolumeUsage,
};
use super::tally::Tally;
use super::{request, status};
use crate::volume::locks::Locks;
use crate::volume::{Condition, Usage, Volumes};

/// Operations at once; kubelet starts one for each volume of each pod, and some wait for their disk.
const WORKERS: usize = 64;
/// What takes volumes away has places of its own: it waits for no disk, and frees those that others wait for.
const WITHDRAWERS: usize = 16;
/// Questions for the state of volumes at once: a filesystem that does not answer holds one, and no operation.
const LOOKERS: usize = 16;
/// kubelet gives up after two minutes; who says nothing is treated so, too.
const PATIENCE: Duration = Duration::from_secs(115);
/// How long a filesystem may take to say how full it is.
const LOOK: Duration = Duration::from_secs(10);
/// Before the client gives up, it is told why it waits.
const AHEAD: Duration = Duration::from_millis(500);

/// Answers for the volumes of the machine.
#[derive(Debug, Clone)]
pub struct NodeService {
    volumes: Volumes,
    about: About,
    locks: Locks,
    workers: Arc<Semaphore>,
    withdrawers: Arc<Semaphore>,
    lookers: Arc<Semaphore>,
    tally: Tally,
}

impl NodeService {
    /// Serves `volumes`, and counts in `tally`.
    #[must_use]
    pub fn new(volumes: Volumes, about: About, tally: Tally) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count));
        let (workers, withdrawers, lookers) = (places(WORKERS), places(WITHDRAWERS), places(LOOKERS));
        Self { volumes, about, locks: Locks::default(), workers, withdrawers, lookers, tally }
    }

    /// Waits until every operation has ended, whoever waits for it.
    pub async fn idle(&self) {
        for (places, count) in [(&self.workers, WORKERS), (&self.withdrawers, WITHDRAWERS)] {
            // Never closed.
            let _ = places.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await;
        }
    }

    /// Does the work on a thread that may block.
    async fn work<T: Send + 'static, const N: usize>(
        &self,
        rpc: &'static str,
        id: &VolumeId,
        keys: [String; N],
        work: impl FnOnce(&Volumes) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Status> {
        self.run(rpc, id, keys, &self.workers, work).await.map_err(|refusal| status::status(&refusal))
    }

    /// The same for what takes a volume away.
    async fn withdraw<const N: usize>(
        &self,
        rpc: &'static str,
        id: &VolumeId,
        keys: [String; N],
        work: impl FnOnce(&Volumes) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Status> {
        self.run(rpc, id, keys, &self.withdrawers, work).await.map_err(|refusal| status::status(&refusal))
    }

    async fn run<T: Send + 'static, const N: usize>(
        &self,
        rpc: &'static str,
        id: &VolumeId,
        keys: [String; N],
        places: &Arc<Semaphore>,
        work: impl FnOnce(&Volumes) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let began = Instant::now();
        let taken = self.locks.take(keys).and_then(|guard| match Arc::clone(places).try_acquire_owned() {
            Ok(place) => Ok((guard, place)),
            Err(_) => Err(Refusal::new(Class::Overloaded, "too many operations are at work")),
        });
        let taken = match taken {
            Ok(taken) => taken,
            Err(refusal) => {
                self.tally.count(rpc, id, began.elapsed(), Some(&refusal));
                return Err(refusal);
            }
        };
        let (volumes, tally, id) = (self.volumes.clone(), self.tally.clone(), id.clone());
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&volumes);
            // Whether anybody still waits for the answer or not.
            tally.count(rpc, &id, began.elapsed(), done.as_ref().err());
            drop(taken);
            done
        });
        task.await.unwrap_or_else(|e| Err(Refusal::new(Class::Io, format!("{rpc} ended early")).with_source(e)))
    }

    /// What can't even be begun.
    fn refuse<T>(&self, rpc: &'static str, id: &str, asked: Result<T, Refusal>) -> Result<T, Status> {
        asked.map_err(|refusal| {
            self.tally.refused(rpc, id, &refusal);
            status::status(&refusal)
        })
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        const RPC: &str = "NodeStageVolume";
        let until = until(request.metadata());
        let asked = self.refuse(RPC, &request.get_ref().volume_id, request::stage(request.get_ref()))?;
        let (id, keys) = (asked.id.clone(), [volume(&asked.id), path(&asked.staging)]);
        self.work(RPC, &id, keys, move |volumes| volumes.stage(&asked, until)).await?;
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        const RPC: &str = "NodeUnstageVolume";
        let asked = self.refuse(RPC, &request.get_ref().volume_id, request::unstage(request.get_ref()))?;
        let (id, keys) = (asked.id.clone(), [volume(&asked.id), path(&asked.path)]);
        self.withdraw(RPC, &id, keys, move |volumes| volumes.unstage(&asked)).await?;
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        const RPC: &str = "NodePublishVolume";
        let asked = self.refuse(RPC, &request.get_ref().volume_id, request::publish(request.get_ref()))?;
        let (id, keys) = (asked.id.clone(), [volume(&asked.id), path(&asked.target)]);
        self.work(RPC, &id, keys, move |volumes| volumes.publish(&asked)).await?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        const RPC: &str = "NodeUnpublishVolume";
        let asked = self.refuse(RPC, &request.get_ref().volume_id, request::unpublish(request.get_ref()))?;
        let (id, keys) = (asked.id.clone(), [volume(&asked.id), path(&asked.path)]);
        self.withdraw(RPC, &id, keys, move |volumes| volumes.unpublish(&asked)).await?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        const RPC: &str = "NodeGetVolumeStats";
        let asked = self.refuse(RPC, &request.get_ref().volume_id, request::stats(request.get_ref()))?;
        let id = asked.id.clone();
        // Not the volume's guard: where a filesystem does not answer, it can still be taken away.
        let keys = [format!("the state of volume {id}")];
        let shown = asked.path.display().to_string();
        let looking = self.run(RPC, &id, keys, &self.lookers, move |volumes| volumes.stats(&asked));
        let looked = match tokio::time::timeout(LOOK, looking).await {
            Ok(looked) => looked,
            Err(_) => Err(Refusal::new(Class::TimedOut, format!("the filesystem at {shown} does not answer"))),
        };
        let (usage, condition) = looked.map_err(|refusal| status::status(&refusal))?;
        Ok(Response::new(stats(&usage, &condition)))
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        const RPC: &str = "NodeExpandVolume";
        let until = until(request.metadata());
        let asked = self.refuse(RPC, &request.get_ref().volume_id, request::expand(request.get_ref()))?;
        let (id, keys) = (asked.id.clone(), [volume(&asked.id), path(&asked.path)]);
        let bytes = self.work(RPC, &id, keys, move |volumes| volumes.expand(&asked, until)).await?;
        Ok(Response::new(NodeExpandVolumeResponse { capacity_bytes: signed(bytes) }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let all = [
            Rpc::StageUnstageVolume,
            Rpc::GetVolumeStats,
            Rpc::ExpandVolume,
            Rpc::VolumeCondition,
            Rpc::SingleNodeMultiWriter,
        ];
        let rpc = |rpc: Rpc| Type::Rpc(node_service_capability::Rpc { r#type: rpc.into() });
        let capabilities = all.map(|capability| NodeServiceCapability { r#type: Some(rpc(capability)) }).into();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        let (about, host) = (self.about.clone(), self.volumes.host().clone());
        let told = tokio::task::spawn_blocking(move || about.tell(&host)).await;
        let told = told.unwrap_or_else(|e| Err(Refusal::new(Class::Io, "NodeGetInfo ended early").with_source(e)));
        let told = self.refuse("NodeGetInfo", "", told)?;
        Ok(Response::new(NodeGetInfoResponse {
            node_id: told.node_id,
            max_volumes_per_node: told.max_volumes,
            accessible_topology: Some(Topology { segments: [(super::ZONE_KEY.to_owned(), told.zone)].into() }),
        }))
    }
}

/// What stands for a volume: its disk, for that is one and the same however its id is spelt.
fn volume(id: &VolumeId) -> String {
    id.serial().map_or_else(|| format!("volume {id}"), |serial| format!("the volume with the disk {serial}"))
}

fn path(path: &Path) -> String {
    format!("path {}", path.display())
}

/// When the client gives up (`grpc-timeout` of gRPC over HTTP/2), or a little earlier, so that it still hears the reason.
fn until(metadata: &MetadataMap) -> Instant {
    let told = metadata.get("grpc-timeout").and_then(|text| timeout(text.to_str().ok()?));
    let patience = told.unwrap_or(PATIENCE).min(PATIENCE);
    Instant::now() + patience.checked_sub(AHEAD).unwrap_or(patience / 2)
}

/// A number of at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn stats(usage: &Usage, condition: &Condition) -> NodeGetVolumeStatsResponse {
    let of = |[total, used, available]: [u64; 3], unit: Unit| VolumeUsage {
        total: signed(total),
        used: signed(used),
        available: signed(available),
        unit: unit.into(),
    };
    let usage = match usage {
        Usage::Block(size) => vec![of([*size, 0, 0], Unit::Bytes)],
        Usage::Filesystem { bytes, inodes } => {
            let inodes = inodes.map(|inodes| of(inodes, Unit::Inodes));
            std::iter::once(of(*bytes, Unit::Bytes)).chain(inodes).collect()
        }
    };
    let (abnormal, message) = match &condition.wrong {
        Some(wrong) => (true, wrong.clone()),
        None => (false, "the volume is well".to_owned()),
    };
    NodeGetVolumeStatsResponse { usage, volume_condition: Some(VolumeCondition { abnormal, message }) }
}

/// The protocol has no numbers beyond.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_one_guard_however_its_volumes_id_is_spelt() {
        let key = |id: &str| volume(&VolumeId::parse(id).unwrap());
        let id = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        assert_eq!(key(id), key(&id.to_uppercase()));
        assert_ne!(key(id), key("0a1b2c3d-4e5f-6071-8294-a4b5c6d7e8f9"));
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn a_clients_patience_is_read_as_grpc_writes_it() {
        for (text, patience) in [
            ("1500m", Some(Duration::from_millis(1500))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789S", None),
            ("5", None),
            ("", None),
            ("5ä", None),
            ("-5S", None),
        ] {
            assert_eq!(timeout(text), patience, "{text}");
        }
    }
}
