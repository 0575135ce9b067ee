//! Compares an exported folder with reference embeddings: `cargo run --release --example verify -- FOLDER REFERENCE.npz`.

use std::path::Path;

use clip_onnx::engine;
use clip_onnx::verify::{Verify, models_in};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, reference] = &arguments[..] else {
        return Err("usage: verify FOLDER REFERENCE.npz".into());
    };
    let models = models_in(Path::new(folder))?;
    let report = Verify::new(models).reference(reference).engines([engine::tract()]).run(&|_| ())?;
    println!("{report}");
    Ok(())
}
