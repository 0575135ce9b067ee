"""Graphs that resize (`--resize`) on ONNX Runtime, fed photographs as Pillow decodes them, beside `clip-onnx embed` of the same
files.

    pip install numpy pillow onnxruntime
    cargo build --release
    python scripts/check_resize.py photos ViT-B-32=b32.safetensors ViT-B-16-SigLIP:original=siglip.safetensors

`MODEL:DIALECT` follows that dialect, open_clip's where none is named. Lossless files alone, so that nothing depends on who
decodes them; each as RGB and as opaque RGBA. Exit status 1 below a cosine of 0.99999.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import onnxruntime as ort
from PIL import Image

BINARY = pathlib.Path(__file__).resolve().parent.parent / "target/release/clip-onnx"


def check(model, checkpoint, photos, scratch):
    name, _, dialect = model.partition(":")
    line = [BINARY, "export", checkpoint, "--model", name, "--dialect", dialect or "open_clip", "--no-verify", "--no-hash"]
    for folder, flags in (("plain", []), ("resize", ["--resize"])):
        subprocess.run([*line, "--out", scratch / folder, *flags], check=True, capture_output=True)
    out = scratch / "embedded.json"
    subprocess.run([BINARY, "embed", scratch / "plain", "--image", *photos, "--out", out], check=True, capture_output=True)
    expected = np.array([row["embedding"] for row in json.loads(out.read_text())["images"]])
    session = ort.InferenceSession(str(scratch / "resize/vision_model.onnx"), providers=["CPUExecutionProvider"])
    least = 1.0
    for photo, wanted in zip(photos, expected):
        for mode in ("RGB", "RGBA"):
            values = np.asarray(Image.open(photo).convert("RGB").convert(mode))[None]
            found = session.run(None, {session.get_inputs()[0].name: values})[0][0].astype(np.float64)
            least = min(least, found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted))
    print(f"{model}: least cosine {least:.7f} of {len(photos)} photographs", flush=True)
    return least > 0.99999


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path, help="a folder of them")
    parser.add_argument("models", nargs="+", metavar="MODEL[:DIALECT]=CHECKPOINT")
    args = parser.parse_args()
    photos = sorted(p for p in args.photos.iterdir() if p.suffix in (".png", ".webp"))
    good = []
    for model, checkpoint in (each.split("=", 1) for each in args.models):
        with tempfile.TemporaryDirectory() as scratch:
            good.append(check(model, checkpoint, photos, pathlib.Path(scratch)))
    raise SystemExit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
