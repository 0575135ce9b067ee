//! Compares an exported folder with reference embeddings: `cargo run --release --example verify -- FOLDER REFERENCE.npz`.

use clip_onnx::Verify;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), Some(reference)) = (arguments.next(), arguments.next()) else {
        return Err("usage: verify FOLDER REFERENCE.npz".into());
    };
    let report = Verify::folder(folder)?.reference(reference).run()?;
    println!("{report}");
    Ok(())
}
