//! Build step: the ONNX messages from `onnx.proto` (no protoc to install), the list of
//! `models/*.json` that is built into the program, the page of `web/` where that was built before, and the version of
//! tract, which reports name.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);

    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let messages = protox::compile([root.join("proto/onnx.proto")], [root.join("proto")])?;
    prost_build::Config::new()
        .bytes(["."])
        // The upstream comments are prose with indented lists, which rustdoc would take for code.
        .disable_comments(["."])
        .compile_fds(messages)?;

    println!("cargo:rerun-if-changed=models");
    fs::write(out.join("models.rs"), models(&root.join("models"))?)?;

    // One that is not there would count as changed every time.
    let page = root.join("web/dist");
    println!("cargo:rerun-if-changed={}", if page.exists() { "web/dist" } else { "web" });
    fs::write(out.join("demo.rs"), demo(&page)?)?;

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

/// A table of paths in the built page and included bytes, sorted; empty where it was not built.
fn demo(page: &Path) -> Result<String, Box<dyn std::error::Error>> {
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
    let mut text = "static FILES: &[(&str, &[u8])] = &[\n".to_owned();
    for path in paths {
        text += &format!(
            "    ({path:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?}))),\n",
            format!("/web/dist/{path}")
        );
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
