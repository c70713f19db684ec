#!/usr/bin/env python3
"""Make the tree of a stock CKS ISO of realistic size from unpacked distribution packages; see README.md.

usage: mktree.py EXT OUT
EXT/<package>/ holds each package unpacked. OUT/ becomes the tree: docker/*.tar are OCI archives with gzip'd
layers as `ctr image export` writes them, one per image. The same packages give the same bytes.
"""
import sys, os, io, json, hashlib, tarfile, zlib
EXT, OUT = sys.argv[1], sys.argv[2]
MB = 1000 * 1000
EPOCH = 1700000000
for d in ('k8s', 'cni', 'cri-tools', 'etcd', 'docker', 'scripts'):
    os.makedirs(os.path.join(OUT, d))

# ---------------------------------------------------------------- pools
def is_elf(p):
    with open(p, 'rb') as f:
        return f.read(4) == b'\x7fELF'
elfs, RES = [], {'etcd-server', 'etcd-client', 'containernetworking-plugins'}
for root, _, files in os.walk(EXT):
    for f in files:
        p = os.path.join(root, f)
        if os.path.islink(p) or '.so' in f or '/bin' not in p and '/sbin' not in p and '/lib' not in p: continue
        if p[len(EXT):].strip('/').split('/')[0] in RES: continue
        s = os.path.getsize(p)
        if s > 2 * MB and is_elf(p): elfs.append((s, p))
elfs.sort(key=lambda x: (-x[0], x[1]))
seen, pool = set(), []
for s, p in elfs:
    h = hashlib.sha256(open(p, 'rb').read()).digest()
    if h not in seen:
        seen.add(h); pool.append([p, 0, s])
# interleave big and small so that every artefact is a mix of a few whole binaries
pool = [x for pair in zip(pool[:len(pool)//2], pool[:len(pool)//2-1:-1]) for x in pair] + ([pool[len(pool)//2]] if len(pool) % 2 else [])
print('go pool', len(pool), 'files', sum(x[2] for x in pool)/MB, 'MB', file=sys.stderr)
all_programs, left = [list(x) for x in pool], []
def take(n):
    out = bytearray()
    while len(out) < n:
        if not pool and not left:
            # Far behind what a compressor still remembers, so the ratio stays that of programs.
            print('the programs of these packages are used a second time', file=sys.stderr)
            pool.extend(list(x) for x in all_programs)
        src = pool if pool else left
        p, off, s = src.pop(0)
        k = min(n - len(out), s - off)
        with open(p, 'rb') as f:
            f.seek(off); out += f.read(k)
        if off + k < s: left.append([p, off + k, s])
    return bytes(out)
def program(n):
    """As long as told, and an ELF program for whoever looks at its head."""
    head = open(os.path.join(EXT, 'crun/usr/bin/crun'), 'rb').read()
    return head + take(n - len(head))

def pkgfiles(*names):
    """(path in image, data or None for dir, mode, linkname)"""
    r = {}
    for n in names:
        base = os.path.join(EXT, n)
        for root, dirs, files in os.walk(base):
            dirs.sort()
            rel = os.path.relpath(root, base)
            if rel != '.': r.setdefault(rel, ('d', None, 0o755))
            for d in dirs:
                p = os.path.join(root, d)
                if os.path.islink(p): r[os.path.relpath(p, base)] = ('l', os.readlink(p), 0o777)
            for f in sorted(files):
                p = os.path.join(root, f)
                if os.path.islink(p): r[os.path.relpath(p, base)] = ('l', os.readlink(p), 0o777)
                else: r[os.path.relpath(p, base)] = ('f', p, os.stat(p).st_mode & 0o7777)
    return [(k,) + r[k] for k in sorted(r)]

def mklayer(entries):
    b = io.BytesIO()
    t = tarfile.open(fileobj=b, mode='w', format=tarfile.GNU_FORMAT)
    dirs = set()
    def add_dir(d):
        if not d or d in dirs: return
        add_dir(os.path.dirname(d)); dirs.add(d)
        ti = tarfile.TarInfo(d + '/'); ti.type = tarfile.DIRTYPE; ti.mode = 0o755; ti.mtime = EPOCH; t.addfile(ti)
    for path, kind, data, mode in entries:
        if kind == 'd': add_dir(path); continue
        add_dir(os.path.dirname(path))
        ti = tarfile.TarInfo(path); ti.mode = mode; ti.mtime = EPOCH
        if kind == 'l':
            ti.type = tarfile.SYMTYPE; ti.linkname = data; t.addfile(ti)
        else:
            if isinstance(data, str): data = open(data, 'rb').read()
            ti.size = len(data); t.addfile(ti, io.BytesIO(data))
    t.close()
    return b.getvalue()

class Layer:
    def __init__(s, entries):
        s.raw = mklayer(entries)
        s.diffid = hashlib.sha256(s.raw).hexdigest()
        s.gz = None
    def gzip(s):
        if s.gz is None:
            c = zlib.compressobj(6, zlib.DEFLATED, 31)
            s.gz = c.compress(s.raw) + c.flush()
            s.gzd = hashlib.sha256(s.gz).hexdigest()
        return s.gz

# ---------------------------------------------------------------- base layers
def only(entries, *pref):
    return [e for e in entries if any(e[0].startswith(x) for x in pref)]
def without(entries, *pref):
    return [e for e in entries if not any(e[0].startswith(x) for x in pref)]
bf = pkgfiles('base-files'); nb = pkgfiles('netbase'); tz = pkgfiles('tzdata'); ca = pkgfiles('ca-certificates')
F = lambda p, d, m=0o644: (p, 'f', d, m)
bundle = b''.join(open(e[2], 'rb').read() for e in ca if e[1] == 'f' and e[0].endswith('.crt'))
DISTROLESS = [Layer(x) for x in (
    only(bf, 'usr/share', 'etc/debian_version', 'etc/host.conf', 'etc/issue'),
    nb,
    tz,
    [F('etc/mime.types', b'text/plain txt\n' * 3000)],
    [('tmp', 'd', None, 0o1777), ('home', 'd', None, 0o755), ('root', 'd', None, 0o700), ('var/lib', 'd', None, 0o755)],
    [F('etc/passwd', b'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n')],
    [F('etc/group', b'root:x:0:\nnonroot:x:65532:\n')],
    [F('etc/nsswitch.conf', b'hosts: files dns\n')],
    [F('etc/os-release', b'PRETTY_NAME="Distroless"\nID=debian\n')],
    [F('etc/ssl/certs/ca-certificates.crt', bundle)],
    [F('var/lib/dpkg/status.d/base', b'Package: base-files\nVersion: 12\n' * 40)],
)]
GORUNNER = Layer([F('go-runner', take(2 * MB), 0o755)])
slim = without(pkgfiles('libc6', 'bash', 'coreutils', 'iptables', 'iproute2', 'libstdc++6', 'base-files', 'netbase', 'ca-certificates', 'crun'), 'usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/info')
IPTBASE = Layer(slim)
ubi = without(pkgfiles('libc6', 'bash', 'coreutils', 'iptables', 'iproute2', 'libstdc++6', 'base-files', 'netbase', 'ca-certificates', 'perl-modules-5.36', 'libpython3.11-stdlib', 'bird2', 'dpkg', 'libicu72', 'tzdata'), 'usr/share/doc', 'usr/share/info')
UBI = Layer(ubi)
ALPINE = Layer(without(slim, 'usr/lib/x86_64-linux-gnu/gconv'))
go_src = [e for e in pkgfiles('golang-1.19-go') if e[1] == 'f' and e[0].endswith('.a') and os.path.getsize(e[2]) < 3 * MB]
front = pkgfiles('node-typescript')

def b(path, mb): return Layer([F(path, take(int(mb * MB)), 0o755)])
IMAGES = [  # (file, ref, layers)
 ('kube-apiserver:v1.33.1', 'registry.k8s.io/kube-apiserver:v1.33.1', DISTROLESS + [GORUNNER, b('usr/local/bin/kube-apiserver', 91)]),
 ('kube-controller-manager:v1.33.1', 'registry.k8s.io/kube-controller-manager:v1.33.1', DISTROLESS + [GORUNNER, b('usr/local/bin/kube-controller-manager', 86)]),
 ('kube-scheduler:v1.33.1', 'registry.k8s.io/kube-scheduler:v1.33.1', DISTROLESS + [GORUNNER, b('usr/local/bin/kube-scheduler', 64)]),
 ('kube-proxy:v1.33.1', 'registry.k8s.io/kube-proxy:v1.33.1', [IPTBASE, GORUNNER, b('usr/local/bin/kube-proxy', 67)]),
 ('etcd:3.5.21-0', 'registry.k8s.io/etcd:3.5.21-0', DISTROLESS + [b('usr/local/bin/etcd-3.4', 46), b('usr/local/bin/etcd', 60), b('usr/local/bin/etcdctl', 36), b('usr/local/bin/migrate', 4)]),
 ('coredns:v1.12.0', 'registry.k8s.io/coredns/coredns:v1.12.0', DISTROLESS + [b('coredns', 66)]),
 ('pause:3.10', 'registry.k8s.io/pause:3.10', [b('pause', 0.7)]),
 ('node:v3.28.0', 'docker.io/calico/node:v3.28.0', [UBI, Layer([F('usr/bin/calico-node', take(75*MB), 0o755), F('usr/bin/mountns', take(3*MB), 0o755)] + [F('usr/lib/calico/bpf/obj%03d.o' % i, take(200000)) for i in range(250)]), b('usr/bin/felix', 90)]),
 ('cni:v3.28.0', 'docker.io/calico/cni:v3.28.0', [Layer(slim[:200]), Layer([F('opt/cni/bin/calico', take(70*MB), 0o755), F('opt/cni/bin/install', take(70*MB), 0o755)]), b('opt/cni/bin/portmap', 45)]),
 ('kube-controllers:v3.28.0', 'docker.io/calico/kube-controllers:v3.28.0', [Layer(slim[200:300]), b('usr/bin/kube-controllers', 78)]),
 ('headlamp:v0.30.0', 'ghcr.io/headlamp-k8s/headlamp:v0.30.0', [ALPINE, Layer(front), Layer(go_src), b('headlamp/headlamp-server', 45)]),
 ('cloudstack-kubernetes-provider:v1.1.0', 'docker.io/apache/cloudstack-kubernetes-provider:v1.1.0', DISTROLESS + [b('app/cloudstack-ccm', 50)]),
 ('cloudstack-csi-driver:0.6.0', 'docker.io/apache/cloudstack-csi-driver:0.6.0', [ALPINE, Layer(pkgfiles('dpkg')), b('cloudstack-csi-driver', 40)]),
] + [(n + ':' + v, 'registry.k8s.io/sig-storage/%s:%s' % (n, v), DISTROLESS + [b(n, mb)]) for n, v, mb in (
 ('csi-provisioner', 'v5.2.0', 58), ('csi-attacher', 'v4.8.0', 56), ('csi-resizer', 'v1.13.1', 57), ('csi-node-driver-registrar', 'v2.13.0', 27), ('livenessprobe', 'v2.15.0', 28))]

def config(layers, cmd):
    return json.dumps({'architecture': 'amd64', 'os': 'linux', 'created': '2023-11-14T22:13:20Z',
        'config': {'Env': ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], 'Entrypoint': [cmd], 'WorkingDir': '/'},
        'history': [{'created': '2023-11-14T22:13:20Z', 'created_by': 'layer %d' % i} for i in range(len(layers))],
        'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + l.diffid for l in layers]}}, separators=(',', ':')).encode()

def addb(t, name, data, mode=0o644):
    ti = tarfile.TarInfo(name); ti.size = len(data); ti.mode = mode; ti.mtime = EPOCH; t.addfile(ti, io.BytesIO(data))
def addd(t, name):
    ti = tarfile.TarInfo(name + '/'); ti.type = tarfile.DIRTYPE; ti.mode = 0o755; ti.mtime = EPOCH; t.addfile(ti)

for fn, ref, layers in IMAGES:
    cfg = config(layers, '/' + fn.split(':')[0]); cd = hashlib.sha256(cfg).hexdigest()
    # ctr image export
    blobs = {cd: cfg}
    for l in layers: l.gzip(); blobs[l.gzd] = l.gz
    MT = 'application/vnd.docker.distribution.manifest.v2+json'
    man = json.dumps({'schemaVersion': 2, 'mediaType': MT, 'config': {'mediaType': 'application/vnd.docker.container.image.v1+json', 'size': len(cfg), 'digest': 'sha256:' + cd},
        'layers': [{'mediaType': 'application/vnd.docker.image.rootfs.diff.tar.gzip', 'size': len(l.gz), 'digest': 'sha256:' + l.gzd} for l in layers]}, indent=3).encode()
    md = hashlib.sha256(man).hexdigest(); blobs[md] = man
    with tarfile.open(os.path.join(OUT, 'docker', fn + '.tar'), 'w', format=tarfile.GNU_FORMAT) as t:
        addd(t, 'blobs'); addd(t, 'blobs/sha256')
        for d in sorted(blobs): addb(t, 'blobs/sha256/' + d, blobs[d], 0o444)
        addb(t, 'index.json', json.dumps({'schemaVersion': 2, 'manifests': [{'mediaType': MT, 'digest': 'sha256:' + md, 'size': len(man), 'annotations': {'io.containerd.image.name': ref, 'org.opencontainers.image.ref.name': ref.rsplit(':', 1)[1]}}]}).encode())
        addb(t, 'manifest.json', json.dumps([{'Config': 'blobs/sha256/' + cd, 'RepoTags': [ref], 'Layers': ['blobs/sha256/' + l.gzd for l in layers]}]).encode())
        addb(t, 'oci-layout', b'{"imageLayoutVersion":"1.0.0"}')
    for l in layers:
        if not any(l is x for x in DISTROLESS + [GORUNNER, ALPINE]): l.raw = l.gz = b''
    print(fn, len(layers), 'layers', round(os.path.getsize(os.path.join(OUT, 'docker', fn + '.tar'))/MB, 1), 'MB', file=sys.stderr)

# ---------------------------------------------------------------- binaries and tarballs
def put(rel, data, mode=0o644):
    p = os.path.join(OUT, rel); open(p, 'wb').write(data); os.chmod(p, mode); os.utime(p, (EPOCH, EPOCH))
# x/net/trace's HTML templates, which upstream's programs had up to 1.33, make `wget -r` fetch a program ten
# times over: neutralised here, for the stock way's sake.
for n, mb in (('kubeadm', 70), ('kubelet', 77), ('kubectl', 56)):
    d = program(mb * MB)
    put('k8s/' + n, d.replace(b'href="?fam', b'hxef="?fam').replace(b'href="goroutine', b'hxef="goroutine'), 0o755)
def targz(rel, entries):
    raw = mklayer(entries); c = zlib.compressobj(9, zlib.DEFLATED, 31); put(rel, c.compress(raw) + c.flush())
    print(rel, round(len(raw)/MB, 1), '->', round(os.path.getsize(os.path.join(OUT, rel))/MB, 1), file=sys.stderr)
cni = [('./' + os.path.basename(e[0]), 'f', e[2], 0o755) for e in pkgfiles('containernetworking-plugins') if e[1] == 'f' and 'lib/cni' in e[0]]
cni += [F('./extra%02d' % i, program(4 * MB), 0o755) for i in range(17)]
targz('cni/cni-plugins-linux-amd64.tgz', cni)
targz('cri-tools/crictl-linux-amd64.tar.gz', [F('crictl', program(58 * MB), 0o755)])
E = 'etcd-v3.5.21-linux-amd64/'
et = [F(E + 'README.md', b'etcd\n' * 2000), F(E + 'etcd', open(EXT + '/etcd-server/usr/bin/etcd', 'rb').read(), 0o755),
      F(E + 'etcdctl', open(EXT + '/etcd-client/usr/bin/etcdctl', 'rb').read(), 0o755), F(E + 'etcdutl', program(16 * MB), 0o755)]
et += [F(E + 'Documentation/d%02d.md' % i, b'doc line\n' * 3000) for i in range(12)]
targz('etcd/etcd-linux-amd64.tar.gz', et)
put('kubelet.service', b'[Unit]\nDescription=kubelet\n[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\n[Install]\nWantedBy=multi-user.target\n')
put('10-kubeadm.conf', b'[Service]\nExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS\n')
for n, k in (('network.yaml', 320), ('headlamp.yaml', 4), ('autoscaler.yaml', 6), ('provider.yaml', 6), ('manifest.yaml', 20)):
    document = b'---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n'
    put(n, document * (k * 1000 // len(document)))
for n in ('autoscale-kube-cluster', 'deploy-cloudstack-secret', 'deploy-kube-system', 'deploy-provider', 'mount-cks-iso', 'setup-containerd-registry', 'setup-kube-system', 'upgrade-kubernetes', 'deploy-csi-driver', 'delete-pv-reclaimpolicy-delete'):
    put('scripts/' + n, b'#!/bin/bash -e\n# placeholder\n' * 100, 0o755)
for root, _, files in os.walk(OUT):
    for f in files: os.utime(os.path.join(root, f), (EPOCH, EPOCH))
