//! What only a machine that runs tells.

use super::{Facts, Item, Live};

/// A disk of 8 GB, less its partitions.
const DISK: u64 = 7_500_000_000;
/// Less is not enough for the images of one release.
const FREE: u64 = 3 << 30;

type Look = fn(&str, &Live) -> Item;

/// Why an item says nothing.
pub(super) const NOT_LIVE: &str = "no systemd runs here: an image's tree, or a container";

const LOOKS: [(&str, Look); 6] = [
    ("live-disk", disk),
    ("live-swap", swap),
    ("live-modules", modules),
    ("live-forwarding", forwarding),
    ("live-containerd", containerd),
    ("live-sudo", sudo),
];

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    let one = |(name, look): (&str, Look)| match &facts.live {
        Some(live) => look(name, live),
        None => Item::not_applicable(name, NOT_LIVE),
    };
    LOOKS.into_iter().map(one).collect()
}

fn unknown(name: &str) -> Item {
    Item::not_applicable(name, "the kernel does not tell")
}

fn disk(name: &str, live: &Live) -> Item {
    let Some((total, free)) = live.disk else { return unknown(name) };
    let shown = format!("{} MiB, {} MiB free", total >> 20, free >> 20);
    if total < DISK || free < FREE {
        let remedy = "a root disk of 8 GB or more, of which images need 3 GiB; an image may grow at its first boot";
        return Item::failed(name, shown, remedy).warning();
    }
    Item::ok(name, shown)
}

fn swap(name: &str, live: &Live) -> Item {
    match live.swaps.is_empty() {
        true => Item::ok(name, "swap is off"),
        false => {
            let what = format!(
                "swap is on ({}), and the kubelet refuses to start with it",
                crate::text::plain(&live.swaps.join(", "))
            );
            Item::failed(name, what, "swapoff -a; zram-generator and units of type swap bring it back at the next boot")
        }
    }
}

fn modules(name: &str, live: &Live) -> Item {
    match &live.missing_modules[..] {
        [] => Item::ok(name, "all modules are loaded, or can be"),
        missing => Item::failed(
            name,
            format!("this kernel can't load {}", missing.join(", ")),
            "install the distribution's whole kernel and boot it",
        ),
    }
}

fn forwarding(name: &str, live: &Live) -> Item {
    match live.forwards.as_deref() {
        None => unknown(name),
        Some("1") => Item::ok(name, "net.ipv4.ip_forward is 1"),
        Some(value) => {
            let what = format!("net.ipv4.ip_forward is {}", crate::text::plain(value));
            Item::failed(name, what, "systemctl restart systemd-sysctl, or reboot").warning()
        }
    }
}

fn containerd(name: &str, live: &Live) -> Item {
    match &live.containerd {
        None => Item::ok(name, "ctr is answered"),
        Some(why) => {
            let what = format!("containerd does not answer: {}", crate::text::plain(why));
            Item::failed(name, what, "systemctl status containerd; journalctl -u containerd")
        }
    }
}

fn sudo(name: &str, live: &Live) -> Item {
    match &live.sudo {
        None => Item::ok(name, "cloud's sudo is silent"),
        Some(said) => {
            let what = format!("cloud's sudo -n true says: {}", crate::text::plain(said));
            let remedy = "the management server takes that for part of an answer; a name that can't be looked up goes into /etc/hosts";
            Item::failed(name, what, remedy)
        }
    }
}
