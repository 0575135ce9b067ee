//! How close an image is to a sentence, with an exported folder:
//! `cargo run --release --example embed -- FOLDER IMAGE SENTENCE`.

use clip_onnx::Embedder;
use clip_onnx::embed::cosine;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, image, sentence] = &arguments[..] else {
        return Err("usage: embed FOLDER IMAGE SENTENCE".into());
    };
    let embedder = Embedder::open(folder)?;
    let (image, text) = (embedder.image(image)?, embedder.text(sentence)?);
    println!("{:.4}", cosine(&image, &text));
    Ok(())
}
