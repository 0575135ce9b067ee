"""`--layout open_clip` loaded by open_clip itself, from the folder alone.

    pip install torch torchvision open_clip_torch transformers numpy onnxruntime
    cargo build --release
    python scripts/make_open_clip.py MobileCLIP-S1 -o s1.safetensors
    python scripts/check_open_clip.py ViT-B-32=b32.safetensors ViT-B-16-SigLIP=siglip.safetensors [--tokenizer FILE]

Each checkpoint is exported, and `open_clip.create_model_and_transforms("local-dir:FOLDER")` and `get_tokenizer` of the
same make the model anew: its embeddings of a noisy picture through its own transform, and of sentences through
its own tokenizer, are held to those of the towers in onnx/ and, `open_clip`'s model configuration being there, to its built-in
model's with the same weights. Largest difference over the RMS; exit status 1 beyond 2e-5.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort
import open_clip
import torch
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/clip-onnx"
BOUND = 2e-5
SENTENCES = ["A photo of a CAT!", "two dogs, on grass", "", "naïve café ☕"]


def relative(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(found - expected).max() / np.sqrt((expected**2).mean()))


def check(name, checkpoint, tokenizer, scratch):
    out = scratch / name
    line = [BINARY, "export", checkpoint, "--model", name, "--dialect", "open_clip", "--layout", "open_clip", "--out", out, "--no-verify"]
    subprocess.run(line + (["--tokenizer", tokenizer] if "SigLIP" in name else []), check=True, capture_output=True)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{out}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{out}")
    noise = np.random.default_rng(7).integers(0, 256, (300, 400, 3), np.uint8)
    pixels, ids = preprocess(Image.fromarray(noise))[None], tokenize(SENTENCES)
    with torch.no_grad():
        model = model.eval()
        image, text = model.encode_image(pixels, normalize=True), model.encode_text(ids, normalize=True)
        known = open_clip.create_model(name, pretrained=str(checkpoint)).eval()
        known_image, known_text = known.encode_image(pixels, normalize=True), known.encode_text(ids, normalize=True)
    run = lambda tower, feed: ort.InferenceSession(str(out / f"onnx/{tower}_model.onnx")).run(None, feed)[0]
    errors = [
        relative(run("vision", {"pixel_values": pixels.numpy()}), image),
        relative(run("text", {"input_ids": ids.numpy()}), text),
        relative(image, known_image),
        relative(text, known_text),
    ]
    good = max(errors) <= BOUND
    print(f"{'ok  ' if good else 'FAIL'} {name}: towers {errors[0]:.1e}, {errors[1]:.1e}; its own model {errors[2]:.1e}, {errors[3]:.1e}")
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", metavar="MODEL=FILE")
    parser.add_argument("--tokenizer", help="tokenizer.json of SigLIP models, with its tokenizer_config.json beside it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pairs = [pair.partition("=") for pair in args.checkpoints]
        good = [check(name, file, args.tokenizer, pathlib.Path(scratch)) for name, _, file in pairs]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
