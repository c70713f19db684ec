name            = "cks-ubuntu-22.04"
source          = "https://cloud-images.ubuntu.com/releases/jammy/release/ubuntu-22.04-server-cloudimg-amd64.img"
source_checksum = "file:https://cloud-images.ubuntu.com/releases/jammy/release/SHA256SUMS"
install         = "sudo cp /tmp/cks-agent.package /tmp/cks-agent.deb && sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq /tmp/cks-agent.deb && sudo rm /tmp/cks-agent.deb"
