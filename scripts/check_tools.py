"""ONNX Runtime's own tools on exported files: symbolic_shape_infer, quant_pre_process and quantize_dynamic per channel.

    pip install numpy onnx onnxruntime sympy
    python scripts/check_tools.py [--binary target/release/clip-onnx]

Every fixture, portable and of any text length. What the first two write has to run and to give the same numbers; what the
third writes has to run, at batch 1 and 3, with a cosine of 0.9 at least beside the references. Exits 1 otherwise.
"""
import argparse
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from check_engines import cases, feeds, metadata
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAME = 2e-5
LEAST = 0.9


def run(path, inputs, rows):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: array[:rows] for name, array in inputs.items()})[0]


def error(got, want):
    return float(np.abs(got - want).max() / np.sqrt((want.astype(np.float64) ** 2).mean()))


def tried(path, inputs, expected, scratch):
    out = scratch / "tool.onnx"
    inferred = SymbolicShapeInference.infer_shapes(onnx.load(str(path)), auto_merge=True)
    onnx.save(inferred, str(out))
    yield "symbolic_shape_infer", max(error(run(out, inputs, n), expected[:n]) for n in (1, 3)), SAME
    # With texts of any length its shape inference otherwise cannot merge `length` with `min(length, context)`.
    quant_pre_process(str(path), str(out), auto_merge=".dynamic" in str(path))
    yield "quant_pre_process", max(error(run(out, inputs, n), expected[:n]) for n in (1, 3)), SAME
    quantize_dynamic(str(path), str(out), per_channel=True)
    cosines = []
    for n in (1, 3):
        got, want = run(out, inputs, n), expected[:n]
        cosines.append(((got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)).min())
    yield "quantize_dynamic per channel", 1 - float(min(cosines)), 1 - LEAST


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    binary = parser.parse_args().binary.resolve()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        # The tools leave files where they run.
        os.chdir(scratch)
        for name, checkpoint, flags, reference in cases():
            for form, more in {"portable": [], "dynamic": ["--dynamic-text"]}.items():
                out = scratch / f"{name}.{form}"
                subprocess.run([binary, "export", checkpoint, *flags, "--out", out, "--no-verify", *more], check=True, capture_output=True)
                for path in sorted(out.glob("*.onnx")):
                    if form == "dynamic" and path.name.startswith("vision"):
                        continue
                    inputs, expected = feeds(path, metadata(out), dict(np.load(reference)))
                    try:
                        for tool, figure, bound in tried(path, inputs, expected, scratch):
                            good = figure <= bound
                            passed, failed = passed + good, failed + (not good)
                            if not good:
                                print(f"FAIL {tool}, {out.name}/{path.name}: {figure:.1e}, allowed {bound:.0e}")
                    except Exception as problem:  # noqa: BLE001 - every file is reported
                        failed += 1
                        print(f"FAIL {out.name}/{path.name}: {str(problem)[:200]}")
    print(f"ONNX Runtime {ort.__version__}: {passed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
