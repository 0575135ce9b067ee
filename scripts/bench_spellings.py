"""Latency of the same towers as two builds of clip-onnx write them, in ONNX Runtime.

    pip install numpy onnxruntime
    python scripts/bench_spellings.py OLD_FOLDER=NEW_FOLDER [OLD=NEW ...] [--rounds 30]

Each pair of folders holds exports of one checkpoint. Sessions of both are there at once, and runs alternate, so that what
else the machine does meets both. Printed is the median of each, the median of their ratio of neighbouring runs, and the
largest difference of what they give.
"""
import argparse
import pathlib
import statistics
import time

import numpy as np
import onnxruntime as ort


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(of, batch):
    """Typical inputs: noise, or texts of twelve tokens, which the end token follows."""
    rng = np.random.default_rng(0)
    [first] = of.get_inputs()
    shape = [batch, *first.shape[1:]]
    if first.type == "tensor(float)":
        return {first.name: rng.normal(0, 1, shape).astype(np.float32)}
    vocabulary = int(of.get_modelmeta().custom_metadata_map["vocab_size"])
    ids = np.zeros(shape, np.int64)
    ids[:, :12] = rng.integers(2, vocabulary - 3, (batch, 12))
    ids[:, 12] = int(of.get_modelmeta().custom_metadata_map["eot_id"])
    return {first.name: ids}


def timed(run):
    started = time.perf_counter()
    found = run()
    return 1e3 * (time.perf_counter() - started), found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="+")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    print(f"ONNX Runtime {ort.__version__}, {args.rounds} rounds")
    print("| model | tower | threads | batch | old, ms | new, ms | new over old | difference |\n|---|---|---|---|---|---|---|---|")
    for pair in args.pairs:
        old, new = (pathlib.Path(folder) for folder in pair.split("="))
        for name in ("vision_model.onnx", "text_model.onnx"):
            for threads in (1, 2):
                sessions = [session(folder / name, threads) for folder in (old, new)]
                for batch in (1, 8):
                    inputs = feeds(sessions[0], batch)
                    runs = [lambda s=s: s.run(None, inputs)[0] for s in sessions]
                    found = [run() for run in runs]
                    times = [[], []]
                    for turn in range(args.rounds):
                        # Who goes first alternates too.
                        for which in ((0, 1), (1, 0))[turn % 2]:
                            times[which].append(timed(runs[which])[0])
                    medians = [statistics.median(t) for t in times]
                    ratio = statistics.median(b / a for a, b in zip(*times))
                    tower = "image" if name.startswith("vision") else "text"
                    off = np.abs(found[0] - found[1]).max()
                    print(f"| {new.name} | {tower} | {threads} | {batch} | {medians[0]:.2f} | {medians[1]:.2f} | {ratio:.3f} | {off:.0e} |", flush=True)


if __name__ == "__main__":
    main()
