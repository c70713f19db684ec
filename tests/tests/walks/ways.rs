//! What a server of each release sends when all goes well, to the letter.

use cks_tests::server::{Candidate, Cluster, Order, Release, Transcript, Vm};

use crate::pretend::{Pretend, patient};

const COUNT: &str = "sudo /opt/bin/kubectl get nodes | grep -w 'Ready' | wc -l";
const SECRET: &str = "sudo /opt/bin//deploy-cloudstack-secret -u 'http://198.51.100.2:8080/client/api' -k 'aGktS2V5-plgWmo_test' -s 'c2VjcmV0LWtleQ-test_0'";

/// The commands without what a file is called by chance, each one once in a row.
fn commands(transcript: &Transcript) -> Vec<String> {
    let plain = |command: &str| {
        let digits = |c: char| c.is_ascii_digit();
        let words = command.split(' ').map(|word| match word.rsplit_once(".sh") {
            Some((name, "")) => format!("{}#.sh", name.trim_end_matches(digits)),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let mut commands: Vec<String> = transcript.commands().into_iter().map(plain).collect();
    commands.dedup();
    commands
}

fn pushed(name: &str) -> [String; 2] {
    [format!("scp {name}#.sh ~/"), format!("sudo mkdir -p /opt/bin/ ; sudo mv ~/{name}#.sh /opt/bin//{name}")]
}

fn create(release: Release, csi: bool, control: &Vm) -> Vec<String> {
    let mut all = vec!["connect".to_owned(), "GET https://198.51.100.10:6443/version".to_owned(), COUNT.to_owned()];
    all.push(match release.to_string().as_str() {
        "4.19.0" | "4.20.0" => "sudo cat /etc/kubernetes/admin.conf".to_owned(),
        _ => "sudo cat /etc/kubernetes/user.conf 2>/dev/null || sudo cat /etc/kubernetes/admin.conf".to_owned(),
    });
    let namespace = if release.has_headlamp() { "kube-system" } else { "kubernetes-dashboard" };
    all.push(format!("sudo /opt/bin/kubectl get pods --namespace={namespace}"));
    all.push(format!(
        "sudo /opt/bin/kubectl annotate node {} cluster-autoscaler.kubernetes.io/scale-down-disabled=true ; ",
        control.node()
    ));
    all.push("sudo /opt/bin//deploy-provider".to_owned());
    let scripts =
        ["deploy-cloudstack-secret", "deploy-provider", "deploy-csi-driver", "delete-pv-reclaimpolicy-delete"];
    let scripts =
        scripts.into_iter().filter(|script| release.has_csi() || !script.contains("csi") && !script.contains("pv"));
    all.extend(scripts.chain(["autoscale-kube-cluster"]).flat_map(pushed));
    all.extend([SECRET.to_owned(), "sudo /opt/bin//deploy-provider".to_owned()]);
    all.extend(csi.then(|| "sudo /opt/bin//deploy-csi-driver".to_owned()));
    all
}

fn created(pretend: &mut Pretend, release: Release, order: &Order) -> (Cluster, Transcript) {
    pretend.take_back().unwrap();
    patient(release).create(pretend, order).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_server_of_each_release_says_what_it_says() {
    let mut pretend = Pretend::new(3).unwrap();
    for release in Release::ALL.into_iter().chain([Release::new(19, 0), Release::new(20, 0)]) {
        let order = Order { csi: release.has_csi(), ..Order::small("Bed", "v1.34.4") };
        let (mut cluster, transcript) = created(&mut pretend, release, &order);
        let control = cluster.control().unwrap().clone();
        assert_eq!(commands(&transcript), create(release, order.csi, &control), "{transcript}");
        assert!(transcript.ignored().is_empty(), "{transcript}");
        assert!(cluster.kubeconfig.as_ref().unwrap().contains("server: https://198.51.100.10:6443"));
        let secret = pretend.control().read("/run/cluster/secret").unwrap();
        assert!(
            secret.starts_with("[Global]\napi-url = http") && secret.contains("secret-key = c2VjcmV0LWtleQ-test_0")
        );
        scale(&mut pretend, release, &mut cluster);
        autoscale(&mut pretend, release, &cluster);
        let transcript = patient(release).delete(&mut pretend, &mut cluster).unwrap_or_else(|error| panic!("{error}"));
        let volumes = order.csi.then(|| "sudo /opt/bin//delete-pv-reclaimpolicy-delete".to_owned());
        assert_eq!(commands(&transcript), Vec::from_iter(volumes), "{transcript}");
        assert!(transcript.ignored().is_empty(), "{transcript}");
    }
}

fn scale(pretend: &mut Pretend, release: Release, cluster: &mut Cluster) {
    let old = ["4.19.0", "4.20.0"].contains(&release.to_string().as_str());
    let transcript = patient(release).scale(pretend, cluster, 2).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(commands(&transcript), [COUNT], "{transcript}");
    let (_, user_data) = pretend.user_data.last().unwrap();
    assert!(user_data.len() > 1000 && user_data.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c)));

    let youngest = cluster.vms.last().unwrap().node();
    let down = patient(release).scale(pretend, cluster, 1);
    // Its flag is no longer one of kubectl's.
    let transcript = if old { down.unwrap_err().transcript } else { down.unwrap_or_else(|error| panic!("{error}")) };
    let flag = if old { "--delete-local-data" } else { "--delete-emptydir-data" };
    let mut all = vec![format!("sudo /opt/bin/kubectl drain {youngest} --ignore-daemonsets {flag}")];
    all.extend((!old).then(|| format!("sudo /opt/bin/kubectl delete node {youngest}")));
    assert_eq!(commands(&transcript), all, "{transcript}");
}

fn autoscale(pretend: &mut Pretend, release: Release, cluster: &Cluster) {
    let on = patient(release).autoscale(pretend, cluster, Some((1, 3))).unwrap_or_else(|error| panic!("{error}"));
    let told = format!("sudo /opt/bin/autoscale-kube-cluster -i {} -e -M 3 -m 1", cluster.id);
    assert_eq!(commands(&on), [told], "{on}");
    assert_eq!(pretend.control().read("/run/cluster/autoscaler").unwrap(), format!("1:3:{}\n", cluster.id));
    let off = patient(release).autoscale(pretend, cluster, None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(commands(&off), ["sudo /opt/bin/autoscale-kube-cluster -d"], "{off}");
}

/// What the packages of a template leave in dpkg's database.
fn install(pretend: &Pretend, name: &str, packages: &str) {
    let machine = &pretend.machines.iter().find(|machine| machine.name == name).unwrap();
    let stanza = |package: &str| {
        format!(
            "Package: {package}\nStatus: install ok installed\nMaintainer: a <a@example.org>\nArchitecture: all\nVersion: 1\nDescription: a\n\n"
        )
    };
    let status: String = packages.split_whitespace().map(stanza).collect();
    machine.sh("mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/info").unwrap();
    machine.write("/var/lib/dpkg/status", &status).unwrap();
}

const PACKAGES: &str =
    "cloud-init cloud-guest-utils conntrack apt-transport-https ca-certificates curl gnupg gnupg-agent
    software-properties-common lsb-release python3-json-pointer python3-jsonschema";

#[test]
fn a_machine_becomes_a_node_and_a_machine_again() {
    let mut pretend = Pretend::new(2).unwrap();
    for (round, release) in Release::ALL.into_iter().filter(|release| release.is_flexible()).enumerate() {
        let order = Order { workers: 0, ..Order::small("bed", "1.34.4") };
        let (mut cluster, _) = created(&mut pretend, release, &order);
        let name = "Extra-1".to_owned();
        let uuid = format!("0b8b5b1c-0000-4000-8000-00000000000{round}");
        let address = pretend.lend(&name);
        pretend.machines[1]
            .sh(&format!("mkdir -p /var/lib/cloud/instances/{uuid}/sem && touch /var/lib/cloud/instances/{uuid}/sem/config_runcmd"))
            .unwrap();
        let nodes = [Candidate { name: name.clone(), address, uuid: uuid.clone(), manual: false }];

        install(&pretend, "machine-1", PACKAGES);
        let refused = patient(release).add_external_nodes(&mut pretend, &mut cluster, &nodes, true).unwrap_err();
        assert!(refused.why.contains("Extra-1: exit status 1: Missing: containerd.io"), "{refused}");
        assert_eq!(cluster.vms.len(), 1);

        install(&pretend, "machine-1", &format!("{PACKAGES} containerd.io"));
        let added = patient(release).add_external_nodes(&mut pretend, &mut cluster, &nodes, round % 2 == 0);
        let added = added.unwrap_or_else(|error| panic!("{error}"));
        let mut all = Vec::from(pushed("validate-cks-node"));
        all.push("/opt/bin/validate-cks-node".to_owned());
        all.push(format!("sudo rm -rf /var/lib/cloud/instances/{uuid}/sem/*"));
        all.push(COUNT.to_owned());
        assert_eq!(commands(&added), all, "{added}");
        let ports: Vec<&str> = added.steps.iter().map(|step| step.to.as_str()).filter(|to| *to != "api").collect();
        assert_eq!((ports[0], *ports.last().unwrap()), ("198.51.100.10:2223", "198.51.100.10:2222"));
        assert_eq!(pretend.machines[1].sh(&format!("ls /var/lib/cloud/instances/{uuid}/sem")).unwrap(), "");

        let refused = patient(release).delete(&mut pretend, &mut cluster).unwrap_err();
        assert!(refused.why.contains("External nodes are left: Extra-1"), "{refused}");

        pretend.machines[1].write("/opt/bin/kubeadm", "#!/bin/sh\necho \"$@\" >/run/cluster/kubeadm\n").unwrap();
        pretend.machines[1].sh("chmod 755 /opt/bin/kubeadm").unwrap();
        let removed = patient(release).remove_external_node(&mut pretend, &mut cluster, &name);
        let removed = removed.unwrap_or_else(|error| panic!("{error}"));
        let mut all = Vec::from(pushed("remove-node-from-cluster"));
        all.push("/opt/bin/remove-node-from-cluster extra-1 control remove".to_owned());
        all.extend(pushed("remove-node-from-cluster"));
        all.push("sudo /opt/bin/remove-node-from-cluster extra-1 worker remove".to_owned());
        all.push("/opt/bin/remove-node-from-cluster extra-1 control delete".to_owned());
        assert_eq!(commands(&removed), all, "{removed}");
        assert!(removed.ignored().is_empty(), "{removed}");
        // The first time nobody could reach the API without root, so nothing was drained.
        assert!(removed.with("control remove").next().unwrap().text.contains("There is no node extra-1"));
        assert_eq!(pretend.machines[1].read("/run/cluster/kubeadm").unwrap(), "reset -f\n");
        assert!(!pretend.control().read("/run/cluster/nodes").unwrap().contains("extra-1"));
        assert!(!pretend.asked().contains("drain"));
        assert_eq!(cluster.vms.len(), 1);
    }
}

/// What a disc has, for a kubelet and a kubeadm that are scripts.
const DISC: &str = r#"
disc=/srv/disc
rm -rf $disc && mkdir -p $disc/k8s $disc/docker $disc/cni $disc/cri-tools
for program in kubeadm kubelet kubectl; do cp /run/cluster/$program.new $disc/k8s/$program; done
tar -czf $disc/cni/cni-plugins-amd64.tgz -C /etc hostname
tar -czf $disc/cri-tools/crictl-linux-amd64.tar.gz -C /etc hostname
touch $disc/network.yaml $disc/dashboard.yaml $disc/headlamp.yaml
printf '[Service]\nExecStart=/opt/bin/kubelet\n' >/etc/systemd/system/kubelet.service
cp $disc/k8s/kubelet /opt/bin/kubelet && chmod 755 /opt/bin/kubelet
systemctl daemon-reload && systemctl start kubelet
"#;

#[test]
fn a_node_is_upgraded_by_the_script_of_each_release() {
    let mut pretend = Pretend::new(1).unwrap();
    for release in Release::ALL {
        let (mut cluster, _) = created(&mut pretend, release, &Order { workers: 0, ..Order::small("bed", "1.34.4") });
        let node = cluster.control().unwrap().node();
        pretend.state("kubeadm.new", "#!/bin/sh\necho kubeadm \"$@\" >>/run/cluster/asked\n");
        pretend.state("kubelet.new", "#!/bin/sh\necho kubelet >>/run/cluster/asked\nexec sleep 1000\n");
        let kubectl = pretend
            .control()
            .read("/opt/bin/kubectl")
            .unwrap()
            .replace("$1, $2, \"<none>\", \"1m\", $3", "$1, $2, \"<none>\", \"1m\", \"v1.35.4\"");
        pretend.state("kubectl.new", &kubectl);
        pretend.control().sh(DISC).unwrap();
        pretend.state("asked", "");
        let transcript = patient(release).upgrade(&mut pretend, &mut cluster, "v1.35.4");
        let transcript = transcript.unwrap_or_else(|error| panic!("{error}"));
        let network = if release.is_flexible() { " true" } else { "" };
        let all = [
            format!("sudo /opt/bin/kubectl drain {node} --ignore-daemonsets --delete-emptydir-data"),
            "sudo /opt/bin//deploy-provider".to_owned(),
            "scp upgrade-kubernetes.sh#.sh ~/".to_owned(),
            format!("sudo ./upgrade-kubernetes.sh#.sh 1.35.4 true false false{network}"),
            format!("sudo /opt/bin/kubectl uncordon {node}"),
            format!("sudo /opt/bin/kubectl get nodes | awk '{{if ($1 == \"{node}\" && $2 == \"Ready\") print $1}}'"),
            format!("sudo /opt/bin/kubectl get nodes | awk '{{if ($1 == \"{node}\") print $5}}'"),
        ];
        assert_eq!(commands(&transcript), all, "{transcript}");
        let asked = pretend.asked();
        let applied = if release.has_headlamp() { "headlamp" } else { "dashboard" };
        for part in [
            "kubeadm --v=5 upgrade apply 1.35.4 -y\n",
            "kubelet\n",
            "k8sdisk//network.yaml\n",
            &format!("/{applied}.yaml\n"),
        ] {
            assert!(asked.contains(part), "{part}: {asked}\n{transcript}");
        }
        assert_eq!(cluster.version, "1.35.4");
    }
}
