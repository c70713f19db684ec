name            = "cks-rocky-9"
source          = "https://download.rockylinux.org/pub/rocky/9/images/x86_64/Rocky-9-GenericCloud-Base.latest.x86_64.qcow2"
source_checksum = "file:https://download.rockylinux.org/pub/rocky/9/images/x86_64/CHECKSUM"
install         = "sudo cp /tmp/cks-agent.package /tmp/cks-agent.rpm && sudo dnf install -y -q /tmp/cks-agent.rpm && sudo rm /tmp/cks-agent.rpm"
