//! How close an image is to a sentence, with an exported folder:
//! `cargo run --release --example embed -- FOLDER IMAGE SENTENCE`.

use clip_onnx::embed::{Embedder, Options, cosine};
use clip_onnx::engine;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, image, sentence] = &arguments[..] else {
        return Err("usage: embed FOLDER IMAGE SENTENCE".into());
    };
    let embedder = Embedder::open(folder, Options::new(engine::tract()))?;
    let (image, text) = (embedder.image_file(image)?, embedder.text(sentence)?);
    println!("{:.4}", cosine(&image, &text));
    Ok(())
}
