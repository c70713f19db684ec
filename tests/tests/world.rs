//! The beds that stand for the Internet: a registry, web sites, a wire that breaks, and a user without
//! rights. Real clients try them: skopeo and curl.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;

use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use cks_tests::bare::Bare;
use cks_tests::netns::{ADDRESS, Netns};
use cks_tests::process::{Command, Output};
use cks_tests::published::Layout;
use cks_tests::registry::Registry;
use cks_tests::relay::Relay;
use cks_tests::upstream::{Fault, Upstream};
use cks_tests::web::Break;

const PAUSE: &str = "registry.k8s.io/pause:3.10";
const APPLICATION: &str = "docker.io/example/app:v1";

/// What every namespace has, and nothing can be reached by.
const LOOPBACK_DOWN: &str = "lo               DOWN           00:00:00:00:00:00 <LOOPBACK>";

fn layout(directory: &std::path::Path) -> Layout {
    let mut layout = Layout::new(&directory.join("layout")).unwrap();
    layout.add(PAUSE, 1 << 10).unwrap();
    layout.add(APPLICATION, 256 << 10).unwrap();
    layout
}

fn curl(netns: &Netns, args: &[&str]) -> Output {
    netns.enter(Command::new("curl").args(["-sS", "--max-time", "10"]).args(args)).output().unwrap()
}

#[test]
fn a_guarded_registry_holds_what_was_put_in() {
    let (work, netns) = (cks_tests::scratch("world").unwrap(), Netns::new().unwrap());
    let (layout, registry) = (layout(work.path()), Registry::guarded(&netns).unwrap());
    registry.fill(&layout).unwrap();

    // Indexes, byte by byte, and the blobs of both architectures.
    for image in layout.images().values() {
        let raw = registry.skopeo(&["inspect", "--raw"], "", &[&registry.named(&image.reference)]).ok().unwrap();
        assert_eq!(Digest::of(raw.as_bytes()), image.index);
        for digest in image.blobs.values().flatten() {
            assert_eq!(Digest::of(&fs::read(registry.blob(digest)).unwrap()), *digest);
        }
    }
    let [pause, application] = [PAUSE, APPLICATION].map(|reference| &layout.images()[reference].blobs);
    for arch in [Arch::Amd64, Arch::Arm64] {
        let shared = pause[&arch].iter().filter(|digest| application[&arch].contains(digest)).count();
        assert_eq!(shared, 1, "{arch}");
    }
    let copied = format!("dir:{}", work.path().join("copy").display());
    fs::create_dir(work.path().join("copy")).unwrap();
    Command::new("chown").arg("1000").arg(work.path().join("copy")).ok().unwrap();
    let copy = ["--override-arch", "arm64", &registry.named(APPLICATION), &copied];
    registry.skopeo(&["copy"], "src", &copy).ok().unwrap();
    let manifest = fs::read(work.path().join("copy/manifest.json")).unwrap();
    assert_eq!(Digest::of(&manifest), application[&Arch::Arm64][0]);

    // Nobody gets in without a token, or by a CA that isn't trusted; nobody pushes without the password.
    let url = format!("{}/v2/{}/manifests/3.10", registry.url(), PAUSE.split(':').next().unwrap());
    let ca = registry.authority.as_ref().unwrap().certificate.display().to_string();
    assert!(curl(&netns, &["-k", "-I", &url]).stdout.contains("401"));
    assert!(curl(&netns, &["--cacert", &ca, "-I", &url]).stdout.contains("Bearer realm=\"https://10.1.1.1:5002/token"));
    assert_eq!(curl(&netns, &[&url]).code, 60, "an unknown authority");
    let unasked = format!("oci:{}:{PAUSE}", layout.directory.display());
    let push = Command::new("skopeo").args(["copy", "--insecure-policy", "--dest-tls-verify=false", &unasked]);
    let pushed = netns.enter(push.arg(registry.named("example.org/mine:1"))).output().unwrap();
    assert!(pushed.code != 0, "{pushed:?}");

    // A token that has expired is refused, and the next one is taken.
    let tokens = registry.tokens.as_ref().unwrap();
    tokens.expire(1);
    let token = || {
        let scope = "repository:registry.k8s.io/pause:pull";
        let realm = format!("{}?service=test-registry&scope={scope}", tokens.realm);
        let told = curl(&netns, &["--cacert", &ca, &realm]).stdout;
        told.split('"').nth(3).unwrap().to_owned()
    };
    let status = |token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        let index = "Accept: application/vnd.oci.image.index.v1+json";
        let headers = ["-H", &bearer, "-H", index, "--cacert", &ca];
        curl(&netns, &[&headers[..], &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat()).stdout
    };
    assert_eq!([status(&token()), status(&token())], ["401", "200"]);
    let logged = registry.requests().unwrap();
    let last = logged.last().unwrap();
    assert_eq!((last.method.as_str(), last.status), ("GET", 200), "{logged:?}");
    assert!(last.path.ends_with("/manifests/3.10"));
}

#[test]
fn a_registry_can_go_and_come_back() {
    let (work, netns) = (cks_tests::scratch("world").unwrap(), Netns::new().unwrap());
    let (layout, mut registry) = (layout(work.path()), Registry::plain(&netns).unwrap());
    registry.fill(&layout).unwrap();
    let url = format!("{}/v2/", registry.url());
    registry.stop().unwrap();
    assert_eq!(curl(&netns, &[&url]).code, 7);
    registry.start_again().unwrap();
    assert_eq!(curl(&netns, &["-f", &url]).code, 0);
    registry.skopeo(&["inspect"], "", &[&registry.named(PAUSE)]).ok().unwrap();
}

#[test]
fn a_wire_counts_and_breaks() {
    let netns = Netns::new().unwrap();
    let upstream = Upstream::start(&netns).unwrap();
    upstream.put("example.org/file", vec![7; 1 << 20]);
    let relay = Relay::start(&netns, &format!("{ADDRESS}:8081"), &format!("{ADDRESS}:8080")).unwrap();
    let url = format!("http://{ADDRESS}:8081/example.org/file");
    relay.cut(&[Break::Close(300_000), Break::Reset(500_000)]);
    let codes: Vec<i32> = (0..3).map(|_| curl(&netns, &["-o", "/dev/null", &url]).code).collect();
    assert_eq!(codes, [56, 18, 0], "reset, early end, whole");
    assert_eq!((relay.cuts_left(), relay.connections()), (0, 3));
    let (least, headers) = (800_000 + (1 << 20), 3 * 300);
    assert!((least..least + headers).contains(&relay.brought()), "{}", relay.brought());
}

#[test]
fn web_sites_have_their_faults() {
    let netns = Netns::new().unwrap();
    let upstream = Upstream::start(&netns).unwrap();
    upstream.put_with_sum("example.org/a.tgz", vec![1; 200_000]);
    let url = format!("{}/a.tgz", Upstream::mirror("example.org"));
    let sum = curl(&netns, &[&format!("{url}.sha256")]).stdout;
    assert_eq!(sum, format!("{}  a.tgz\n", Digest::of(&[1; 200_000]).hex()));
    for (fault, code, status, bytes) in [
        (Fault::NotFoundPage, 0, "404", 90),
        (Fault::Page, 0, "200", 90),
        (Fault::Busy, 0, "503", 90),
        (Fault::Truncated, 18, "200", 100_000),
        (Fault::Reset, 56, "200", 100_000),
        (Fault::Changed, 0, "200", 200_000),
    ] {
        upstream.fail("a.tgz", 1, fault);
        let output = curl(&netns, &["-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url]);
        assert_eq!((output.code, output.stdout.as_str()), (code, &*format!("{status} {bytes}")), "{fault:?}");
    }
    let part = curl(&netns, &["-r", "199990-", "-w", " %{http_code}", &url]);
    assert_eq!(part.stdout, format!("{} 206", "\u{1}".repeat(10)));
    assert_eq!(upstream.requests().last().unwrap().range.as_deref(), Some("bytes=199990-"));
}

#[test]
fn a_bare_user_may_nothing_and_sees_little() {
    let netns = Netns::new().unwrap();
    let upstream = Upstream::start(&netns).unwrap();
    upstream.put("example.org/file", "text");
    let user = Bare::new(Some(&netns)).unwrap();
    let sh = |user: &Bare, script: &str| user.run(Command::new("sh").args(["-c", script])).output().unwrap();
    let told = sh(&user, "id -u; id -G; grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status; env | sort");
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines[..2], ["1000", "1000"]);
    assert!(lines[2..7].iter().all(|line| line.ends_with("\t0000000000000000")), "{told:?}");
    let names: Vec<&str> = lines[7..].iter().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["HOME", "PATH", "PWD"]);
    assert!(sh(&user, "mount -t tmpfs none /mnt").code != 0);
    assert_eq!(sh(&user, "ls -A $HOME | wc -l").stdout, "0\n");
    assert_eq!(curl(&netns, &[&format!("{}/file", Upstream::mirror("example.org"))]).stdout, "text");

    let alone = Bare::new(None).unwrap();
    assert_eq!(sh(&alone, "ip -brief link; ip address show up").stdout.trim_end(), LOOPBACK_DOWN);
    let clock = alone.cks_iso_at("2031-05-06 07:08:09", &["--version"]).output().unwrap();
    assert_eq!(clock.code, 0, "{clock:?}");
    let year = alone.run(Command::new("faketime").args(["2031-05-06 07:08:09", "date", "+%Y"])).ok().unwrap();
    assert_eq!(year, "2031\n");
}
