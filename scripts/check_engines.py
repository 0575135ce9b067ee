"""Runs exported fixtures on other engines than ONNX Runtime and tract, and compares them with the references.

    python scripts/check_engines.py --export DIR [--binary clip-onnx] [--quick]
    python scripts/check_engines.py ENGINE DIR [--json FILE] [--allow NAME ...]
    python scripts/check_engines.py --table FILE [FILE ...]

`--export` writes every fixture, as portable files and in other forms, each with its reference; `--quick` the portable
ones, and one form of each. ENGINE is one of onnxruntime, openvino, opencv, mnn, iree, rten and web, run in a Python that
has its wheel: `openvino`, `opencv-python-headless` 5, `MNN`, `iree-base-compiler[onnx]` with `iree-base-runtime`; rten is
built from `scripts/rten`, and web is the onnxruntime-web of `web/node_modules`, in node. `--table` prints what `--json`
wrote as one table.

One session of each file is given batches of 1, 3 and 1 rows, in this order; of texts that see only what is before, also
rows that are padded with their end token. Each file has a process of its own, since engines have been seen to crash.
The error is the largest absolute difference over the RMS of the reference, of normalised embeddings. float32 is held to
2e-5, other precisions to their cosine. Exits 1 where something is beyond its bound; a form that an engine cannot run is
listed and fails nothing, unless it is a portable one.
"""
import argparse
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOUND = 2e-5
# Least cosine in other precisions, of towers 64 wide.
LEAST = {"fp16": 0.9999, "fp16-weights": 0.9999, "int8": 0.98, "int8-weights": 0.995, "int4": 0.9, "int4-fp16": 0.9}
# Of these every form is tried.
ONE_A_FAMILY = ["siglip_tiny", "siglip2_naflex_tiny", "mobileclip_s0_tiny", "mobileclip_s1_tiny", "mobileclip_b_tiny",
                "mobileclip2_s3_tiny", "openclip_vit_tiny", "clip_eos"]
FORMS = {
    "opset20": ["--opset", "20"],
    "static": ["--static", "1", "--token-type", "int32"],
    "web": ["--target", "web"],
    "mobile": ["--target", "mobile"],
    "precisions": ["--precision", ",".join(LEAST)],
    "onnxruntime": ["--target", "onnxruntime"],
}
BATCHES = (1, 3, 1)


def cases():
    """Every fixture: name, what is exported, flags, reference."""
    for case in sorted((ROOT / "tests/fixtures").iterdir()):
        yield case.name, sorted(case.glob("checkpoint.*"))[0], ["--config", case / "config.json"], case / "reference.npz"
    for case in sorted((ROOT / "tests/transformers").iterdir()):
        yield case.name, case, [], case / "reference.npz"


def export(folder, binary, quick):
    for name, checkpoint, flags, reference in cases():
        forms = {"portable": []}
        if name in ONE_A_FAMILY:
            forms |= {"static": FORMS["static"]} if quick else FORMS
        for form, more in forms.items():
            out = folder / f"{name}.{form}"
            if "naflex" in name and form in ("static", "mobile"):
                more = [*more, "--image-size", "{}x{}".format(*np.load(reference)["image"].shape[2:])]
            line = [binary, "export", checkpoint, *flags, "--out", out, "--no-verify", *more]
            subprocess.run(line, check=True, capture_output=True)
            (out / "reference.npz").write_bytes(reference.read_bytes())
            print(out)


def metadata(folder):
    return json.loads((folder / "manifest.json").read_text())


def feeds(path, manifest, reference):
    """Inputs of all rows, by the name they have in plain files, and what is to come out."""
    int32 = manifest["options"]["tokens"] == "int32"
    if path.name.startswith("text"):
        return {"input_ids": reference["tokens"].astype(np.int32 if int32 else np.int64)}, reference["text_embedding_normalized"]
    if manifest["config"]["vision_cfg"]["model_type"] == "naflexvit":
        keys = {"patches": "naflex_patches", "patch_mask": "naflex_type", "patch_y": "naflex_y", "patch_x": "naflex_x"}
        arrays = {name: reference[key] for name, key in keys.items()}
        return {n: a if a.dtype == np.float32 else a.astype(np.int64) for n, a in arrays.items()}, reference["image_embedding_normalized"]
    return {"pixel_values": reference["image"].astype(np.float32)}, reference["image_embedding_normalized"]


def padded_with_ends(ids, text):
    """The same rows with the end token for padding; None where padding is looked at, or nothing is different."""
    if text["no_causal_mask"] or text["pool_type"] not in ("argmax", "eos") or text["model_type"] == "mct":
        return None
    out = ids.copy()
    for row in out:
        at = row.argmax() if text["pool_type"] == "argmax" else list(row).index(text["eot_id"]) if text["eot_id"] in row else None
        if at is not None:
            row[at:] = row[at]
    return out


def steps(path, manifest, reference):
    """What one session is given in turn: inputs and expected rows."""
    inputs, expected = feeds(path, manifest, reference)
    fixed = manifest["options"]["static"]
    batches = (fixed, fixed) if fixed else BATCHES
    out = []
    for at, batch in enumerate(batches):
        rows = [(at + i) % len(expected) for i in range(batch)]
        out.append(({name: array[rows] for name, array in inputs.items()}, expected[rows]))
    if "input_ids" in inputs:
        ends = padded_with_ends(inputs["input_ids"], manifest["config"]["text_cfg"])
        if ends is not None:
            rows = list(range(batches[0]))
            out.append(({"input_ids": ends[rows]}, expected[rows]))
    return out


class OnnxRuntime:
    def __init__(self, path, _):
        import onnxruntime as ort

        self.version = f"ONNX Runtime {ort.__version__}"
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(self, inputs):
        return self.session.run(None, inputs)[0]


class OpenVino:
    def __init__(self, path, _):
        import openvino as ov

        self.version = f"OpenVINO {ov.__version__.partition('-')[0]}"
        core = ov.Core()
        # Weights in int8 and int4 are otherwise multiplied with quantised activations.
        config = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        self.model = core.compile_model(core.read_model(str(path)), "CPU", config)

    def run(self, inputs):
        return np.array(self.model(inputs)[self.model.outputs[0]])


class OpenCv:
    def __init__(self, path, _):
        import cv2

        self.version = f"OpenCV {cv2.__version__}"
        self.net = cv2.dnn.readNetFromONNX(str(path))

    def run(self, inputs):
        for name, array in inputs.items():
            self.net.setInput(np.ascontiguousarray(array), name)
        return self.net.forward()


class Mnn:
    def __init__(self, path, scratch):
        import _tools
        import MNN

        self.version = f"MNN {MNN.version()}"
        to = scratch / "model.mnn"
        # The converter itself: its command line would install and send things.
        flags = ["-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(to), "--bizCode", "check", "--useGeluApproximation=0"]
        _tools.mnnconvert(["mnnconvert", *flags])
        import onnx

        graph = onnx.load(str(path), load_external_data=False).graph
        names = [i.name for i in graph.input if i.name not in {t.name for t in graph.initializer}]
        self.names = names
        self.module = MNN.nn.load_module_from_file(str(to), names, [graph.output[0].name])

    def run(self, inputs):
        import MNN

        def var(array):
            kind = MNN.expr.float if array.dtype == np.float32 else MNN.expr.int
            array = array if array.dtype == np.float32 else array.astype(np.int32)
            return MNN.expr.const(np.ascontiguousarray(array), list(array.shape), MNN.expr.NCHW, kind)

        [found] = self.module.onForward([var(inputs[name]) for name in self.names])
        return np.array(MNN.expr.convert(found, MNN.expr.NCHW).read())


class Iree:
    def __init__(self, path, scratch):
        import iree.compiler as compiler
        import iree.runtime as runtime

        from importlib.metadata import version

        self.version = f"IREE {version('iree-base-runtime')}"
        mlir, module = scratch / "model.mlir", scratch / "model.vmfb"
        subprocess.run([sys.executable, "-m", "iree.compiler.tools.import_onnx", str(path), "-o", str(mlir)], check=True, capture_output=True)
        compiler.tools.compile_file(str(mlir), input_type="onnx", target_backends=["llvm-cpu"], output_file=str(module), extra_args=["--iree-llvmcpu-target-cpu=host"])
        config = runtime.Config("local-task")
        context = runtime.SystemContext(config=config)
        context.add_vm_module(runtime.VmModule.mmap(config.vm_instance, str(module)))
        [loaded] = [m for name, m in context.modules.items() if name not in ("hal",)]
        names = [name for name in loaded.vm_module.function_names if "$" not in name and not name.startswith("__")]
        self.function = loaded[names[0]]

    def run(self, inputs):
        found = self.function(*inputs.values())
        return np.asarray(found[0] if isinstance(found, (list, tuple)) else found)


class Job:
    """An engine with a program of its own: everything is run at once."""

    def __init__(self, path, scratch, version, line):
        self.path, self.scratch, self.version, self.line = path, scratch, version, line

    def run_all(self, all_inputs):
        runs = []
        for at, inputs in enumerate(all_inputs):
            listed = []
            for name, array in inputs.items():
                data = self.scratch / f"{at}.{name}"
                data.write_bytes(np.ascontiguousarray(array).tobytes())
                listed.append({"name": name, "type": str(array.dtype), "dims": list(array.shape), "data": str(data)})
            runs.append({"inputs": listed, "out": str(self.scratch / f"{at}.out")})
        job = self.scratch / "job.json"
        job.write_text(json.dumps({"model": str(self.path), "runs": runs}))
        subprocess.run([self.line[0], *self.line[1:2], str(job), *self.line[2:]], check=True, capture_output=True, text=True)
        return [np.fromfile(run["out"], np.float32) for run in runs]


def rten(path, scratch):
    return Job(path, scratch, "rten 0.27.0", [str(ROOT / "scripts/rten/target/release/run-rten")])


def web(path, scratch):
    folder = ROOT / "web/node_modules/onnxruntime-web"
    version = json.loads((folder / "package.json").read_text())["version"]
    return Job(path, scratch, f"onnxruntime-web {version}", ["node", str(ROOT / "scripts/check_engines.mjs"), str(folder)])


ENGINES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "opencv": OpenCv, "mnn": Mnn, "iree": Iree, "rten": rten, "web": web}


def one(engine, path):
    """Runs one file; prints what came of it as JSON."""
    manifest, reference = metadata(path.parent), dict(np.load(path.parent / "reference.npz"))
    with tempfile.TemporaryDirectory() as scratch:
        loaded = ENGINES[engine](path, pathlib.Path(scratch))
        all_steps = steps(path, manifest, reference)
        if isinstance(loaded, Job):
            found = loaded.run_all([inputs for inputs, _ in all_steps])
        else:
            found = [loaded.run(inputs) for inputs, _ in all_steps]
    errors, cosines = [], []
    for got, (_, want) in zip(found, all_steps):
        got = np.asarray(got, np.float64).reshape(want.shape)
        errors.append(float(np.abs(got - want).max() / np.sqrt((want.astype(np.float64) ** 2).mean())))
        cosines.append(float(((got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)).min()))
    worst = max(errors) if all(np.isfinite(errors)) else float("inf")
    print(json.dumps({"version": loaded.version, "errors": errors, "worst": worst, "cosine": min(cosines)}))


def precision_of(path):
    stem = path.stem.removeprefix("vision_model").removeprefix("text_model").lstrip("_")
    return {"": "fp32", "fp16": "fp16", "fp16w": "fp16-weights", "int8": "int8", "int8w": "int8-weights", "q4": "int4", "q4f16": "int4-fp16"}.get(stem, stem)


def check(engine, folder, allowed):
    rows = []
    for path in sorted(folder.glob("*/*.onnx")):
        name, _, form = path.parent.name.rpartition(".")
        tower, precision = ("text" if path.name.startswith("text") else "image"), precision_of(path)
        line = [sys.executable, __file__, "--one", engine, path]
        ran = subprocess.run([str(part) for part in line], capture_output=True, text=True)
        row = {"engine": engine, "fixture": name, "form": form, "tower": tower, "precision": precision}
        if ran.returncode == 0:
            row |= json.loads(ran.stdout.strip().splitlines()[-1])
            good = row["worst"] <= BOUND if precision == "fp32" else row["cosine"] >= LEAST[precision]
        else:
            row["said"] = (ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"])[-1][-200:]
            # Other forms are for other engines.
            good = form not in ("portable", "static")
        label = f"{name}.{form} {tower} {precision}"
        excused = not good and any(part in label for part in allowed)
        row["good"] = good or excused
        rows.append(row)
        figure = f"{row['worst']:8.1e} {row['cosine']:.6f}" if "worst" in row else "not run"
        mark = "ok  " if good else "known" if excused else "FAIL"
        print(f"{mark} {figure} {label} {row.get('said', '')}", flush=True)
    failed = sum(not row["good"] for row in rows)
    version = next((row["version"] for row in rows if "version" in row), engine)
    print(f"{version}: {len(rows) - failed} passed, {failed} failed")
    return rows


def table(files):
    """Three tables, an engine a column: portable files of each family; other precisions and other forms over all of them."""
    rows = [row for file in files for row in json.loads(pathlib.Path(file).read_text())]
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    version = {row["engine"]: row["version"] for row in rows if "version" in row}

    def show(head, keys, of):
        print("| " + " | ".join([*head, *(version.get(engine, engine) for engine in engines)]) + " |")
        print("|---" * (len(head) + len(engines)) + "|")
        for key in keys:
            cells = []
            for engine in engines:
                found = [row for row in rows if row["engine"] == engine and of(row) == key]
                ran = [row for row in found if "worst" in row]
                fp32 = all(row["precision"] == "fp32" for row in found)
                figure = (lambda: f"{max(r['worst'] for r in ran):.0e}") if fp32 else (lambda: f"{min(r['cosine'] for r in ran):.4f}")
                some = f" ({len(ran)} of {len(found)})" if 0 < len(ran) < len(found) else ""
                cells.append("" if not found else "no" if not ran else figure() + some)
            print("| " + " | ".join([*key, *cells]) + " |")
        print()

    portable = lambda r: (r["fixture"], r["tower"]) if (r["form"], r["precision"]) == ("portable", "fp32") else None
    show(("portable, float32", "tower"), [(n, t) for n in ONE_A_FAMILY for t in ("image", "text")], portable)
    narrow = lambda r: (r["precision"], r["tower"]) if r["form"] == "precisions" else None
    show(("precision, least cosine", "tower"), [(p, t) for p in LEAST for t in ("image", "text")], narrow)
    other = lambda r: (r["form"], r["tower"]) if r["precision"] == "fp32" and r["form"] not in ("portable", "precisions") else None
    show(("form, float32", "tower"), [(f, t) for f in FORMS if f != "precisions" for t in ("image", "text")], other)


def main():
    if sys.argv[1:2] == ["--one"]:
        return one(sys.argv[2], pathlib.Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="?", choices=ENGINES)
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("--export", type=pathlib.Path)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--allow", action="append", default=[])
    parser.add_argument("--table", nargs="+")
    args = parser.parse_args()
    if args.table:
        return table(args.table)
    if args.export:
        return export(args.export, args.binary, args.quick)
    if not args.engine or not args.folder:
        parser.error("name an engine and a folder, or --export DIR")
    rows = check(args.engine, args.folder, args.allow)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    sys.exit(1 if not rows or not all(row["good"] for row in rows) else 0)


if __name__ == "__main__":
    main()
