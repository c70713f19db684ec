//! The token server that a registry sends its clients to (`docs.docker.com`, "Token Authentication
//! Specification"): anybody may pull, and who knows the password may push.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bootstrap::digest::Digest;
use serde_json::{Value, json};

use crate::authority::Identity;
use crate::netns::Netns;
use crate::process::Command;
use crate::web::{Answer, Request, Web};

/// Who may push.
pub const FILLER: (&str, &str) = ("filler", "well-kept");
/// `FILLER` as the header says it: base64 of `filler:well-kept`.
const FILLER_BASIC: &str = "Basic ZmlsbGVyOndlbGwta2VwdA==";
/// What the registry calls itself and the server that it trusts.
pub const SERVICE: &str = "test-registry";
/// The `iss` of the tokens.
pub const ISSUER: &str = "test-issuer";

/// A token server. A token is good for 300 s.
#[derive(Debug)]
pub struct Tokens {
    /// Where clients ask: `https://10.1.1.1:5002/token`.
    pub realm: String,
    /// The certificate that the registry shall trust, PEM.
    pub certificate: PathBuf,
    web: Web,
    stale: Arc<AtomicUsize>,
}

/// What signs the tokens.
#[derive(Debug)]
struct Signer {
    directory: PathBuf,
    header: String,
    count: AtomicU64,
    /// Whether only who may push may pull.
    closed: bool,
}

impl Tokens {
    /// Serves at `address` inside `netns`, with the key in `directory`. A `closed` one lets only those pull who may push.
    ///
    /// # Errors
    /// Without openssl, or when the address is taken.
    pub fn start(netns: &Netns, address: &str, identity: &Identity, directory: &Path, closed: bool) -> Result<Self> {
        let certificate = directory.join("tokens.crt");
        let request = Command::new("openssl").args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=Tokens"]);
        let request = request.args(["-newkey", "rsa:2048", "-keyout"]).arg(directory.join("tokens.key"));
        request.arg("-out").arg(&certificate).ok()?;
        let pem = fs::read_to_string(&certificate).context("Reading the token server's certificate")?;
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let header = base64(json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] }).to_string().as_bytes());
        let signer = Signer { directory: directory.to_owned(), header, count: AtomicU64::new(0), closed };
        let stale = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&stale);
        let answers = move |request: &Request| answer(request, &signer, &left);
        let web = Web::start(netns, address, Some((&identity.certificate, &identity.key)), answers)?;
        Ok(Self { realm: format!("https://{address}/token"), certificate, web, stale })
    }

    /// Lets the next `count` tokens be expired ones.
    pub fn expire(&self, count: usize) {
        self.stale.store(count, Ordering::Relaxed);
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.web.requests()
    }
}

fn answer(request: &Request, signer: &Signer, stale: &AtomicUsize) -> Answer {
    let may_push = match request.authorization.as_deref() {
        None if signer.closed => return Answer::new(401, "application/json", r#"{"details":"no password"}"#),
        None => false,
        Some(FILLER_BASIC) => true,
        Some(_) => return Answer::new(401, "application/json", r#"{"details":"wrong password"}"#),
    };
    let expired = stale.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    match signer.token(&granted(&request.path, may_push), expired) {
        Ok(token) => {
            let told = json!({ "token": token, "access_token": token, "expires_in": 300 });
            Answer::new(200, "application/json", told.to_string())
        }
        Err(error) => Answer::new(500, "text/plain", format!("{error:#}")),
    }
}

/// What of `token?scope=repository:a/b:pull,push&scope=…` is granted.
fn granted(path: &str, may_push: bool) -> Vec<Value> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let scopes: Vec<String> = scopes
        .flat_map(|value| value.split(['+', ' ']))
        .map(|scope| scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
        .collect();
    let grant = |scope: &String| {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions: Vec<&str> = actions.split(',').filter(|action| may_push || *action == "pull").collect();
        Some(json!({ "type": kind, "name": name, "actions": actions }))
    };
    scopes.iter().filter_map(grant).collect()
}

impl Signer {
    fn token(&self, access: &[Value], expired: bool) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        // The registry forgives a minute; an hour it doesn't.
        let issued = if expired { now - 3600 } else { now };
        let claims = json!({
            "iss": ISSUER, "sub": "", "aud": SERVICE, "jti": format!("{number}"),
            "iat": issued, "nbf": issued - 10, "exp": issued + 300, "access": access,
        });
        let signed = format!("{}.{}", self.header, base64(claims.to_string().as_bytes()));
        let place = self.directory.join(format!("token-{number}-{}", Digest::of(signed.as_bytes()).short()));
        fs::write(&place, &signed).with_context(|| format!("Writing {}", place.display()))?;
        let signature = place.with_extension("sig");
        let sign = Command::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(self.directory.join("tokens.key"));
        sign.arg("-out").arg(&signature).arg(&place).ok()?;
        let signature = fs::read(&signature).with_context(|| format!("Reading {}", signature.display()))?;
        Ok(format!("{signed}.{}", base64(&signature)))
    }
}

/// As JSON Web Tokens want it (RFC 4648 §5, without padding).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        let digits = (0..=group.len()).map(|at| word >> (18 - 6 * at) & 63);
        text.extend(digits.filter_map(|digit| ALPHABET.get(digit)).map(|&digit| char::from(digit)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_tokens() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn only_who_may_push_gets_it() {
        let path = "token?service=s&scope=repository%3Aregistry.k8s.io%2Fpause%3Apull%2Cpush";
        let expected = |actions: &[&str]| {
            vec![json!({ "type": "repository", "name": "registry.k8s.io/pause", "actions": actions })]
        };
        assert_eq!(granted(path, false), expected(&["pull"]));
        assert_eq!(granted(path, true), expected(&["pull", "push"]));
        assert_eq!(granted("token?scope=repository:a:pull+repository:b:pull", false).len(), 2);
    }
}
