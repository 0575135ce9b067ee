"""Our graphs beside the best that torch's exporters give, on ONNX Runtime's CPU provider.

    pip install torch open_clip_torch timm onnx onnxruntime onnxscript numpy
    cargo build --release
    python scripts/bench_graphs.py MobileCLIP-S1 MobileCLIP-S2 ViT-B-32          (timings and node counts)
    python scripts/bench_graphs.py --counts MobileCLIP-S1 MobileCLIP-S2           (node counts alone)

For each model: random weights, both towers exported by torch's two exporters (FastViT reparameterized
first, which neither does by itself) and by clip-onnx in both targets. Runs are interleaved, the order
reversed every other round; the figure is CPU time of the calling thread at one thread, median and
minimum, over the faster of torch's two graphs. Outputs are compared in the same run.
"""
import argparse
import collections
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
import open_clip
import timm
import torch

import make_open_clip

BINARY = pathlib.Path(__file__).resolve().parent.parent / "target/release/clip-onnx"


class Tower(torch.nn.Module):
    def __init__(self, model, tower):
        super().__init__()
        self.model, self.tower = model, tower

    def forward(self, x):
        encode = self.model.encode_image if self.tower == "image" else self.model.encode_text
        return encode(x, normalize=True)


def by_torch(model, scratch, image, text):
    """Files of both exporters: {(exporter, tower): path}."""
    out = {}
    for tower, example in (("image", image), ("text", text)):
        for exporter in ("torchscript", "dynamo"):
            path = scratch / f"{exporter}_{tower}.onnx"
            how = dict(dynamo=False, opset_version=17, dynamic_axes={"x": {0: "batch"}}) if exporter == "torchscript" \
                else dict(dynamo=True, dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}})
            torch.onnx.export(Tower(model, tower).eval(), (example,), str(path), input_names=["x"], output_names=["y"],
                              verbose=False, **how)
            out[exporter, tower] = path
    return out


def by_us(checkpoint, name, scratch):
    out = {}
    for target in ("portable", "onnxruntime"):
        folder = scratch / target
        subprocess.run([BINARY, "export", checkpoint, "--model", name, "--target", target, "--no-verify", "--out", folder],
                       check=True, capture_output=True)
        out[target, "image"], out[target, "text"] = folder / "vision_model.onnx", folder / "text_model.onnx"
    return out


def counts(path):
    graph = onnx.load(str(path), load_external_data=False).graph
    return collections.Counter(node.op_type for node in graph.node)


def bench(files, feed, rounds):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {k: ort.InferenceSession(str(p), options, providers=["CPUExecutionProvider"]) for k, p in files.items()}
    feeds = {k: {s.get_inputs()[0].name: feed} for k, s in sessions.items()}
    outputs = {k: s.run(None, feeds[k])[0] for k, s in sessions.items()}
    times = {k: [] for k in sessions}
    for r in range(rounds):
        for k in list(sessions)[:: -1 if r % 2 else 1]:
            start = time.thread_time()
            sessions[k].run(None, feeds[k])
            times[k].append(time.thread_time() - start)
    return times, outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--counts", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    for name in args.models:
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained=None).eval()
        make_open_clip.randomise(model, 0)
        side = model.visual.image_size if isinstance(model.visual.image_size, int) else model.visual.image_size[0]
        tokenizer_length = model.context_length if hasattr(model, "context_length") else model.text.context_length
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            torch.save(model.state_dict(), scratch / "model.pt")
            ours = by_us(scratch / "model.pt", name, scratch)
            if "MobileCLIP" in name and hasattr(model.visual, "trunk"):
                model.visual.trunk = timm.utils.reparameterize_model(model.visual.trunk)
            rng = np.random.default_rng(0)
            image = rng.uniform(0, 1, (2, 3, side, side)).astype(np.float32)
            short = np.zeros((2, tokenizer_length), np.int64)
            short[:, 0], short[:, 1:11], short[:, 11] = 49406, rng.integers(1, 40000, (2, 10)), 49407
            files = {**by_torch(model, scratch, torch.from_numpy(image), torch.from_numpy(short)), **ours}
            for tower, example in (("image", image), ("text", short)):
                of_tower = {k[0]: p for k, p in files.items() if k[1] == tower}
                for key, path in of_tower.items():
                    c = counts(path)
                    shown = {op: c[op] for op in ("Conv", "BatchNormalization", "MatMul", "Mul", "Add", "Gelu", "Erf",
                                                  "Attention", "Softmax", "Transpose", "Reshape", "Shape", "Constant") if c[op]}
                    print(f"{name} {tower} {key}: {sum(c.values())} nodes {shown}")
                if args.counts:
                    continue
                feed = np.resize(example, (args.batch, *example.shape[1:]))
                times, outputs = bench(of_tower, feed, args.rounds)
                base = min(("torchscript", "dynamo"), key=lambda k: statistics.median(times[k]))
                for key, t in times.items():
                    median, least = statistics.median(t), min(t)
                    against = statistics.median(times[base]), min(times[base])
                    error = np.abs(outputs[key] - outputs[base]).max() * np.sqrt(outputs[base].shape[1])
                    print(f"{name} {tower} batch {args.batch} {key:12} {median * 1e3:8.1f} ms  ratio to {base} "
                          f"{median / against[0]:.3f} / {least / against[1]:.3f} (median / min)  relative error {error:.1e}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
