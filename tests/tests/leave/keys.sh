# Keys of the cluster whose authority join.sh made: of its API server, an administrator, and the node w1.
cd /etc/kubernetes/pki
make() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    echo subjectAltName=IP:127.0.0.1,IP:10.1.1.20 |
        openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -out "$1.crt" -extfile /dev/stdin 2>/dev/null
}
make apiserver /CN=kube-apiserver
make admin /O=system:masters/CN=admin
make w1 /O=system:nodes/CN=system:node:w1
openssl genrsa -out sa.key 2048 2>/dev/null
kubeconfig() {
    printf 'apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: %s}}]\n' "$(base64 -w0 ca.crt)"
    printf 'users: [{name: u, user: {client-certificate-data: %s, client-key-data: %s}}]\n' "$(base64 -w0 "$1.crt")" "$(base64 -w0 "$1.key")"
    printf 'contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n'
}
# The server reads its keys here, whatever a leave does to the node's own.
mkdir -p /srv/pki && cp ./* /srv/pki/
kubeconfig admin >/srv/admin.conf
kubeconfig w1 >/etc/kubernetes/kubelet.conf
cat w1.crt w1.key >/var/lib/kubelet/pki/kubelet-client-current.pem
