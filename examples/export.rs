//! Exports a checkpoint in float32 and int8, verified: `cargo run --release --example export -- CHECKPOINT FOLDER`.

use clip_onnx::{Export, Precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(checkpoint), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: export CHECKPOINT FOLDER".into());
    };
    let exported = Export::new(checkpoint, folder).precisions([Precision::Fp32, Precision::Int8]).write()?;
    println!("{}", exported.selected.config.model);
    for file in &exported.files {
        println!("{} ({} bytes)", file.path.display(), file.size);
    }
    if let Some(report) = &exported.report {
        println!("{}: {}", report.verdict, report.summary);
    }
    Ok(())
}
