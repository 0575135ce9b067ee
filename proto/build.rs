//! Build step: the list of `models/*.json` that is built into the program, the page of `web/`, compressed, where that
//! was built before, and the version of tract, which reports name.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);

    println!("cargo:rerun-if-changed=models");
    fs::write(out.join("models.rs"), models(&root.join("models"))?)?;

    let page = root.join("web/dist");
    // A path that is not there would count as changed every time; the published crate has no `web`.
    if let Some(watched) = ["web/dist", "web"].into_iter().find(|path| root.join(path).exists()) {
        println!("cargo:rerun-if-changed={watched}");
    }
    fs::write(out.join("demo.rs"), demo(&page, &out)?)?;

    println!("cargo:rerun-if-changed=Cargo.toml");
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let version = tract_version(&manifest).ok_or("Cargo.toml pins no version of tract-onnx")?;
    println!("cargo:rustc-env=TRACT_VERSION={version}");
    Ok(())
}

/// The version that `Cargo.toml` pins tract-onnx to, as a key or, as cargo rewrites it for crates.io, as a table.
fn tract_version(manifest: &str) -> Option<&str> {
    let starts = |line: &str| line.starts_with("tract-onnx ") || line == "[dependencies.tract-onnx]";
    let lines = manifest.lines().skip_while(|line| !starts(line));
    lines.filter_map(|line| line.split_once("\"=")).find_map(|(_, rest)| rest.split('"').next())
}

/// A table of paths in the built page and included bytes, deflated, sorted; empty where it was not built.
fn demo(page: &Path, out: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut paths = Vec::new();
    for folder in ["", "demo"] {
        let Ok(entries) = fs::read_dir(page.join(folder)) else { continue };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                paths.push(Path::new(folder).join(entry.file_name()).display().to_string());
            }
        }
    }
    paths.sort();
    let mut text = "static FILES: &[(&str, usize, &[u8])] = &[\n".to_owned();
    for (at, path) in paths.iter().enumerate() {
        let content = fs::read(page.join(path))?;
        let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflated.write_all(&content)?;
        let name = format!("demo_{at}.deflate");
        fs::write(out.join(&name), deflated.finish()?)?;
        let include = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\"))");
        text += &format!("    ({path:?}, {}, {include}),\n", content.len());
    }
    Ok(text + "];\n")
}

/// A table of file stems and included texts, sorted by name.
fn models(folder: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut text = "const KNOWN: &[(&str, &str)] = &[\n".to_owned();
    for path in files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Not the folder's path of today: copies of the sources that share a target folder share this table.
        let file = format!("/models/{stem}.json");
        text += &format!("    ({stem:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {file:?}))),\n");
    }
    Ok(text + "];\n")
}
