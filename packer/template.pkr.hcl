# A template for CloudStack Kubernetes Service, made of a distribution's cloud image: booted once, prepared, checked, sealed.
# `packer/build` makes the key and the seed, and calls this; what differs between distributions is in NAME.pkrvars.hcl.

variable "name" {
  type        = string
  description = "What the template is called: cks-debian-12."
}

variable "source" {
  type        = string
  description = "The cloud image: a path or a URL, qcow2 or raw."
}

variable "source_checksum" {
  type        = string
  description = "sha256:…, or file:URL of the distribution's list, or none."
}

variable "package" {
  type        = string
  description = "The package of cks-agent for this distribution: a .deb or an .rpm."
}

variable "install" {
  type        = string
  description = "How the distribution installs a package that lies at /tmp/cks-agent.package."
}

variable "seed" {
  type        = string
  description = "A directory with meta-data and user-data, which the image's cloud-init reads over HTTP while it is built."
}

variable "key" {
  type        = string
  description = "The private key for the login `packer`, which user-data of the seed lets in."
}

variable "authorized_keys" {
  type        = string
  default     = ""
  description = "The management server's public key, for machines that are added to a cluster later."
}

variable "output" {
  type        = string
  description = "The directory for the image. It must not be there yet."
}

variable "accelerator" {
  type        = string
  default     = "kvm"
  description = "kvm, or tcg where there is none: ten times slower."
}

variable "disk_size" {
  type        = string
  default     = "10G"
  description = "What the docs of CloudStack ask for is 8 GB at least."
}

variable "qemuargs" {
  type        = list(list(string))
  default     = []
  description = "More for QEMU, as [option, value]: a kernel for an image without a boot loader."
}

source "qemu" "template" {
  accelerator      = var.accelerator
  disk_image       = true
  iso_url          = var.source
  iso_checksum     = var.source_checksum
  disk_size        = var.disk_size
  disk_compression = true
  format           = "qcow2"
  headless         = true
  memory           = 2048
  net_device       = "virtio-net"
  disk_interface   = "virtio"
  http_directory   = var.seed
  output_directory = var.output
  vm_name          = "${var.name}.qcow2"
  # cloud-init finds its seed by the firmware's serial number.
  qemuargs = concat(
    [["-smbios", "type=1,serial=ds=nocloud-net;s=http://10.0.2.2:{{ .HTTPPort }}/"]],
    var.qemuargs,
  )
  ssh_username         = "packer"
  ssh_private_key_file = var.key
  ssh_timeout          = "20m"
  # The login goes with the seal: nothing of the build may let anybody into an instance.
  shutdown_command = "sudo sh -c 'cks-agent seal && rm -f /etc/sudoers.d/90-cloud-init-users && userdel -f -r packer; systemctl --no-block poweroff'"
  shutdown_timeout = "10m"
}

build {
  sources = ["source.qemu.template"]

  provisioner "file" {
    source      = var.package
    destination = "/tmp/cks-agent.package"
  }

  provisioner "shell" {
    inline = [
      "cloud-init status --wait >/dev/null || true",
      "${var.install}",
      "printf '%s' '${var.authorized_keys}' >/tmp/authorized_keys",
      "sudo cks-agent prepare $(test -s /tmp/authorized_keys && echo --authorized-keys /tmp/authorized_keys)",
      "rm -f /tmp/authorized_keys /tmp/cks-agent.package",
      "sudo cks-agent check",
    ]
  }
}
