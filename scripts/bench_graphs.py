"""Our graphs beside the best that torch's exporters give, on ONNX Runtime's CPU provider.

    pip install torch open_clip_torch timm onnx onnxruntime onnxscript numpy
    cargo build --release
    python scripts/bench_graphs.py MobileCLIP-S1 MobileCLIP-S2 ViT-B-32          (timings and node counts)
    python scripts/bench_graphs.py ViT-B-32 --batches 1,8 --threads 1,2 --tokens 12,77
    python scripts/bench_graphs.py --counts MobileCLIP-S1 MobileCLIP-S2           (node counts alone)

For each model: random weights, both towers exported by torch's two exporters (FastViT reparameterized
first, which neither does by itself) and by clip-onnx in both targets. Runs are interleaved, the order
reversed every other round. Latency is CPU time of the calling thread at one thread, wall time at more;
`session` is the CPU time of creating one. Figures are median and least, and their ratios to the faster of
torch's two graphs. Outputs are compared in the same run.
"""
import argparse
import collections
import gc
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

TORCH = ("torchscript", "dynamo")
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
        for exporter in TORCH:
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


def interleaved(keys, rounds, once):
    times = {k: [] for k in keys}
    for r in range(rounds):
        for k in list(keys)[:: -1 if r % 2 else 1]:
            times[k].append(once(k))
    return times


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def creation(files, rounds):
    def once(k):
        start = time.process_time()
        made = session(files[k], 1)
        took = time.process_time() - start
        del made
        gc.collect()
        return took
    for k in files:
        once(k)
    return interleaved(files, rounds, once)


def latency(files, feed, threads, rounds):
    """Times, and outputs."""
    sessions = {k: session(p, threads) for k, p in files.items()}
    feeds = {k: {s.get_inputs()[0].name: feed} for k, s in sessions.items()}
    outputs = {k: s.run(None, feeds[k])[0] for k, s in sessions.items()}
    clock = time.thread_time if threads == 1 else time.perf_counter

    def once(k):
        if threads > 1:
            time.sleep(0.05)  # until the threads of the session before have stopped spinning
        start = clock()
        sessions[k].run(None, feeds[k])
        return clock() - start
    return interleaved(files, rounds, once), outputs


def show_creation(what, times):
    """Beside each of torch's: one embeds its weights, the other has them beside the model."""
    for key, t in times.items():
        ratios = [f"{statistics.median(t) / statistics.median(times[k]):.3f} / {min(t) / min(times[k]):.3f} of {k}" for k in TORCH]
        print(f"{what} {key:12} {statistics.median(t) * 1e3:8.1f} ms  {', '.join(ratios)} (median / least)")
    sys.stdout.flush()


def show(what, times, outputs=None):
    base = min(TORCH, key=lambda k: statistics.median(times[k]))
    for key, t in times.items():
        median, least = statistics.median(t), min(t)
        against = statistics.median(times[base]), min(times[base])
        error = ""
        if outputs is not None:
            error = f"  relative error {np.abs(outputs[key] - outputs[base]).max() * np.sqrt(outputs[base].shape[1]):.1e}"
        print(f"{what} {key:12} {median * 1e3:8.1f} ms  ratio to {base} "
              f"{median / against[0]:.3f} / {least / against[1]:.3f} (median / least){error}")
    sys.stdout.flush()


def numbers(text):
    return [int(n) for n in text.split(",")]


def texts(model, tokens, rng):
    """Two texts of `tokens` tokens as each family pads them; the whole context where that is less."""
    length = getattr(model, "context_length", None) or model.text.context_length
    tokens = min(tokens, length)
    if getattr(model.text if hasattr(model, "text") else model, "vocab_size", 0) != 49408:
        return rng.integers(2, 30000, (2, length))      # SigLIP attends to padding: every place counts
    ids = np.zeros((2, length), np.int64)
    ids[:, 0], ids[:, 1 : tokens - 1], ids[:, tokens - 1] = 49406, rng.integers(1, 40000, (2, tokens - 2)), 49407
    return ids


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--counts", action="store_true")
    parser.add_argument("--batches", type=numbers, default=[1])
    parser.add_argument("--threads", type=numbers, default=[1])
    parser.add_argument("--tokens", type=numbers, default=[12])
    parser.add_argument("--towers", default="image,text")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(f"onnxruntime {ort.__version__}, torch {torch.__version__}")
    for name in args.models:
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained=None).eval()
        make_open_clip.randomise(model, 0)
        side = model.visual.image_size if isinstance(model.visual.image_size, int) else model.visual.image_size[0]
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            torch.save(model.state_dict(), scratch / "model.pt")
            ours = by_us(scratch / "model.pt", name, scratch)
            if "MobileCLIP" in name and hasattr(model.visual, "trunk"):
                model.visual.trunk = timm.utils.reparameterize_model(model.visual.trunk)
            rng = np.random.default_rng(0)
            image = rng.uniform(0, 1, (2, 3, side, side)).astype(np.float32)
            examples = {"image": {"": image}, "text": {f" {n} tokens": texts(model, n, rng) for n in args.tokens}}
            first = next(iter(examples["text"].values()))
            files = {**by_torch(model, scratch, torch.from_numpy(image), torch.from_numpy(first)), **ours}
            for tower in args.towers.split(","):
                of_tower = {k[0]: p for k, p in files.items() if k[1] == tower}
                for key, path in of_tower.items():
                    c = counts(path)
                    shown = {op: c[op] for op in ("Conv", "BatchNormalization", "MatMul", "Mul", "Add", "Gelu", "Erf",
                                                  "Attention", "Softmax", "Transpose", "Reshape", "Shape", "Constant") if c[op]}
                    print(f"{name} {tower} {key}: {sum(c.values())} nodes {shown}")
                if args.counts:
                    continue
                show_creation(f"{name} {tower} session", creation(of_tower, args.rounds))
                for what, example in examples[tower].items():
                    for batch in args.batches:
                        feed = np.resize(example, (batch, *example.shape[1:]))
                        for threads in args.threads:
                            # Eight at once take as long as eight rounds.
                            rounds = args.rounds if batch == 1 else max(5, args.rounds // 3)
                            measured = latency(of_tower, feed, threads, rounds)
                            show(f"{name} {tower}{what} batch {batch} threads {threads}", *measured)


if __name__ == "__main__":
    main()
