# A control plane of three etcd members, all on this machine: c0 is the node's own, on etcd's usual ports.
etcd=$1 members=$2
mkdir -p /etc/kubernetes/pki/etcd /etc/kubernetes/manifests && cd /etc/kubernetes/pki/etcd
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 1 -subj /CN=etcd-ca 2>/dev/null
for name in server peer healthcheck-client; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.csr -subj /CN=$name 2>/dev/null
    echo subjectAltName=IP:127.0.0.1 | openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -out $name.crt -extfile /dev/stdin 2>/dev/null
done
# The servers' own, whatever a leave does to the node's.
mkdir -p /srv/etcd && cp ./* /srv/etcd/
printf 'spec:\n  containers:\n  - command:\n    - etcd\n    - --name=c0\n    - --data-dir=/var/lib/etcd\n' >/etc/kubernetes/manifests/etcd.yaml
all=
for member in $members; do
    all="$all${all:+,}c$member=https://127.0.0.1:${member}2380"
done
for member in $members; do
    client=$([ "$member" = 0 ] && echo 2379 || echo "${member}2379")
    data=$([ "$member" = 0 ] && echo /var/lib/etcd || echo "/srv/c$member")
    "$etcd/etcd" --name "c$member" --data-dir "$data" --initial-cluster "$all" --initial-cluster-state new \
        --listen-client-urls "https://127.0.0.1:$client" --advertise-client-urls "https://127.0.0.1:$client" \
        --listen-peer-urls "https://127.0.0.1:${member}2380" --initial-advertise-peer-urls "https://127.0.0.1:${member}2380" \
        --cert-file /srv/etcd/server.crt --key-file /srv/etcd/server.key --client-cert-auth --trusted-ca-file /srv/etcd/ca.crt \
        --peer-cert-file /srv/etcd/server.crt --peer-key-file /srv/etcd/server.key --peer-trusted-ca-file /srv/etcd/ca.crt \
        --log-level error >"/srv/c$member.log" 2>&1 &
    echo $! >"/srv/c$member.pid"
done
ln -sf "$etcd/etcdctl" /opt/bin/etcdctl
wait
