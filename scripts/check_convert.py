"""Loads what `clip-onnx convert` writes into open_clip, strictly, and compares its numbers.

    pip install torch open_clip_torch numpy safetensors
    cargo build --release && python scripts/check_convert.py

For every fixture: convert, build open_clip's model of the same dims, `load_state_dict(strict=True)`,
and with the authors' tanh GELU compare with the reference embeddings (relative error, 2e-5).
For NaFlex the checkpoint is frozen to the fixture's image size first.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from make_reference import as_the_authors_run_it, from_config  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/clip-onnx"


def error(got, want):
    return float(np.abs(got.numpy() - want).max() / np.sqrt((want.astype(np.float64) ** 2).mean()))


def main():
    failed = 0
    # The SigLIP cases: open_clip's other models take their dims from names, not from a configuration.
    for folder in sorted([*(ROOT / "tests/fixtures").glob("siglip*"), *(ROOT / "tests/fixtures").glob("lit*")]):
        reference = np.load(folder / "reference.npz")
        size = [] if "naflex" not in folder.name else [
            "--image-size", "{}x{}".format(*reference["image"].shape[2:])]
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(scratch) / "open_clip.safetensors"
            subprocess.run(
                [BINARY, "convert", folder / "checkpoint.npz", "--config", folder / "config.json", "-o", out, *size],
                check=True, capture_output=True)
            with safe_open(out, "np" if "bf16" not in folder.name else "pt") as file:
                config = json.loads(file.metadata()["clip_onnx.config"])
            weights = {k: v.float() for k, v in load_file(out).items()}
        model = from_config(config)
        model.load_state_dict(weights, strict=True)
        # float32 in, float32 out: the bfloat16 case compares with its own widened reference.
        as_the_authors_run_it(model)
        model.eval()
        with torch.no_grad():
            image = error(model.encode_image(torch.from_numpy(reference["image"])), reference["image_embedding"])
            text = error(model.encode_text(torch.from_numpy(reference["tokens"]).long()), reference["text_embedding"])
        good = max(image, text) <= 2e-5
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} image {image:.1e} text {text:.1e} {folder.name}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
