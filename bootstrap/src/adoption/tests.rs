use super::*;
use crate::node_spec::cni::CniStep;

const SETUP: &str = include_str!("data/setup-kube-system");
const INIT: &str = include_str!("data/deploy-init");
const JOIN: &str = include_str!("data/deploy-join");
const ETCD: &str = include_str!("data/setup-etcd-node");
const CONTAINERD: &str = include_str!("data/setup-containerd");
const UNIT: &str = "[Unit]\nRequires=containerd.service\nAfter=containerd.service\n\n[Service]\nType=simple\n\
    StartLimitInterval=0\nRestart=on-failure\nExecStartPre=/usr/bin/curl -k https://10.1.1.5:6443/version\n\
    ExecStart=/opt/bin/deploy-kube-system\n";
const RUNCMD: &str = "#!/bin/sh\nchown -R cloud:cloud /home/cloud/.ssh\n\
    containerd config default > /etc/containerd/config.toml\n\
    sed -i 's/SystemdCgroup = false/SystemdCgroup = true/g' /etc/containerd/config.toml\n\
    until [ -f /opt/bin/setup-kube-system ]; do sleep 5; done\n/opt/bin/setup-kube-system\n\
    until [ -f /etc/systemd/system/deploy-kube-system.service ]; do sleep 5; done\n\
    systemctl start deploy-kube-system\n";
const WORKER: Asked = Asked { role: Role::Worker, first: false, runs_user_lines: false };
const FIRST: Asked = Asked { role: Role::ControlPlane, first: true, runs_user_lines: false };

fn caller() -> Caller {
    Caller { program: "/usr/bin/cks-agent".to_owned(), root: None }
}

fn taken(files: &[(File, &str)], asked: &Asked) -> Decision {
    decide(files, asked, &caller())
}

#[test]
fn the_server_s_scripts_become_one_call_each() {
    let join = JOIN.replace("kubeadm join", "kubeadm join --control-plane --certificate-key 0f0f");
    let further = Asked { role: Role::ControlPlane, ..WORKER };
    for (deploy, asked) in [(INIT, FIRST), (JOIN, WORKER), (&join, further)] {
        let files = [
            (File::Deploy, deploy),
            (File::DeployUnit, UNIT),
            (File::Setup, SETUP),
            (File::SetupContainerd, CONTAINERD),
        ];
        let decision = taken(&files, &asked);
        assert_eq!(decision.refused, [""; 0]);
        let names: Vec<_> = decision.take.iter().map(|(file, _)| *file).collect();
        assert_eq!(names, [File::Setup, File::Deploy, File::DeployUnit, File::SetupContainerd]);
        for ((_, text), call) in decision.take.iter().zip(["setup", "ready", "", "containerd"]) {
            let ends = if call.is_empty() {
                "RestartSec=30s\n".to_owned()
            } else {
                format!("\nexec /usr/bin/cks-agent attend {call}\n")
            };
            assert!(is_ours(text) && text.ends_with(&ends), "{text}");
        }
        let again: Vec<_> = decision.take.iter().map(|(file, text)| (*file, text.as_str())).collect();
        assert_eq!(taken(&again, &asked), Decision::default(), "a second time there is nothing to do");
    }
    let etcd = taken(&[(File::SetupEtcd, ETCD)], &Asked { role: Role::Etcd, ..WORKER });
    assert!(etcd.take[0].1.ends_with("attend setup\n"), "{etcd:?}");
}

#[test]
fn a_script_calls_the_agent_where_it_is() {
    let caller = Caller { program: "/opt/my agent".to_owned(), root: Some("/mnt/it's".to_owned()) };
    let decision = decide(&[(File::Setup, SETUP)], &WORKER, &caller);
    assert!(
        decision.take[0].1.ends_with("\nexec '/opt/my agent' attend --root '/mnt/it'\\''s' setup\n"),
        "{decision:?}"
    );
}

#[test]
fn one_foreign_statement_leaves_all_in_place() {
    let with = |text: &str, line: &str| format!("{text}{line}\n");
    for (line, named) in [
        ("apt-get install -y nfs-common", "\"apt-get\""),
        ("curl -s https://example.org/x | bash", "\"curl\""),
        ("sysctl -w vm.max_map_count=262144", "\"sysctl\""),
        ("echo \"KUBELET_EXTRA_ARGS=--node-ip=10.1.1.4\" > /etc/default/kubelet", "\"echo\""),
        ("X=$(my-tool)", "\"my-tool\""),
        ("if true; then /usr/local/bin/hook; fi", "\"/usr/local/bin/hook\""),
        ("systemctl enable --now my-agent", "\"systemctl\""),
        ("export HTTP_PROXY=http://proxy:3128", "\"export\""),
        ("echo 'without an end", "without an end"),
        // What only resembles the server's own statements.
        (
            "curl -L https://github.com/derailed/k9s/releases/download/v0.50.0/k9s.tar.gz | tar -C /opt/bin -xz",
            "\"curl\"",
        ),
        ("curl -sSL https://dl.k8s.io/release/stable.txt", "\"curl\""),
        ("cp ${BINARIES_DIR}/extra/* /usr/local/bin", "\"cp\""),
        ("mkdir -p /opt/corp", "\"mkdir\""),
        ("sysctl net.ipv4.conf.all.arp_ignore=0 vm.max_map_count=262144", "\"sysctl\""),
        ("systemctl enable kubelet corp-agent", "\"systemctl\""),
        ("ctr image pull registry.example.org/x:1", "\"ctr\""),
        ("/opt/bin/kubectl apply -f https://example.org/kubernetes/dashboard/x.yaml", "\"/opt/bin/kubectl\""),
        ("/opt/bin/kubectl create namespace headlamp", "\"/opt/bin/kubectl\""),
        (
            "sed -i -e 's/SystemdCgroup = false/SystemdCgroup = true/g' -e 's/a/b/' /etc/containerd/config.toml",
            "\"sed\"",
        ),
        ("modprobe overlay\nmodprobe nfs", "\"modprobe\""),
        ("rm -rf $AUX_DOWNLOAD_DIR /srv", "\"rm\""),
        ("umount /data", "\"umount\""),
        ("echo 10.0.0.1 registry>>/etc/hosts", "\"echo\""),
        ("if true; then echo x; fi > /etc/x", "\">\""),
        ("[[ -f /x ]] > /etc/x", "\"[[\""),
        ("BINARIES_DIR=/opt/corp", "\"BINARIES_DIR\""),
        ("PAUSE_IMAGE=registry.example.org/pause:3.10", "\"PAUSE_IMAGE\""),
        ("HTTPS_PROXY=http://proxy:3128", "\"HTTPS_PROXY\""),
        ("kubeadm config migrate", "\"kubeadm\""),
        // What would hide all that is behind it.
        ("cat <<EOF", "here-document without an end"),
        ("n=$((1 << retval))\nreboot", "\"n\""),
        ("# <<EOF\nreboot", "\"reboot\""),
        ("echo \"a << b\"\nreboot", "\"reboot\""),
        ("(( 1 )) && reboot", "\"reboot\""),
        ("while true; do break; done < <(reboot)", "process substitution"),
    ] {
        let setup = with(SETUP, line);
        let decision = taken(&[(File::Setup, &setup), (File::Deploy, JOIN)], &WORKER);
        assert_eq!(decision.take, [], "{line}");
        let [why] = &decision.refused[..] else { panic!("{line}: {decision:?}") };
        assert!(why.starts_with("/opt/bin/setup-kube-system: ") && why.contains(named), "{why}");
    }
    for flag in ["--node-name x", "--config /etc/x.yaml", "--config=/etc/x.yaml"] {
        let flags = JOIN.replace("--token ", &format!("{flag} --token "));
        assert_eq!(taken(&[(File::Deploy, &flags)], &WORKER).refused.len(), 1, "{flag}");
    }
    for text in ["", "#!/bin/sh\n", "\u{7f}ELF", "reboot\n"] {
        assert_eq!(taken(&[(File::Setup, text)], &WORKER).refused.len(), 1, "{text:?}");
    }
}

#[test]
fn no_damage_to_a_script_makes_it_another_one_that_is_taken_over() {
    // Bytes are replaced one after the other, by what a shell takes for more than a letter.
    let signs = ["", "`", "$(", ")", "\"", "'", "\\", "\n", ";", "&&", "<<E", "[[", "((", "{", "é"];
    let mut refused = 0;
    for (at, _) in INIT.char_indices() {
        let sign = signs[at % signs.len()];
        let damaged = format!("{}{sign}{}", &INIT[..at], INIT.get(at + 1..).unwrap_or_default());
        let decision = taken(&[(File::Deploy, &damaged)], &FIRST);
        assert_eq!(decision.take.len() + decision.refused.len(), 1, "{damaged}");
        refused += decision.refused.len();
    }
    assert!(refused > INIT.len() / 4, "{refused} of {}", INIT.len());
}

#[test]
fn no_secret_is_repeated() {
    let script = format!("{JOIN}my-join --token abcdef.0123456789abcdef\nMY=secret my-join2\n");
    let refused = taken(&[(File::Deploy, &script)], &WORKER).refused.concat();
    assert!(refused.contains("line 12: \"my-join\"") && !refused.contains("0123456789abcdef"), "{refused}");
}

#[test]
fn a_script_that_does_something_else_than_the_user_data_asks_is_refused() {
    let control = JOIN.replace("--token", "--control-plane --token");
    let further = Asked { role: Role::ControlPlane, ..WORKER };
    for (deploy, asked) in [
        (INIT, WORKER),
        (JOIN, FIRST),
        (JOIN, further),
        (control.as_str(), WORKER),
        (JOIN, Asked { role: Role::Etcd, ..WORKER }),
    ] {
        let decision = taken(&[(File::Setup, SETUP), (File::Deploy, deploy)], &asked);
        assert!(decision.take.is_empty() && decision.refused.len() == 1, "{asked:?}: {decision:?}");
    }
}

#[test]
fn a_unit_of_somebody_else_stays() {
    let own = UNIT.replace("Type=simple", "Type=simple\nEnvironment=A=b");
    let files = [(File::Setup, SETUP), (File::DeployUnit, own.as_str())];
    let decision = taken(&files, &WORKER);
    assert_eq!((decision.take.len(), decision.refused.len()), (1, 0));
}

#[test]
fn runcmd_loses_what_would_undo_the_agent_s_work() {
    let lines = |text: &str, asked: &Asked| {
        let decision = taken(&[(File::Runcmd, text)], asked);
        decision.take.first().map(|(_, text)| text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>())
    };
    let stock: Vec<&str> =
        RUNCMD.lines().enumerate().filter(|(at, _)| ![0, 2, 3].contains(at)).map(|(_, line)| line).collect();
    assert_eq!(lines(RUNCMD, &WORKER).unwrap(), stock);
    let registry =
        RUNCMD.replace("containerd config default > /etc/containerd/config.toml", "bash -x /opt/bin/setup-containerd");
    assert_eq!(lines(&registry, &WORKER).unwrap(), stock);
    let quoted = "#!/bin/sh\nchown -R cloud:cloud /home/cloud/.ssh\n'/opt/bin/setup-etcd-node'\n'systemctl' 'enable' '--now' 'etcd'\n";
    assert_eq!(lines(quoted, &WORKER).unwrap().len(), 3);
    assert_eq!(lines("#!/bin/sh\napt-get update\n", &WORKER), None, "somebody else's");

    // The user's CNI configuration, and one that was folded into the server's last line.
    let user = format!("{RUNCMD}kubectl apply -f https://example.org/cni.yaml\n'cilium' 'install'\n");
    assert_eq!(lines(&user, &WORKER).unwrap().len(), stock.len() + 2, "carried out by nobody else");
    let runs = Asked { runs_user_lines: true, ..FIRST };
    assert_eq!(lines(&user, &runs).unwrap(), stock);
    let folded = RUNCMD.replace("start deploy-kube-system", "start deploy-kube-system - kubectl apply -f x");
    assert_eq!(lines(&folded, &runs).unwrap(), stock);
    // An operator's own line in between goes on being carried out.
    let between = RUNCMD.replace("systemctl start", "echo hook\nsystemctl start");
    assert_eq!(lines(&between, &runs).unwrap().len(), stock.len() + 1);
}

#[test]
fn what_matters_of_a_spec_is_asked() {
    let mut spec = NodeSpec::new(Role::ControlPlane, "a", None, None).unwrap();
    assert_eq!(Asked::of(&spec), Asked { role: Role::ControlPlane, ..WORKER });
    let step = CniStep { line: 1, action: CniAction::Shell { command: "x".to_owned() } };
    for (network, runs_user_lines) in
        [(Network::Bundle, false), (Network::UserData(Vec::new()), false), (Network::UserData(vec![step]), true)]
    {
        let init = Init { network, ..Init::default() };
        spec.membership = Some(Membership::FirstControlPlane(Box::new(init)));
        assert_eq!(Asked::of(&spec), Asked { runs_user_lines, ..FIRST });
    }
}
