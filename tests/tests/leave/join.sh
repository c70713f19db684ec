# What kubeadm, kubelet, kube-proxy, flannel, portmap, and a CSI driver leave on a worker.
umask 022
mkdir -p /etc/kubernetes/manifests /etc/kubernetes/pki /var/lib/kubelet/pki /var/lib/kubelet/pods /home/cloud/.kube /root/.kube
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /etc/kubernetes/pki/ca.key -out /etc/kubernetes/pki/ca.crt -days 1 \
    -subj /CN=kubernetes 2>/dev/null
kubeconfig() {
    printf 'apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: https://10.1.1.5:6443\n' "$1"
    printf '  name: c\ncontexts:\n- context: {cluster: c, user: u}\n  name: x\ncurrent-context: x\nusers:\n- name: u\n  user: {}\n'
}
kubeconfig "$(base64 -w0 /etc/kubernetes/pki/ca.crt)" >/etc/kubernetes/kubelet.conf
cp /etc/kubernetes/kubelet.conf /home/cloud/.kube/config
kubeconfig "$(printf other | base64 -w0)" >/root/.kube/config
echo 'kind: KubeletConfiguration' >/var/lib/kubelet/config.yaml
echo 'KUBELET_KUBEADM_ARGS="--hostname-override=w1"' >/var/lib/kubelet/kubeadm-flags.env
echo true >/home/cloud/success
mkdir -p /var/lib/cks-agent
printf '{"schema":1,"instance_id":null,"user_data":"sha256:%064d","source":"x","ended":true,"at":"2026-01-01T00:00:00Z"}' 0 >/var/lib/cks-agent/user-data.json
echo '{"membership":"a worker","stage":"ready"}' >/var/lib/cks-agent/cluster.json
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf ../kubelet.service /etc/systemd/system/multi-user.target.wants/kubelet.service
# Volumes: a projected one, a CSI one that is staged, published, and used by a subpath; a socket; deep files.
pod=/var/lib/kubelet/pods/0f6e6c3e-1111-2222-3333-444455556666
csi=/var/lib/kubelet/plugins/kubernetes.io/csi/csi.cloudstack.apache.org/abc/globalmount
mkdir -p "$pod/volumes/kubernetes.io~projected/token" "$pod/volumes/kubernetes.io~csi/pvc-1/mount" "$pod/volume-subpaths/pvc 1/c/0" "$csi"
mkdir -p "$pod/volumes/kubernetes.io~empty-dir/cache/a/b/c/d" && echo x >"$pod/volumes/kubernetes.io~empty-dir/cache/a/b/c/d/x"
mkdir -p /srv/data/deep/er && echo precious >/srv/data/precious && echo too >/srv/data/deep/er/too
mount -t tmpfs tmpfs "$pod/volumes/kubernetes.io~projected/token"
mount --bind /srv/data "$csi"
mount --bind "$csi" "$pod/volumes/kubernetes.io~csi/pvc-1/mount"
mount --bind "$csi/deep" "$pod/volume-subpaths/pvc 1/c/0"
mkdir -p /var/lib/kubelet/device-plugins && : >/var/lib/kubelet/device-plugins/kubelet.sock
# The network: flannel's.
echo '{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel","delegate":{"isDefaultGateway":true}},{"type":"portmap"}]}' >/etc/cni/net.d/10-flannel.conflist
mkdir -p /var/lib/cni/networks/cbr0 /var/lib/cni/results /var/lib/cni/flannel /run/flannel
echo 0123 >/var/lib/cni/networks/cbr0/10.244.1.7 && : >/var/lib/cni/results/cbr0-0123-eth0 && : >/var/lib/cni/flannel/0123
mkdir -p /var/lib/cni/networks/podman && echo mine >/var/lib/cni/networks/podman/10.88.0.2 && : >/var/lib/cni/results/podman-7-eth0
echo FLANNEL_NETWORK=10.244.0.0/16 >/run/flannel/subnet.env
namespace=cni-7a1e2f03-1111-2222-3333-444455556666
ip netns add $namespace && ip netns add blue
ip link add cni0 type bridge && ip address add 10.244.1.1/24 dev cni0 && ip link set cni0 up
ip link add veth1a2b3c4d type veth peer name eth0 netns $namespace && ip link set veth1a2b3c4d master cni0 up
ip link add flannel.1 type vxlan id 1 dstport 8472 local 10.1.1.20 dev eth0 nolearning && ip link set flannel.1 up
ip route add blackhole 10.244.9.0/26 proto 80
ipset create KUBE-CLUSTER-IP hash:ip,port
for save in nft legacy; do
    iptables-$save-restore --noflush <<'R'
*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-POSTROUTING - [0:0]
:FLANNEL-POSTRTG - [0:0]
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "kube-system/kube-dns:dns -> 10.244.0.2:53" -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p udp -m udp -j DNAT --to-destination 10.244.0.2:53
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
R
done
ip6tables-nft -t mangle -N KUBE-KUBELET-CANARY
iptables-nft -A KUBE-FORWARD -m set --match-set KUBE-CLUSTER-IP src,dst -j ACCEPT
nft add table ip kube-proxy && nft add chain ip kube-proxy services && nft add table ip6 kube-proxy
