//! The private registry that `setup-containerd` puts into containerd's configuration.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::node_spec::Registry;
use crate::secret::{MASK, Secret, shown_url};
use crate::user_data::placeholder;

/// The registry of a script; none where its placeholders were not filled in, as on each cluster without one.
///
/// The script holds a piece of containerd's configuration in version 2, either quoted for the shell or as it is.
pub(super) fn registry(script: &str) -> Option<Registry> {
    let plain = script.replace("\\\"", "\"");
    let host = quoted_after(&plain, "registry.mirrors.")?;
    let host = host.split('/').next().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    if placeholder::first(host).is_some() || host.is_empty() || !host.chars().all(allowed) {
        return None;
    }
    let endpoints = plain.split_once("endpoint").and_then(|(_, rest)| rest.split_once('['));
    let endpoint = endpoints.and_then(|(_, rest)| quoted_after(rest, "")).filter(|url| !url.is_empty());
    let given = |key: &str| {
        let value = value_of(script, &plain, key)?;
        (!value.is_empty() && placeholder::first(&value).is_none()).then_some(value)
    };
    let mut username = given("username");
    let mut password = given("password");
    // Releases before 4.18 give the token only: base64 of user:password.
    if let (None, Some(token)) = (&password, given("identitytoken").or_else(|| given("auth")))
        && let Ok(bytes) = STANDARD.decode(token.trim())
        && let Ok(text) = String::from_utf8(bytes)
        && let Some((user, secret)) = text.split_once(':')
    {
        username = Some(user.to_owned());
        password = Some(secret.to_owned());
    }
    Some(Registry {
        host: host.to_owned(),
        endpoints: endpoint.map(without_user).into_iter().collect(),
        username,
        password: password.map(Secret::new),
        ..Registry::default()
    })
}

/// An URL without user and password, which are given by themselves.
fn without_user(url: &str) -> String {
    shown_url(url).replace(&format!("{MASK}@"), "")
}

/// The text in quotes behind `mark`.
fn quoted_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    let (_, rest) = rest.split_once('"')?;
    rest.split_once('"').map(|(inner, _)| inner)
}

/// The value of `key = "…"`. Where the script quotes for the shell, it ends at the next quoted quote, so that a
/// password may hold a quote of its own.
fn value_of(script: &str, plain: &str, key: &str) -> Option<String> {
    let (text, open, close) = match script.contains("\\\"") {
        true => (script, format!("{key} = \\\""), "\\\""),
        false => (plain, format!("{key} = \""), "\""),
    };
    let (_, rest) = text.split_once(&open)?;
    rest.split_once(close).map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: &str = r#"export a="\\   [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"HOST\"]\n \\  endpoint = [\"URL\"]"
export b="\\ [plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"HOST\".auth]\n\tusername = \"USER\" \n\tpassword = \"PASS\" \n\tidentitytoken = \"dTpw\""
"#;

    fn filled(user: &str, password: &str) -> String {
        let text = QUOTED.replace("HOST", "hub.example.org:5000").replace("URL", "https://hub.example.org:5000");
        text.replace("USER", user).replace("PASS", password)
    }

    #[test]
    fn a_quoted_configuration_is_read() {
        let registry = registry(&filled("rob", "pa\"ss$1")).unwrap();
        assert_eq!(registry.host, "hub.example.org:5000");
        assert_eq!(registry.endpoints, ["https://hub.example.org:5000"]);
        assert_eq!(registry.username.as_deref(), Some("rob"));
        assert_eq!(registry.password.unwrap().reveal(), "pa\"ss$1");
    }

    #[test]
    fn a_plain_configuration_and_a_token_alone_are_read() {
        let plain = "cat > /etc/containerd/config.toml <<EOF\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"h\"]\n\
                     endpoint = [\"http://h\"]\nidentitytoken = \"cm9iOnBhOnNz\"\nEOF\n";
        let registry = registry(plain).unwrap();
        assert_eq!((registry.host.as_str(), registry.username.as_deref()), ("h", Some("rob")));
        assert_eq!(registry.password.unwrap().reveal(), "pa:ss");
    }

    #[test]
    fn no_registry_is_made_of_placeholders() {
        assert_eq!(registry(&placeholder::guard(&QUOTED.replace("HOST", "{{registry.url.endpoint}}"))), None);
        assert_eq!(registry("echo"), None);
    }
}
