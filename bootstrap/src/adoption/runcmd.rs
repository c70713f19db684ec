//! The script that cloud-init makes of `runcmd`: the server's lines, and behind them those of the user's CNI
//! configuration.

/// What shows that the server's lines are in it.
const SERVER: [&str; 2] = ["/opt/bin/setup-kube-system", "/opt/bin/setup-etcd-node"];
/// The server's last line, by its begin.
const LAST: [&str; 3] =
    ["systemctl start deploy-kube-system", "systemctl enable --now etcd", "systemctl start setup-kube-system"];
/// What undoes the agent's configuration of containerd.
const UNDOES: [&str; 3] = ["containerd config default", "SystemdCgroup = false", "/opt/bin/setup-containerd"];

/// The lines without those that undo what the agent does; without the user's, where `runs_user_lines` says that the agent
/// carries them out itself. None where this is not the server's script.
pub(super) fn without(text: &str, runs_user_lines: bool) -> Option<Vec<String>> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("#!")).collect();
    let plain: Vec<String> = lines.iter().map(|line| line.replace('\'', "")).collect();
    if !plain.iter().any(|line| SERVER.iter().any(|server| line.contains(server))) {
        return None;
    }
    let last = plain.iter().rposition(|line| LAST.iter().any(|last| line.trim_start().starts_with(last)));
    let undoes = |line: &str| UNDOES.iter().any(|undoes| line.contains(undoes));
    let mut kept = Vec::new();
    for (at, (line, plain)) in lines.iter().zip(&plain).enumerate() {
        let behind = last.is_some_and(|last| at > last);
        if behind && runs_user_lines || !behind && undoes(plain) {
            continue;
        }
        // What was folded into the server's last line is the user's, too.
        let folded =
            LAST.iter().find(|known| last == Some(at) && runs_user_lines && plain.trim_start().starts_with(*known));
        kept.push(folded.map_or_else(|| (*line).to_owned(), |known| (*known).to_owned()));
    }
    Some(kept)
}
