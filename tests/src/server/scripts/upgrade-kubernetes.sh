#!/bin/bash -e
# Brings one node to another release of Kubernetes, from the disc.

@-4.20|if [ $# -lt 4 ]; then
@-4.20|  echo "Usage: $0 VERSION IS_FIRST_CONTROL IS_OLD EJECT"
@4.21-|if [ $# -lt 5 ]; then
@4.21-|  echo "Usage: $0 VERSION IS_FIRST_CONTROL IS_OLD EJECT NETWORK"
  exit 1
fi
version=$1 first=$2 old=$3 eject=$4
@4.21-|network=$5
@-4.20|network=true

export PATH=$PATH:/opt/bin
ISO_MOUNT_DIR=/mnt/k8sdisk
BINARIES_DIR=${ISO_MOUNT_DIR}/

iso_drive_path=""
attempt=1
while true; do
  if (( attempt > 10 )); then
    echo "Warning: no binaries after 10 attempts"
    break
  fi
@-4.19|  devices=$(blkid -o device -t TYPE=iso9660 || true)
@4.20-|  devices=$(blkid -o device -t LABEL=CDROM || true)
  for device in $devices; do
    [ -d "$ISO_MOUNT_DIR" ] || mkdir "$ISO_MOUNT_DIR"
    if mount -o ro "$device" "$ISO_MOUNT_DIR"; then
      iso_drive_path=$device
      break
    fi
  done
  [ ! -d "$BINARIES_DIR" ] || break
  echo "No $BINARIES_DIR yet, attempt $attempt"
  sleep 5
  attempt=$((attempt + 1))
done
[ -d "$BINARIES_DIR" ] || exit 1

echo "Upgrading from $BINARIES_DIR"
cd /opt/bin
cp ${BINARIES_DIR}/k8s/kubeadm /opt/bin
chmod +x kubeadm

for image in $(ls ${BINARIES_DIR}/docker/); do
  ctr -n k8s.io image import "${BINARIES_DIR}/docker/$image"
done
if [ -e "${BINARIES_DIR}/provider.yaml" ]; then
  mkdir -p /opt/provider
  cp "${BINARIES_DIR}/provider.yaml" /opt/provider/provider.yaml
fi
if [ -e "${BINARIES_DIR}/autoscaler.yaml" ]; then
  mkdir -p /opt/autoscaler
  cp "${BINARIES_DIR}/autoscaler.yaml" /opt/autoscaler/autoscaler_tmpl.yaml
fi
pause=$(ctr -n k8s.io images ls -q | grep pause | sort | tail -n 1)
if [ -n "$pause" ]; then
  sed -i "s|sandbox_image = .*|sandbox_image = \"$pause\"|g" /etc/containerd/config.toml
fi

tar -f "${BINARIES_DIR}/cni/cni-plugins-"*64.tgz -C /opt/cni/bin -xz
tar -f "${BINARIES_DIR}/cri-tools/crictl-linux-"*64.tar.gz -C /opt/bin -xz

if [ "$first" = true ]; then
  kubeadm --v=5 upgrade apply $version -y \
    || kubeadm --v=5 upgrade apply $version --ignore-preflight-errors=CoreDNSUnsupportedPlugins -y
elif [ "$old" = true ]; then
  kubeadm --v=5 upgrade node config --kubelet-version $version
else
  kubeadm --v=5 upgrade node
fi

systemctl stop kubelet
cp -a ${BINARIES_DIR}/k8s/{kubelet,kubectl} /opt/bin
chmod +x {kubelet,kubectl}
systemctl daemon-reload
systemctl restart containerd
systemctl restart kubelet

if [ "$first" = true ]; then
  if [ "$network" = true ]; then
    /opt/bin/kubectl apply -f ${BINARIES_DIR}/network.yaml
  fi
@-4.22|  /opt/bin/kubectl apply -f ${BINARIES_DIR}/dashboard.yaml
@4.23-|  if [ -f "${BINARIES_DIR}/headlamp.yaml" ]; then
@4.23-|    /opt/bin/kubectl apply -f ${BINARIES_DIR}/headlamp.yaml
@4.23-|  else
@4.23-|    /opt/bin/kubectl apply -f ${BINARIES_DIR}/dashboard.yaml
@4.23-|  fi
fi

umount "$ISO_MOUNT_DIR" && rmdir "$ISO_MOUNT_DIR"
if [ "$eject" = true ] && [ "$iso_drive_path" != "" ]; then
  eject "$iso_drive_path"
fi
