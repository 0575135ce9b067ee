//! Exports a checkpoint whose configuration is made in memory, without verification:
//! `cargo run --release --example custom_config -- CHECKPOINT CONFIG.json FOLDER`.

use clip_onnx::{Export, ModelChoice, ModelConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, config, folder] = &arguments[..] else {
        return Err("usage: custom_config CHECKPOINT CONFIG.json FOLDER".into());
    };
    let config = ModelConfig::read(config.as_ref())?.with(|model| model.model = "my-own-model".to_owned())?;
    let exported = Export::new(checkpoint, folder).model(ModelChoice::Given(Box::new(config))).unverified().write()?;
    println!("{} in {} files", exported.selected.config.model, exported.files.len());
    Ok(())
}
