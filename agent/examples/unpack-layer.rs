//! Unpacks a layer's file into an empty directory, and says how fast: `unpack-layer FILE MEDIA-TYPE DIRECTORY`.

use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use agent::layer::{Target, Whiteouts, apply};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, media_type, directory] = arguments.as_slice() else {
        return Err("unpack-layer FILE MEDIA-TYPE DIRECTORY".into());
    };
    let target = Target { directory: PathBuf::from(directory), parents: Vec::new(), whiteouts: Whiteouts::Remove };
    let start = Instant::now();
    let applied = apply(File::open(file)?, media_type, &target, None).map_err(|refused| format!("{refused:?}"))?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} {} bytes in {seconds:.3} s, {:.0} MB/s",
        applied.diff_id,
        applied.bytes,
        applied.bytes as f64 / seconds / 1e6
    );
    Ok(())
}
