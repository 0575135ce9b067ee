//! What moving weights costs: laying out, widening, hashing and writing, in bytes a second.
//!
//!     cargo bench --bench weights

use std::hint::black_box;

use bytes::Bytes;
use clip_onnx::onnx::graph::{ElementType, Role};
use clip_onnx::onnx::write::{Error as WriteError, ExternalData, Options, write};
use clip_onnx::onnx::{Dim, Graph, Target};
use clip_onnx::tensor::{DType, Error, Storage, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Widths of a ViT-L: its feed-forward kernel is 16 MiB.
const D: usize = 1024;
const MLP: usize = 4 * D;

fn stored(dtype: DType, shape: &[usize], fortran_order: bool) -> Tensor {
    let bytes: Vec<u8> = (0..shape.iter().product::<usize>())
        .flat_map(|i| ((i % 251) as f32).to_le_bytes()[4 - dtype.size()..].to_vec())
        .collect();
    let available = bytes.len();
    Tensor::contiguous("kernel", dtype, shape, fortran_order, Storage::Ready(Bytes::from(bytes)), available).unwrap()
}

fn read(tensor: &Tensor, buffer: &mut Vec<f32>) {
    tensor
        .for_each_block(buffer, |block| {
            black_box(block);
            Ok::<(), Error>(())
        })
        .unwrap();
}

fn layout(c: &mut Criterion) {
    let kernel = stored(DType::F32, &[D, MLP], false);
    let heads: Vec<Tensor> = (0..3)
        .map(|_| stored(DType::F32, &[D, 16, D / 16], false).reshape(&[D, D]).unwrap().permute(&[1, 0]))
        .collect();
    let joined = Tensor::concat(&heads).unwrap();
    let cases = [
        ("as stored", kernel.clone()),
        ("transposed", kernel.permute(&[1, 0])),
        ("Fortran order", stored(DType::F32, &[D, MLP], true)),
        ("query, key, value side by side", joined.permute(&[1, 0])),
        ("query, key, value, query scaled", {
            let scaled = [heads[0].scaled(0.125), heads[1].clone(), heads[2].clone()];
            Tensor::concat(&scaled).unwrap().permute(&[1, 0])
        }),
        ("HWIO to OIHW", stored(DType::F32, &[16, 16, 3, D], false).permute(&[3, 2, 0, 1])),
    ];
    let mut group = c.benchmark_group("layout");
    let mut buffer = Vec::new();
    for (name, tensor) in cases {
        group.throughput(Throughput::Bytes(tensor.len() as u64 * 4));
        group.bench_function(name, |b| b.iter(|| read(&tensor, &mut buffer)));
    }
}

fn cast(c: &mut Criterion) {
    let mut group = c.benchmark_group("cast to float32");
    let mut buffer = Vec::new();
    for dtype in [DType::F16, DType::BF16] {
        let tensor = stored(dtype, &[D, MLP], false);
        group.throughput(Throughput::Bytes(tensor.len() as u64 * 4));
        group.bench_function(dtype.name(), |b| b.iter(|| read(&tensor, &mut buffer)));
        group.bench_function(format!("{dtype}, transposed"), |b| {
            let tensor = tensor.permute(&[1, 0]);
            b.iter(|| read(&tensor, &mut buffer));
        });
    }
}

fn file(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let graph = Graph::new("bench", Target::default());
    let x = graph.input("x", ElementType::Float, vec![Dim::Named("batch_size"), Dim::Fixed(MLP)]);
    let weight = graph.initializer("weight", Role::Weight, stored(DType::F32, &[D, MLP], false).permute(&[1, 0]));
    let y = graph.node("", "MatMul", &[x, weight], vec![]);
    graph.output(y, "y", ElementType::Float, vec![Dim::Named("batch_size"), Dim::Fixed(D)]);
    let parts = graph.into_parts();
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Bytes((D * MLP) as u64 * 4));
    let path = folder.path().join("model.onnx");
    for (name, hash) in [("with SHA-256", true), ("without", false)] {
        let options = Options { external: ExternalData::Auto, hash };
        group.bench_function(name, |b| {
            b.iter(|| write::<WriteError>(&parts, &path, options, |_| Ok(()), &|_| ()).unwrap());
        });
    }
}

criterion_group!(benches, layout, cast, file);
criterion_main!(benches);
