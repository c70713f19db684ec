name            = "cks-debian-12"
source          = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
source_checksum = "file:https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS"
install         = "sudo cp /tmp/cks-agent.package /tmp/cks-agent.deb && sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq /tmp/cks-agent.deb && sudo rm /tmp/cks-agent.deb"
