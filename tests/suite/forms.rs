//! The forms a big_vision checkpoint comes in: all give the graph of the plain one.

use std::path::Path;

use clip_onnx::error::sentence;
use clip_onnx::pipeline::{Silent, export};
use prost::Message;

use crate::common::npz::{Array, Arrays, Zip, get, read, renamed, stacked, write};
use crate::common::{Fixture, model};

/// Both graphs of an export, without the metadata that names the source file.
fn graphs(fixture: &Fixture, checkpoint: &Path) -> Result<[Vec<u8>; 2], String> {
    let folder = tempfile::tempdir().unwrap();
    let mut request = fixture.export_to(&folder.path().join("out"));
    request.source.checkpoint = checkpoint.to_owned();
    request = request.unverified();
    export(&request, &Silent).map_err(|e| sentence(&e))?;
    Ok(["vision_model.onnx", "text_model.onnx"].map(|file| {
        let mut model = model(&request.output.folder.join(file));
        model.metadata_props.retain(|p| !p.key().starts_with("source_"));
        model.encode_to_vec()
    }))
}

#[test]
fn every_form_gives_the_graph_of_the_plain_one() {
    type Form = (&'static str, fn(Arrays) -> Arrays, Zip);
    let forms: &[Form] = &[
        ("stacked image blocks", |a| stacked(a, "img/Transformer/"), Zip::Stored),
        ("stacked text blocks", |a| stacked(a, "txt/Encoder_0/"), Zip::Stored),
        (
            "stacked, deflated, params/",
            |a| renamed(stacked(stacked(a, "img/Transformer/"), "txt/Encoder_0/"), |n| format!("params/{n}")),
            Zip::Deflated,
        ),
        ("zip64", |a| a, Zip::Zip64),
        (
            "opt/target/ beside optimizer state",
            |a| {
                let mut a = renamed(a, |n| format!("opt/target/{n}"));
                a.push(("opt/state/step".to_owned(), Array::new(&[1], vec![3.0])));
                a
            },
            Zip::Stored,
        ),
        (
            "training state beside params/",
            |a| {
                let mut a = renamed(a, |n| format!("params/{n}"));
                a.push(("opt/0/mu/img/embedding/bias".to_owned(), Array::new(&[2], vec![1.0; 2])));
                a.push(("chrono/accum_train_time".to_owned(), Array::new(&[], vec![1.0])));
                a
            },
            Zip::Stored,
        ),
        (
            "Fortran order",
            |mut a| {
                a.iter_mut().for_each(|(_, array)| array.fortran = true);
                a
            },
            Zip::Stored,
        ),
        (
            "Fortran order, stacked, deflated",
            |a| {
                let mut a = stacked(a, "img/Transformer/");
                a.iter_mut().for_each(|(_, array)| array.fortran = true);
                a
            },
            Zip::Deflated,
        ),
        (
            "positions in a module",
            |a| renamed(a, |n| n.replace("img/pos_embedding", "img/Transformer/posembed_input/pos_embedding")),
            Zip::Stored,
        ),
        (
            "positions in the encoder",
            |a| renamed(a, |n| n.replace("img/pos_embedding", "img/Transformer/pos_embedding")),
            Zip::Stored,
        ),
        ("MAP head inlined", |a| renamed(a, |n| n.replace("img/MAPHead_0/", "img/")), Zip::Stored),
        (
            "2-D patch kernel",
            |mut a| {
                let kernel = get(&mut a, "img/embedding/kernel");
                kernel.shape = vec![kernel.shape[..3].iter().product(), kernel.shape[3]];
                a
            },
            Zip::Stored,
        ),
        (
            "text positions in two parts",
            |mut a| {
                let positions = get(&mut a, "txt/pos_embedding");
                positions.values.iter_mut().for_each(|v| *v *= 0.5); // exact, and so is the sum
                let half = positions.clone();
                a.push(("txt/Encoder_0/pos_embedding".to_owned(), half));
                a
            },
            Zip::Stored,
        ),
    ];
    let fixture = Fixture::named("siglip_tiny");
    let plain = graphs(&fixture, &fixture.checkpoint()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, form, zip) in forms {
        let path = folder.path().join("checkpoint.npz");
        write(&path, &form(read(&fixture.checkpoint())), *zip);
        let got = graphs(&fixture, &path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(got == plain, "{name}: another graph");
    }
}

#[test]
fn half_precision_is_widened_exactly() {
    let fixture = Fixture::named("siglip_tiny");
    let folder = tempfile::tempdir().unwrap();
    for descr in ["<f2", "<V2", "|V2"] {
        let (narrow, wide) = (folder.path().join("narrow.npz"), folder.path().join("wide.npz"));
        let mut arrays = read(&fixture.checkpoint());
        arrays.iter_mut().for_each(|(_, array)| array.descr = descr);
        write(&narrow, &arrays, Zip::Stored);
        write(&wide, &read(&narrow), Zip::Stored);
        assert!(read(&narrow)[5].1.values != read(&fixture.checkpoint())[5].1.values, "narrowing changes values");
        assert!(graphs(&fixture, &narrow).unwrap() == graphs(&fixture, &wide).unwrap(), "{descr}");
    }
}

/// Nothing is lost of what float32 holds.
#[test]
fn float64_is_narrowed() {
    let fixture = Fixture::named("siglip_tiny");
    let folder = tempfile::tempdir().unwrap();
    let wide = folder.path().join("wide.npz");
    let mut arrays = read(&fixture.checkpoint());
    arrays.iter_mut().for_each(|(_, array)| array.descr = "<f8");
    write(&wide, &arrays, Zip::Stored);
    assert!(graphs(&fixture, &wide).unwrap() == graphs(&fixture, &fixture.checkpoint()).unwrap());
}
