//! The API server, asked by a node that is no member yet.

use std::time::{Duration, SystemTime};

use bootstrap::cluster::discovery::{self, Found};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::Join;
use reqwest::header::DATE;

/// An API server that has anything to say says it in this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// The config map has a few kilobytes.
const MAX_BYTES: usize = 1 << 20;
/// Clocks that are further apart than this break certificates and tokens: kubeadm dates its own back by five minutes.
const SKEW: Duration = Duration::from_secs(300);

/// Asks the cluster of `join` for its authority, by a connection that nothing vouches for: the token does, for what
/// was said, and the pin, where there is one.
///
/// # Errors
/// `API_UNREACHABLE`, `CLOCK_SKEW`, `TOKEN_REFUSED`, `CA_MISMATCH`.
pub async fn discover(join: &Join) -> Result<Found, Failure> {
    let url = format!("https://{}/api/v1/namespaces/kube-public/configmaps/cluster-info", join.endpoint);
    let failed = |what: String| Failure::new(Code::ApiUnreachable, what);
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|e| failed("preparing to ask the API server".to_owned()).with_source(e))?;
    let asked = client.get(&url).send().await;
    let mut answer =
        asked.map_err(|e| failed(format!("{} does not answer", join.endpoint)).with_source(e.without_url()))?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()?.parse::<httpdate::HttpDate>().ok());
    if let Some(date) = date {
        compare_clocks(SystemTime::now(), date.into(), &join.endpoint.to_string())?;
    }
    let status = answer.status();
    if !status.is_success() {
        // Before the cluster is whole there is no such map, and nobody may read it yet.
        return Err(failed(format!("{} has no cluster-info yet: HTTP {}", join.endpoint, status.as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|e| failed(format!("{} broke off", join.endpoint)).with_source(e.without_url()))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(failed(format!("{} answers without end", join.endpoint)));
        }
    }
    let found = discovery::check(&body, &join.token, &join.trust)?;
    compare_with_authority(SystemTime::now(), &found.authority)?;
    Ok(found)
}

fn compare_clocks(ours: SystemTime, theirs: SystemTime, whose: &str) -> Result<(), Failure> {
    let (apart, how) = match ours.duration_since(theirs) {
        Ok(apart) => (apart, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    if apart <= SKEW {
        return Ok(());
    }
    let what = format!("this machine's clock is {} s {how} that of {whose}", apart.as_secs());
    Err(Failure::new(Code::ClockSkew, what))
}

fn compare_with_authority(now: SystemTime, authority: &str) -> Result<(), Failure> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    match discovery::validity(authority) {
        Some((from, to)) if !(from..=to).contains(&now) => {
            let what = "the cluster's authority is not valid at this machine's time";
            Err(Failure::new(Code::ClockSkew, what))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_little() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (theirs, fits) in [
            (now, true),
            (now + Duration::from_secs(299), true),
            (now + Duration::from_secs(301), false),
            (now - Duration::from_secs(86400), false),
        ] {
            assert_eq!(compare_clocks(now, theirs, "api").is_ok(), fits);
        }
        assert_eq!(
            compare_clocks(now, now + SKEW * 2, "api").unwrap_err().what,
            "this machine's clock is 600 s behind that of api"
        );
    }
}
