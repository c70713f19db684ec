//! What keeps containerd's garbage collector away while a run is on, and what runs leave behind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootstrap::failure::Failure;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    AbortRequest, AddResourceRequest, CreateRequest, DeleteRequest, Lease, ListRequest, ListResourcesRequest,
    ListStatusesRequest, Resource, Status,
};
use futures::{StreamExt as _, TryStreamExt as _};
use tonic::Code as Grpc;

use super::Containerd;
use super::ingest::INGEST_PREFIX;

/// What the names of all our leases begin with.
pub const LEASE_PREFIX: &str = "cks-agent-";
/// Of a lease that keeps nothing.
const SWEEP: &str = "cks-agent-sweep";
/// A lease that nobody takes up again ends after a day.
const LEASE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// What a run must have of a lease: longer than any takes.
const SHORTEST_LIFE: Duration = Duration::from_secs(12 * 3600);
/// When the garbage collector drops a lease (containerd `docs/garbage-collection.md`).
const EXPIRE_LABEL: &str = "containerd.io/gc.expire";
/// Calls side by side: containerd writes its records one after the other anyway.
const SIDE_BY_SIDE: usize = 8;

impl Containerd {
    /// The same connection under a lease whose name begins with `name`. A killed run's lease is taken up again as
    /// long as it lasts long enough: containerd may still be carrying out what that run asked for last (a commit
    /// waits for the disk), and refuses it, bytes and all, when the lease is gone meanwhile. containerd can't
    /// extend a lease, so what an older one holds goes over to a new one; leases of other names that are ours
    /// are ended. Only one run is on at a time (the journal's lock), so nobody else holds any of them.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn with_lease(&self, name: &str) -> Result<Self, Failure> {
        let refused = |status| self.refused("making a lease", &status);
        let mut client = LeasesClient::new(self.channel.clone());
        let listed = self.within(client.list(self.request(ListRequest::default()))).await.map_err(refused)?;
        let earlier = listed.into_inner().leases.into_iter().filter(|lease| lease.id.starts_with(LEASE_PREFIX));
        let (mut same, other): (Vec<_>, Vec<_>) = earlier.partition(|lease| {
            lease.id.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let now = SystemTime::now();
        // The last one is the one that lasts longest.
        same.sort_by_key(end);
        let lasting = same.pop_if(|lease| end(lease).is_some_and(|end| end >= now + SHORTEST_LIFE));
        let id = match lasting {
            Some(lasting) => lasting.id,
            None => self.create_lease(name, now).await?,
        };
        let leased = Self { lease: Some(id), ..self.clone() };
        for earlier in &same {
            let request = self.request(ListResourcesRequest { id: earlier.id.clone() });
            let held = self.within(client.list_resources(request)).await.map_err(refused)?.into_inner().resources;
            let over = futures::stream::iter(held).map(|resource| leased.hold(resource));
            over.buffer_unordered(SIDE_BY_SIDE).try_collect::<()>().await?;
        }
        for lease in same.iter().chain(&other) {
            self.delete_lease(&lease.id, false).await?;
        }
        Ok(leased)
    }

    /// Whether an earlier run left a lease of ours, of whichever bundle.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn left_lease(&self) -> Result<bool, Failure> {
        let mut client = LeasesClient::new(self.channel.clone());
        let listed = self.within(client.list(self.request(ListRequest::default()))).await;
        let leases = listed.map_err(|status| self.refused("listing leases", &status))?.into_inner().leases;
        Ok(leases.iter().any(|lease| lease.id.starts_with(LEASE_PREFIX)))
    }

    /// Whether this is a connection under a lease.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// Makes a lease and gives its id: `name` and a number.
    async fn create_lease(&self, name: &str, now: SystemTime) -> Result<String, Failure> {
        let number = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let id = format!("{name}.{number}");
        let expire = humantime::format_rfc3339_seconds(now + LEASE_LIFE).to_string();
        let request =
            self.request(CreateRequest { id: id.clone(), labels: [(EXPIRE_LABEL.to_owned(), expire)].into() });
        let created = self.within(LeasesClient::new(self.channel.clone()).create(request)).await;
        created.map(|_| id).map_err(|status| self.refused("making a lease", &status))
    }

    /// Has containerd collect what nothing keeps, and waits for it: the end of a lease, even of an empty one, makes
    /// it do so.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub(super) async fn sweep(&self) -> Result<(), Failure> {
        let id = self.create_lease(SWEEP, SystemTime::now()).await?;
        self.delete_lease(&id, true).await
    }

    /// Adds something to our lease.
    pub(super) async fn hold(&self, resource: Resource) -> Result<(), Failure> {
        let Some(id) = self.lease.clone() else { return Ok(()) };
        let request = self.request(AddResourceRequest { id, resource: Some(resource) });
        let added = self.within(LeasesClient::new(self.channel.clone()).add_resource(request)).await;
        match added {
            Err(status) if status.code() != Grpc::AlreadyExists => Err(self.refused("adding to a lease", &status)),
            _ => Ok(()),
        }
    }

    /// Ends the lease, where there is one, and waits until what it alone kept is collected; half-written blobs of ours, whichever
    /// bundle they were for, go before.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn end_lease(&self) -> Result<(), Failure> {
        self.abort_ingests().await?;
        match &self.lease {
            Some(id) => self.delete_lease(id, true).await,
            None => Ok(()),
        }
    }

    async fn delete_lease(&self, id: &str, sync: bool) -> Result<(), Failure> {
        let request = self.request(DeleteRequest { id: id.to_owned(), sync });
        match self.within(LeasesClient::new(self.channel.clone()).delete(request)).await {
            Err(status) if status.code() != Grpc::NotFound => Err(self.refused("ending a lease", &status)),
            _ => Ok(()),
        }
    }

    /// Half-written blobs of ours.
    pub(super) async fn ingests(&self) -> Result<Vec<Status>, Failure> {
        let mut client = ContentClient::new(self.channel.clone());
        let listed = self.within(client.list_statuses(self.request(ListStatusesRequest::default()))).await;
        let listed = listed.map_err(|status| self.refused("listing half-written blobs", &status))?;
        let ours = |status: &Status| status.r#ref.starts_with(INGEST_PREFIX);
        Ok(listed.into_inner().statuses.into_iter().filter(ours).collect())
    }

    async fn abort_ingests(&self) -> Result<(), Failure> {
        let refused = |status| self.refused("removing half-written blobs", &status);
        let mut client = ContentClient::new(self.channel.clone());
        for status in self.ingests().await? {
            let aborted = self.within(client.abort(self.request(AbortRequest { r#ref: status.r#ref }))).await;
            match aborted {
                Err(status) if status.code() != Grpc::NotFound => return Err(refused(status)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// When containerd drops the lease.
fn end(lease: &Lease) -> Option<SystemTime> {
    humantime::parse_rfc3339(lease.labels.get(EXPIRE_LABEL)?).ok()
}
