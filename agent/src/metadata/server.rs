//! The virtual router's data server: `http://ROUTER/latest/`, plain HTTP in the guest network, never by a proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use bootstrap::datasource;
use bootstrap::failure::Failure;
use futures::stream::{FuturesUnordered, StreamExt as _};
use hyper::StatusCode;

use super::{Found, Look, USER_DATA_MAX_BYTES, VALUE_MAX_BYTES};
use crate::config::Http;
use crate::host::Host;
use crate::media::http::Server;
use crate::media::http::place::Place;
use crate::media::router;
use crate::report;

/// A router answers at once or is not there.
const INACTIVITY: Duration = Duration::from_secs(10);

/// Asks every place where the router may be.
pub(super) async fn look(host: &Host, http: &Http) -> Look {
    let inactivity = http.inactivity.min(INACTIVITY);
    let http = Http { inactivity, connections: 1, proxy: None, ..http.clone() };
    let servers = router::servers(host);
    let mut asked: FuturesUnordered<_> = servers.iter().map(|server| ask(server, &http)).collect();
    let (mut reasons, mut without) = (BTreeMap::new(), None);
    while let Some((name, answer)) = asked.next().await {
        match answer {
            Ok(found) if found.user_data.is_empty() => without = Some(found),
            Ok(found) => return Look::Found(Box::new(found)),
            Err(why) => drop(reasons.insert(name, why)),
        }
    }
    match without {
        Some(found) => Look::WithoutUserData(Box::new(found)),
        // In the order in which they are asked, not in that of their answers.
        None => Look::Nothing(servers.iter().filter_map(|server| reasons.remove_entry(&base(server))).collect()),
    }
}

fn base(server: &str) -> String {
    format!("{server}latest/")
}

async fn ask(server: &str, http: &Http) -> (String, Result<Found, String>) {
    let name = base(server);
    let answer = found(&name, http).await.map_err(|failure| {
        let told = report::chain(&failure);
        told.strip_prefix(&format!("{name}meta-data/instance-id: ")).unwrap_or(&told).to_owned()
    });
    (name, answer.and_then(|found| found))
}

/// What the data server `name` says; in words where it does not know the machine.
async fn found(name: &str, http: &Http) -> Result<Result<Found, String>, Failure> {
    let server = Server::new(Place::directory(name)?, http, true)?;
    let get = async |path: &str, limit| server.small(&server.place.entry(path)?, limit).await;
    let instance = match get("meta-data/instance-id", VALUE_MAX_BYTES).await? {
        Ok(bytes) => datasource::instance_id(&String::from_utf8_lossy(&bytes)),
        Err(status) => return Ok(Err(format!("tells no instance id (HTTP {status})"))),
    };
    let Some(instance) = instance else { return Ok(Err("what it tells is no instance id".to_owned())) };
    let user_data = match get("user-data", USER_DATA_MAX_BYTES).await? {
        Ok(bytes) => bytes,
        Err(StatusCode::NOT_FOUND) => Vec::new(),
        // What guards it is written in moments, and what it guards is there.
        Err(status) => return Ok(Err(format!("does not tell the user data (HTTP {status})"))),
    };
    let listing = get("meta-data/", VALUE_MAX_BYTES).await?.unwrap_or_default();
    let mut values = BTreeMap::from([("instance-id".to_owned(), instance)]);
    for key in datasource::keys(&String::from_utf8_lossy(&listing)) {
        if values.contains_key(&key) {
            continue;
        }
        // A key that is listed and not there is none.
        if let Ok(bytes) = get(&format!("meta-data/{key}"), VALUE_MAX_BYTES).await? {
            values.insert(key, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(Ok(Found { metadata: datasource::from_keys(values), user_data, source: name.to_owned() }))
}
