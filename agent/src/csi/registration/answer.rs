//! The two calls that kubelet makes.

use bootstrap::text;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::csi::proto::registration::registration_server::Registration;
use crate::csi::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

/// Characters of kubelet's error that are kept.
const ERROR: usize = 1024;

/// What kubelet did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It asked who this is.
    Asked,
    /// It has registered the driver.
    Registered,
    /// It refused, for this reason.
    Refused(String),
}

/// Answers kubelet, and tells what it did.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) info: PluginInfo,
    pub(super) calls: mpsc::Sender<Call>,
}

impl Answers {
    async fn tell(&self, call: Call) {
        // Nobody listens any more once the socket is about to go.
        let _ = self.calls.send(call).await;
    }
}

#[tonic::async_trait]
impl Registration for Answers {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.tell(Call::Asked).await;
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        let call = match plugin_registered {
            true => Call::Registered,
            false => Call::Refused(text::plain(&error.chars().take(ERROR).collect::<String>())),
        };
        self.tell(call).await;
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
