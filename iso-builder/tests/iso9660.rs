//! The trial of the ISO 9660 library (docs/decisions/0001-iso9660.md): what it writes is read by
//! xorriso, isoinfo and 7z, what they write is read by it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use bootstrap::digest::Digest;
use iso_builder::bundle;
use iso_builder::content::{Content, Source};
use iso_builder::iso::{Digests, Image, Labels};
use iso_builder::opened::Opened;
use iso_builder::progress::Bar;

use crate::fixture::{Files, by_7z, by_isoinfo, by_us, by_xorriso, run, text, write_below};

/// 2 000 small files in 40 directories, and the names and modes that matter.
fn tree() -> Files {
    let mut files = Files::new();
    let sixty_four = format!("{}.tar", "n".repeat(60));
    assert_eq!(sixty_four.len(), 64);
    for (path, mode, size) in [
        ("cks-bundle.json", 0o644, 900),
        ("10-kubeadm.conf", 0o600, 2047),
        ("docker/pause:3.10.tar", 0o644, 2048),
        ("docker/a:b:c", 0o640, 2049),
        (&format!("docker/{sixty_four}"), 0o644, 1),
        ("docker/UPPER and lower.Tar", 0o644, 17),
        ("docker/ümläut.tar", 0o644, 17),
        ("docker/.hidden", 0o644, 17),
        ("docker/no-extension", 0o644, 0),
        ("k8s/kubelet", 0o755, 1_000_003),
        ("k8s/setuid", 0o4755, 3),
        ("one/two/three/four/five/six/deep", 0o444, 5),
    ] {
        files.insert(path.to_owned(), (mode, filled(path, size)));
    }
    for number in 0..2000 {
        let path = format!("many/{:02}/file-number-{number:04}.yaml", number % 40);
        files.insert(path.clone(), (if number % 3 == 0 { 0o755 } else { 0o644 }, filled(&path, number % 7)));
    }
    files
}

fn filled(path: &str, size: usize) -> Vec<u8> {
    path.bytes().cycle().take(size).collect()
}

fn write_iso(path: &Path, files: Vec<bundle::File>) {
    let image = Image::plan(&files, Labels { epoch: 1_700_000_000, manifest: Digest::of(b""), digests: Digests::Told })
        .unwrap();
    let out = File::create_new(path).unwrap();
    let written = image.write(Sparse(&out), &Bar::none()).unwrap();
    out.set_len(image.size()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), written.size);
}

/// Leaves holes where zeros are written: the large image costs the test no disk.
struct Sparse<'a>(&'a File);

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // One comparison of slices: without optimisation a loop over 4 GiB takes half a minute.
        let bytes = &bytes[..bytes.len().min(ZEROS.len())];
        match bytes == &ZEROS[..bytes.len()] {
            true => self.0.seek(SeekFrom::Current(bytes.len() as i64)).map(|_| bytes.len()),
            false => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn packed(files: &Files) -> Vec<bundle::File> {
    let file = |(path, (mode, bytes)): (&String, &(u32, Vec<u8>))| bundle::File {
        path: path.clone(),
        mode: *mode,
        content: Content::bytes(bytes.clone()),
        digest: Digest::of(bytes),
    };
    files.iter().map(file).collect()
}

/// Names as Joliet keeps them: `* / : ; ? \` become `_` (Joliet specification, "Allowed Character Set").
fn joliet(path: &str) -> String {
    path.replace(['*', ':', ';', '?', '\\'], "_")
}

fn assert_same(found: &Files, want: &Files, reader: &str) {
    let (names, wanted): (Vec<_>, Vec<_>) = (found.keys().collect(), want.keys().collect());
    assert_eq!(names, wanted, "the paths that {reader} reads");
    for (path, (mode, bytes)) in want {
        assert_eq!(found[path].0, *mode, "the mode of {path} by {reader}");
        assert!(found[path].1 == *bytes, "{reader} reads other bytes in {path}");
    }
}

#[test]
fn what_we_write_is_read_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let files = tree();
    write_iso(&dir.path().join("a.iso"), packed(&files));

    assert_same(&by_us(&dir.path().join("a.iso")), &files, "our reader");
    assert_same(&by_xorriso(dir.path(), "a.iso"), &files, "xorriso");

    let listed: BTreeMap<_, _> =
        files.iter().map(|(path, (mode, bytes))| (path.clone(), (mode & 0o777, bytes.len() as u64))).collect();
    assert_eq!(by_isoinfo(dir.path(), "a.iso", "-R"), listed, "isoinfo -R");
    for path in files.keys().filter(|path| !path.starts_with("many/")) {
        let bytes = run(dir.path(), "isoinfo", &["-i", "a.iso", "-R", "-x", &format!("/{path}")]);
        assert!(bytes == files[path].1, "isoinfo -R -x /{path} gives {} bytes", bytes.len());
    }

    let sizes = |found: &BTreeMap<String, (u32, u64)>| -> BTreeMap<String, u64> {
        found.iter().map(|(path, (_, size))| (joliet(path), *size)).collect()
    };
    assert_eq!(sizes(&by_isoinfo(dir.path(), "a.iso", "-J")), sizes(&listed), "isoinfo -J");

    let by_7z: BTreeMap<_, _> =
        by_7z(dir.path(), "a.iso").into_iter().map(|(path, (_, b))| (joliet(&path), b)).collect();
    let want: BTreeMap<_, _> = files.iter().map(|(path, (_, bytes))| (joliet(path), bytes.clone())).collect();
    assert!(by_7z == want, "7z reads other names or bytes: {:?}", by_7z.keys().collect::<Vec<_>>());

    let label = text(dir.path(), "blkid", &["-p", "-o", "value", "-s", "LABEL", "a.iso"]);
    assert_eq!(label.trim(), "CDROM");
    let check = crate::fixture::try_run(dir.path(), "xorriso", &["-indev", "a.iso", "-toc"]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(!said.contains("WARNING") && !said.contains("FAILURE") && !said.contains("SORRY"), "{said}");
}

#[test]
fn what_others_write_is_read_by_us() {
    let files = tree();
    for (program, args) in [
        ("genisoimage", &["-quiet", "-J", "-R", "-l", "-o", "a.iso", "tree"][..]),
        ("xorriso", &["-as", "mkisofs", "-quiet", "-J", "-R", "-l", "-o", "a.iso", "tree"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_below(&dir.path().join("tree"), &files);
        run(dir.path(), program, args);
        // -R keeps the modes; genisoimage's rationalised -r is not what CloudStack's script calls.
        assert_same(&by_us(&dir.path().join("a.iso")), &files, program);
    }
}

/// Without Rock Ridge names come from Joliet, without Joliet from the plain tree.
#[test]
fn poorer_discs_are_read_by_us() {
    let files = tree();
    let dir = tempfile::tempdir().unwrap();
    write_below(&dir.path().join("tree"), &files);
    run(dir.path(), "genisoimage", &["-quiet", "-J", "-l", "-o", "joliet.iso", "tree"]);
    let found = by_us(&dir.path().join("joliet.iso"));
    let want: Vec<_> = files.keys().map(|path| joliet(path)).collect();
    assert_eq!(found.keys().cloned().collect::<std::collections::BTreeSet<_>>(), want.into_iter().collect());

    run(dir.path(), "genisoimage", &["-quiet", "-l", "-o", "plain.iso", "tree"]);
    let plain = by_us(&dir.path().join("plain.iso"));
    for path in ["k8s/kubelet", "many/00/file_number_0040.yaml"] {
        assert!(plain.contains_key(path), "{path} in {:?}", plain.keys().take(20).collect::<Vec<_>>());
    }
    assert!(plain["k8s/kubelet"].1 == files["k8s/kubelet"].1);
}

/// Bytes of the file that needs two extents: an extent has at most 4 GiB less one block.
const LARGE: u64 = (4 << 30) + 12_345;

/// Its digest, which the writer checks: told here, so that the test need not hash it once more.
const LARGE_DIGEST: &str = "117d55b69d19e9db70df8095d218b539009cc1651cad06058251810a85f08c9f";

/// A sparse file with marks at its start, where the first extent ends, and at its end.
fn large(path: &Path) {
    let mut file = File::create_new(path).unwrap();
    file.set_len(LARGE).unwrap();
    for (at, mark) in marks() {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(mark).unwrap();
    }
}

fn marks() -> [(u64, &'static [u8]); 3] {
    [(0, b"first"), ((4 << 30) - 2048 - 3, b"across"), (LARGE - 4, b"last")]
}

fn check_large(iso: &Path, size: u64) {
    let opened = Opened::open(iso).unwrap();
    let content = &opened.file("docker/images.tar").unwrap().content;
    let disc = bootstrap::disc::read(File::open(iso).unwrap()).unwrap();
    let file = disc.file("docker/images.tar").unwrap();
    assert_eq!((file.size, content.length()), (size, size));
    for (at, mark) in marks() {
        let mut found = vec![0; mark.len()];
        let mut reader = content.reader();
        reader.seek(SeekFrom::Start(at)).unwrap();
        reader.read_exact(&mut found).unwrap();
        assert_eq!(found, mark);
        let ranges = file.ranges(at, mark.len() as u64).unwrap();
        assert_eq!(ranges.iter().map(|range| range.length).sum::<u64>(), mark.len() as u64);
    }
}

#[test]
fn a_file_above_4_gib_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    large(&dir.path().join("large"));
    let content = Content::whole(&Source::open(&dir.path().join("large")).unwrap());
    let digest = LARGE_DIGEST.parse().unwrap();
    let small = Content::bytes(*b"{}");
    write_iso(
        &dir.path().join("a.iso"),
        vec![
            bundle::File { path: "cks-bundle.json".into(), mode: 0o644, digest: Digest::of(b"{}"), content: small },
            bundle::File { path: "docker/images.tar".into(), mode: 0o640, content, digest },
        ],
    );
    check_large(&dir.path().join("a.iso"), LARGE);

    // xorriso: one file, with its mode and its bytes.
    let listing = text(dir.path(), "xorriso", &["-indev", "a.iso", "-lsl", "/docker"]);
    assert!(listing.contains("-rw-r-----") && listing.contains(&LARGE.to_string()), "{listing}");
    for (at, mark) in marks() {
        let (at, length) = (at.to_string(), mark.len().to_string());
        let cut = ["-osirrox", "on", "-indev", "a.iso", "-extract_cut", "/docker/images.tar", &at, &length, &at];
        run(dir.path(), "xorriso", &cut);
        assert_eq!(fs::read(dir.path().join(&at)).unwrap(), mark, "what xorriso reads at byte {at}");
    }
    // 7z: one file of that size.
    let listing = text(dir.path(), "7z", &["l", "-slt", "a.iso"]);
    assert!(listing.contains(&format!("Size = {LARGE}\n")), "{listing}");
    // isoinfo lists each extent as a file of its own, on its own genisoimage's images too.
    let sizes = text(dir.path(), "isoinfo", &["-i", "a.iso", "-R", "-l"]);
    assert!(sizes.contains("4294965248") && sizes.contains(&(LARGE - 4_294_965_248).to_string()), "{sizes}");
}

#[test]
fn a_file_above_4_gib_of_xorriso_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("tree/docker")).unwrap();
    large(&dir.path().join("tree/docker/images.tar"));
    let command = "xorriso -as mkisofs -quiet -iso-level 3 -J -R -o - tree | dd of=a.iso bs=1M conv=sparse status=none";
    run(dir.path(), "bash", &["-o", "pipefail", "-ec", command]);
    check_large(&dir.path().join("a.iso"), LARGE);
}
