//! What the server reads out of a node's answers, as its Java does: of one text in which standard output and standard
//! error are mixed.

/// Java's `trim`: whatever is not above a space goes.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

/// How many nodes are ready: `Integer.parseInt` of all that was said, without quotes.
pub(super) fn ready_nodes(text: &str) -> Result<i32, String> {
    trimmed(text).replace('"', "").parse().map_err(|_| format!("{:?} is not a number", trimmed(text)))
}

/// Whether a pod called `name` runs.
pub(super) fn runs(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.contains(name) && line.contains("Running"))
}

/// Whether awk printed the node's name, and nothing else did anything.
pub(super) fn is_node(text: &str, name: &str) -> Result<(), String> {
    if trimmed(text) == name { Ok(()) } else { Err(format!("{:?} is not {name}", trimmed(text))) }
}

/// Whether a node's kubelet has a version; the text becomes the node's version in the server's database.
pub(super) fn has_version(text: &str, version: &str) -> Result<(), String> {
    let wanted = format!("v{version}");
    if text.contains(&wanted) { Ok(()) } else { Err(format!("{:?} does not contain {wanted}", trimmed(text))) }
}

/// Whether users can be handed this kubeconfig. The server only looks whether there is any text, and then replaces the
/// control plane's address in it; users find out about the rest.
pub(super) fn is_kubeconfig(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("nothing".to_owned());
    }
    let foreign = text.lines().find(|line| !line.trim().is_empty() && !is_kubeconfig_line(line));
    match foreign {
        Some(line) => Err(format!("{line:?} is no line of a kubeconfig")),
        None if !text.contains("server: https://") => Err("it names no server".to_owned()),
        None => Ok(()),
    }
}

/// The keys of a kubeconfig.
const KEYS: [&str; 7] = ["apiVersion", "clusters", "contexts", "current-context", "kind", "preferences", "users"];

/// What kubeadm and kubectl write: known keys at the margin, and below them what is theirs.
fn is_kubeconfig_line(line: &str) -> bool {
    line.starts_with([' ', '-', '#'])
        || KEYS.iter().any(|key| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_number_and_nothing_else() {
        let texts = [("2\n", Some(2)), (" \"3\"\r\n", Some(3)), ("+1", Some(1)), ("", None), ("2 3", None)];
        let noise = "sudo: unable to resolve host node-1: Name or service not known\n2\n";
        for (text, count) in texts.into_iter().chain([(noise, None)]) {
            assert_eq!(ready_nodes(text).ok(), count, "{text:?}");
        }
    }

    #[test]
    fn a_pod_runs_when_one_line_says_both() {
        let scraper = "NAME                         READY   STATUS    RESTARTS   AGE
dashboard-metrics-scraper-1  1/1     Running   0          1m
kubernetes-dashboard-2       0/1     Pending   0          1m\n";
        assert!(!runs(scraper, "kubernetes-dashboard"));
        assert!(runs("kubernetes-dashboard-2  1/1  Running  0  1m\n", "kubernetes-dashboard"));
        assert!(!runs("No resources found in kubernetes-dashboard namespace.\n", "kubernetes-dashboard"));
    }

    #[test]
    fn a_node_and_its_version_stand_alone() {
        is_node("node-1\n", "node-1").unwrap();
        is_node("W1: deprecated\nnode-1\n", "node-1").unwrap_err();
        is_node("", "node-1").unwrap_err();
        has_version("v1.35.4\n", "1.35.4").unwrap();
        has_version("v1.34.4\n", "1.35.4").unwrap_err();
    }

    #[test]
    fn a_kubeconfig_has_no_noise() {
        let good = "apiVersion: v1\nclusters:\n- cluster:\n    server: https://10.1.1.10:6443\n  name: a\nusers: []\n";
        is_kubeconfig(good).unwrap();
        for bad in [String::new(), "apiVersion: v1\n".to_owned(), format!("sudo: unable to resolve host a\n{good}")] {
            is_kubeconfig(&bad).unwrap_err();
        }
    }
}
