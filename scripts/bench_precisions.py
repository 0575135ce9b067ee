"""Our files of lower precision beside those that Python's converters make of torch's export.

    pip install torch open_clip_torch timm onnx onnxruntime onnxconverter-common onnxscript onnx_ir numpy
    cargo build --release
    python scripts/make_open_clip.py ViT-B-32 -o b32.safetensors
    python scripts/make_reference.py b32.safetensors --model ViT-B-32 --rows 8 -o b32.npz
    python scripts/bench_precisions.py ViT-B-32 --checkpoint b32.safetensors --reference b32.npz
    python scripts/bench_precisions.py ViT-B-32 --checkpoint b32.safetensors --reference b32.npz --latency
    python scripts/bench_precisions.py ViT-B-32 --checkpoint b32.safetensors --reference b32.npz \\
        --precision int4 --export-args "--zero-points" --out b32.json

Peers, all of one TorchScript export of the same weights (FastViT reparameterized first): for fp32 that
export; for fp16 onnxconverter_common's convert_float_to_float16 with keep_io_types; for int8
quantize_dynamic, of MatMul alone and by channel (reduce_range for the row of 7 bits); for int4
MatMulNBitsQuantizer, symmetric, in blocks of 32, which is plain rounding; beside our int4 with no layer kept
it is given our own float32 file, so that both have the same products. The others have none. Calibrated rows
are calibrated on the rows of the reference.

Every file is loaded and run at each of ONNX Runtime's levels of optimization, in a process of its own: one
that a converter spoilt may take the process down. Figures are of level ALL, at one thread, with all rows of
the reference at once; cosines and greatest differences are of the embeddings, and top-1 counts images whose
first text is the one that the reference ranks first (both towers of a precision together). Latency is CPU
time at batch 1 and one thread, median of interleaved rounds, as a ratio to our own fp32 file. Layers that
we keep in higher precision, and their bytes, are from the report.json of another export, a verified one.

Exit status 1 if one of our files fails at any level.
"""
import argparse
import gc
import json
import logging
import pathlib
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import open_clip
import timm
import torch

import bench_export
import bench_graphs
import make_open_clip

SUFFIXES = {"fp32": "", "fp16": "_fp16", "fp16-weights": "_fp16w", "int8": "_int8", "int8-weights": "_int8w",
            "int4": "_q4", "int4-fp16": "_q4f16"}
SEVEN = "int8, 7 bit"
# Rows beyond the precisions: of which precision, with which options, and the precision after which they stand.
VARIANTS = {
    SEVEN: ("int8", ["--reduce-range"]),
    "int8, calibrated": ("int8", ["--calibrate", "REFERENCE"]),
    "int4, none kept": ("int4", ["--no-auto-exclude"]),
    "int4, calibrated": ("int4", ["--calibrate", "REFERENCE"]),
}
TOWERS = {"vision": ("image", "image_embedding_normalized"), "text": ("tokens", "text_embedding_normalized")}
LEVELS = {"DISABLE_ALL": "ORT_DISABLE_ALL", "BASIC": "ORT_ENABLE_BASIC", "EXTENDED": "ORT_ENABLE_EXTENDED",
          "ALL": "ORT_ENABLE_ALL"}
PATIENCE = 600  # seconds for a file at a level

RUN = """
import sys, numpy as np, onnxruntime as ort
model, feed, level, out = sys.argv[1:]
options = ort.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
try:
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows, name = np.load(feed), session.get_inputs()[0].name
    session.run(None, {name: rows[-1:]})
    np.save(out, session.run(None, {name: rows})[0])
except Exception as error:
    sys.exit((str(error).strip() or repr(error)).splitlines()[0])
"""


def by_float16(source, target):
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(target))


def by_dynamic(source, target, reduce_range=False):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(source), str(target), op_types_to_quantize=["MatMul"], per_channel=True,
                     reduce_range=reduce_range, weight_type=QuantType.QInt8)


def by_nbits(source, target):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger().setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(str(source), bits=4, block_size=32, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


PEERS = {"fp32": shutil.copyfile, "fp16": by_float16, "int8": by_dynamic,
         SEVEN: lambda source, target: by_dynamic(source, target, reduce_range=True), "int4": by_nbits}


def first_line(error):
    return (str(error).strip() or repr(error)).splitlines()[0]


def peers(args, precisions, feeds, scratch):
    """{(tower, precision): path, or what the converter said}."""
    name = make_open_clip.STANDS_FOR.get(args.model, args.model)
    model = open_clip.create_model(name, pretrained=str(args.checkpoint)).eval()
    if "MobileCLIP" in name and hasattr(model.visual, "trunk"):
        model.visual.trunk = timm.utils.reparameterize_model(model.visual.trunk)
    out = {}
    for tower, feed in feeds.items():
        source = scratch / f"torch_{tower}.onnx"
        module = bench_graphs.Tower(model, "image" if tower == "vision" else tower).eval()
        torch.onnx.export(module, (torch.from_numpy(np.load(feed)[:2]),), str(source), input_names=["x"],
                          output_names=["y"], verbose=False, dynamo=False, opset_version=17,
                          dynamic_axes={"x": {0: "batch"}})
        for precision in precisions:
            if precision not in PEERS:
                continue
            target = scratch / f"torch_{tower}_{precision.replace(', ', '_').replace(' ', '_')}.onnx"
            try:
                PEERS[precision](source, target)
                out[tower, precision] = target
            except Exception as error:
                out[tower, precision] = f"{type(error).__name__}: {first_line(error)}"
            gc.collect()
    return out


def ours(args, precisions, scratch):
    """{(tower, precision): path}, {(tower, precision): (layers kept, their bytes)}, and what exports took."""
    def command(folder, of, *more):
        return [bench_export.BINARY, "export", args.checkpoint, "--model", args.model, "--dialect", "open_clip",
                "--out", scratch / folder, "--precision", ",".join(of), *shlex.split(args.export_args), *more]

    library = next((pathlib.Path(ort.__file__).parent / "capi").glob("libonnxruntime.*"))
    verified = ["--engine", "onnxruntime", "--ort-lib", library, "--reference", args.reference, "--batches", "1"]
    named = [p for p in precisions if p not in VARIANTS]
    variants = [(p, [VARIANTS[p][0]], VARIANTS[p][1]) for p in precisions if p in VARIANTS]
    took, files, kept = {}, {}, {}
    for folder, of, more in (("fp32", ["fp32"], []), ("all", named, []), *variants):
        more = [args.reference if flag == "REFERENCE" else flag for flag in more]
        library_too = ["--engine", "onnxruntime", "--ort-lib", library] if "--calibrate" in more else []
        took[folder] = bench_export.run(command(folder, of, "--no-verify", *more, *library_too))
        if folder == "fp32":
            shutil.rmtree(scratch / folder)
            continue
        done = subprocess.run(command("verified", of, *verified, *more), capture_output=True, text=True)
        report = scratch / "verified/report.json"
        if not report.exists():
            sys.exit(f"no report.json: {done.stderr[-2000:]}")
        report = json.loads(report.read_text())
        if done.returncode:
            print(f"verification of {', '.join(of)}{' '.join(['', *map(str, more)])} did not pass:",
                  *map(str, report["failures"]), sep="\n  ")
        shutil.rmtree(scratch / "verified")
        layers = {entry["file"]: entry for entry in report["precisions"]}
        for tower in TOWERS:
            for precision in of:
                key = tower, folder if folder in VARIANTS else precision
                files[key] = scratch / folder / f"{tower}_model{SUFFIXES[precision]}.onnx"
                entry = layers[files[key].name]
                assert entry["size"] == size(files[key]), "the verified export wrote another file"
                kept[key] = entry["kept"], entry["kept_bytes"]
    return files, kept, took


def size(path):
    """With the weights beside it."""
    beside = path.with_name(path.name + "_data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def looked_at(path, feed, wanted, scratch):
    """What a file is like: {size, levels, least, mean, max_abs} and its embeddings, if it has any at ALL."""
    seen, embeddings = {"size": size(path), "levels": {}}, None
    for level, option in LEVELS.items():
        target = scratch / "embeddings.npy"
        target.unlink(missing_ok=True)
        try:
            done = subprocess.run([sys.executable, "-c", RUN, path, feed, option, target], capture_output=True,
                                  text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            seen["levels"][level] = f"not done after {PATIENCE} s"
            continue
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            seen["levels"][level] = signal.Signals(-done.returncode).name if done.returncode < 0 else \
                said[-1].replace(f"{path.parent}/", "")
            continue
        rows = np.load(target).astype(np.float64)
        cosines = (rows * wanted).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted, axis=1)
        seen["levels"][level] = float(cosines.min())
        if level == "ALL":
            embeddings = rows
            seen.update(least=float(cosines.min()), mean=float(cosines.mean()),
                        max_abs=float(np.abs(rows - wanted).max()))
    return seen, embeddings


def cell(ours, peer, form):
    return " / ".join("-" if value is None else form.format(value) for value in (ours, peer))


def loads(row):
    if row is None or "levels" not in row:
        return "-"
    failed = [level for level, told in row["levels"].items() if isinstance(told, str)]
    return "all" if not failed else "none" if len(failed) == len(LEVELS) else "not " + ", ".join(failed)


def table(rows, precisions, latency):
    columns = ["tower", "precision", "least cosine", "mean cosine", "max abs", "top-1", "MB", "latency", "kept",
               "loads"]
    print("Ours / peer's." + ("" if latency else " Latency was not measured."))
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for tower in TOWERS:
        for precision in precisions:
            mine, peer = rows["ours", tower, precision], rows.get(("peer", tower, precision)) or {}
            both = lambda field: (mine.get(field), peer.get(field))
            layers, kept = mine["kept"]
            print("| " + " | ".join([
                tower, precision, cell(*both("least"), "{:.6f}"), cell(*both("mean"), "{:.6f}"),
                cell(*both("max_abs"), "{:.1e}"), cell(*both("top1"), "{}"),
                cell(*(size and size / 1e6 for size in both("size")), "{:.1f}"), cell(*both("latency"), "{:.3f}"),
                f"{layers} ({kept / 1e6:.1f} MB)" if layers else "0", f"{loads(mine)} / {loads(peer)}"]) + " |")
    for (maker, tower, precision), row in rows.items():
        if "failed" in row:
            print(f"- {maker}, {tower}, {precision}: not converted: {row['failed']}")
        told = row.get("levels", {})
        for error in dict.fromkeys(t for t in told.values() if isinstance(t, str)):
            print(f"- {maker}, {tower}, {precision}, at {', '.join(k for k in told if told[k] == error)}: {error}")
        cosines = {level: t for level, t in told.items() if not isinstance(t, str)}
        if cosines and not max(cosines.values()) - min(cosines.values()) < 1e-3:
            shown = ", ".join(f"{level} {cosine:.6f}" for level, cosine in cosines.items())
            print(f"- {maker}, {tower}, {precision}: least cosine by level: {shown}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the name in models/, and open_clip's")
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="in open_clip's names")
    parser.add_argument("--reference", type=pathlib.Path, required=True, help="of make_reference.py, of that file")
    parser.add_argument("--precision", default=",".join(SUFFIXES), help="fp32 is always among them")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--export-args", default="", help="further options of clip-onnx export, in one string")
    parser.add_argument("--scratch", type=pathlib.Path, help="where to put files of the run")
    parser.add_argument("--out", type=pathlib.Path, help="write all figures as JSON")
    args = parser.parse_args()
    asked = args.precision.split(",")
    if unknown := set(asked) - set(SUFFIXES):
        parser.error(f"no such precision: {', '.join(sorted(unknown))}")
    precisions = [p for p in SUFFIXES if p in asked or p == "fp32"]
    for name, (precision, _) in reversed(VARIANTS.items()):
        if precision in precisions and not args.export_args:
            precisions.insert(precisions.index(precision) + 1, name)
    reference = np.load(args.reference)

    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        scratch = pathlib.Path(scratch)
        feeds = {tower: scratch / f"{tower}.npy" for tower in TOWERS}
        for tower, (name, _) in TOWERS.items():
            np.save(feeds[tower], reference[name])
        theirs = peers(args, precisions, feeds, scratch)
        mine, kept, took = ours(args, precisions, scratch)
        for tower in TOWERS if "int4, none kept" in precisions else ():
            theirs[tower, "int4, none kept"] = scratch / f"plain_{tower}.onnx"
            by_nbits(mine[tower, "fp32"], theirs[tower, "int4, none kept"])

        rows, embeddings = {}, {}
        for maker, files in (("ours", mine), ("peer", theirs)):
            for (tower, precision), path in files.items():
                key = maker, tower, precision
                if isinstance(path, str):
                    rows[key] = {"failed": path}
                    continue
                rows[key], embeddings[key] = looked_at(path, feeds[tower], reference[TOWERS[tower][1]], scratch)
                if maker == "ours":
                    rows[key]["kept"] = kept[tower, precision]
        wanted = (reference[TOWERS["vision"][1]] @ reference[TOWERS["text"][1]].T).argmax(1)
        for maker, tower, precision in rows:
            image, text = (embeddings.get((maker, t, precision)) for t in TOWERS)
            if image is not None and text is not None:
                same = int(((image @ text.T).argmax(1) == wanted).sum())
                rows[maker, tower, precision]["top1"] = f"{same}/{len(wanted)}"
        if args.latency:
            for tower in TOWERS:
                files = {(maker, precision): path for maker, of in (("ours", mine), ("peer", theirs))
                         for (t, precision), path in of.items()
                         if t == tower and embeddings.get((maker, t, precision)) is not None}
                times, _ = bench_graphs.latency(files, np.load(feeds[tower])[-1:], 1, args.rounds)
                median = {key: statistics.median(t) for key, t in times.items()}
                for (maker, precision), time in median.items():
                    row = rows[maker, tower, precision]
                    row["latency"], row["seconds"] = time / median["ours", "fp32"], time

    cpu = pathlib.Path("/proc/cpuinfo")
    vnni = "unknown" if not cpu.exists() else "yes" if "vnni" in cpu.read_text() else "no"
    print(f"\n{args.model}, {args.checkpoint.name}: onnxruntime {ort.__version__}, torch {torch.__version__}, "
          f"onnx {onnx.__version__}, {len(wanted)} rows, VNNI: {vnni}")
    names = {"fp32": "fp32 alone", "all": ", ".join(p for p in precisions if p not in VARIANTS)}
    for folder, (seconds, wall, _, anonymous) in took.items():  # the peak resident would be this process's own
        print(f"export of {names.get(folder, folder)}: CPU {seconds:.2f} s, wall {wall:.2f} s, anonymous {anonymous / 1e6:.0f} MB")
    table(rows, precisions, args.latency)
    if args.out:
        figures = {"model": args.model, "checkpoint": args.checkpoint.name, "export_args": args.export_args,
                   "vnni": vnni, "exports": {names.get(folder, folder): {"cpu": cpu, "wall": wall, "anonymous": anonymous}
                                             for folder, (cpu, wall, _, anonymous) in took.items()},
                   "files": [dict(maker=m, tower=t, precision=p, **row) for (m, t, p), row in rows.items()]}
        args.out.write_text(json.dumps(figures, indent=1))
    spoilt = [key for key, row in rows.items() if key[0] == "ours" and loads(row) != "all"]
    sys.exit(1 if spoilt else 0)


if __name__ == "__main__":
    main()
