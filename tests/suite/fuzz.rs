//! The corpus of `tests/fuzz`: seeds, hostile files and what fuzzing found, each run as its target runs it, in bounded time
//! and memory. The same functions are fuzzed in `fuzz/`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../../fuzz/src/targets.rs"]
mod targets;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn no_input_of_the_corpus_panics_or_takes_long() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut count = 0;
    for target in targets::ALL {
        for file in files(&corpus.join(target)) {
            let data = std::fs::read(&file).unwrap();
            let started = Instant::now();
            targets::run(target, &data);
            let took = started.elapsed();
            assert!(took < Duration::from_secs(20), "{}: {took:?}", file.display());
            count += 1;
        }
    }
    assert!(count > 80, "{count} inputs");
}
