"""Exports every supported configuration of open_clip and writes docs/registry.md.

    python scripts/check_registry.py [--binary target/release/clip-onnx] [NAME...]

open_clip's own ViTs are built with two layers, widths of at most 768 and 512 tokens; towers of timm, which open_clip knows
by name alone, whole, where they have at most 120 million parameters. Random weights make deep towers of convolutions
ill-conditioned: FastViT is compared in tests, by small fixtures of its authors' code. Each is saved as the folder that its
repository is, exported, and compared with open_clip's embeddings. Needs what scripts/make_registry.py needs.
"""

import argparse
import copy
import datetime
import json
import pathlib
import subprocess
import tempfile
import zlib

import numpy as np
import open_clip
import torch
from make_registry import ROOT, build as build_without_storage
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file

WIDEST, WORDS, LARGEST = 768, 512, 120e6


def fewer(heads, width):
    """Heads and width, divided until the width is at most 768."""
    by = next(by for by in range(1, heads + 1) if heads % by == 0 and width // by <= WIDEST)
    return heads // by, width // by


def small(name, whole):
    """The configuration with two layers, where it names them."""
    cfg = copy.deepcopy(whole)
    vision, text = cfg["vision_cfg"], cfg["text_cfg"]
    if "timm_model_name" not in vision:
        width = vision.get("width", 768)
        _, vision["width"] = fewer(width // vision.get("head_width", 64), width)
        vision["layers"] = 2
        vision["image_size"] = vision.get("patch_size", 16) * (2 + zlib.crc32(name.encode()) % 3)
        while cfg["embed_dim"] > WIDEST:
            cfg["embed_dim"] //= 2
    text.update(layers=2, vocab_size=WORDS)
    if text.get("proj_type") != "none":
        text["heads"], text["width"] = fewer(text["heads"], text["width"])
    return cfg


def built(cfg):
    cfg = copy.deepcopy(cfg)
    return (CustomTextCLIP if cfg.pop("custom_text", False) else CLIP)(**cfg, cast_dtype=None)


def randomize(model, seed):
    """Weights of the size that trained ones have; every norm, bias and position shows."""
    generator = torch.Generator().manual_seed(seed)

    def normal(value, mean, std):
        value.copy_(mean + std * torch.randn(value.shape, generator=generator))

    norms = {path for path, module in model.named_modules() if "norm" in type(module).__name__.lower()}
    with torch.no_grad():
        for path, value in model.named_parameters():
            owner, _, leaf = path.rpartition(".")
            if path in ("logit_scale", "logit_bias"):
                value.fill_(2.5)
            elif owner in norms:
                normal(value, 1.0 if leaf == "weight" else 0.0, 0.2)
            elif "gamma" in leaf:
                normal(value, 0.6, 0.2)
            elif value.ndim < 2:
                normal(value, 0.0, 0.2)
            elif "pos" in leaf or "token" in path or leaf == "latent":
                normal(value, 0.0, 0.5)
            elif leaf in ("proj", "text_projection"):
                normal(value, 0.0, value.shape[0] ** -0.5)
            else:
                normal(value, 0.0, (1.4 if value.ndim == 4 or "qkv" in path or "in_proj" in path else 1.0) * value[0].numel() ** -0.5)
    return model


def pictures(size):
    """Noise over coarse shapes, each of its own brightness."""
    generator = torch.Generator().manual_seed(3)

    def uniform(most, *shape):
        return most * (2 * torch.rand(4, *shape, generator=generator) - 1)

    coarse = torch.nn.functional.interpolate(uniform(2, 3, 3, 3), size=size, mode="bicubic")
    return coarse + uniform(1, 3, *size) + uniform(0.5, 3, 1, 1)


def rows(cfg, length):
    """Token ids as the configuration's tokenizer makes them, texts of several lengths."""
    name = cfg["text_cfg"].get("hf_tokenizer_name", "")
    start, end, pad = WORDS - 2, WORDS - 1, 0
    for part, ids in [("SigLIP2", (None, 1, 0)), ("SigLIP", (None, 1, 1)), ("mt5", (None, 1, 0)), ("xlm", (0, 2, 1)), ("bert", (101, 0, 0))]:
        if part in name:
            start, end, pad = ids
            break
    random = np.random.default_rng(5)
    out = np.full((4, length), pad, np.int64)
    for row, count in enumerate([2, length, length // 2, 5]):
        out[row, :count] = random.integers(104, WORDS - 2, count)
        if start is not None:
            out[row, 0] = start
        out[row, count - 1] = end
    return torch.from_numpy(out)


def write(folder, name):
    """The folder of a model, and its embeddings; which size it has, in words."""
    whole = open_clip.get_model_config(name)
    cfg = small(name, whole)
    model = randomize(built(cfg), zlib.crc32(name.encode())).eval()
    side = model.visual.image_size
    size = tuple(side) if isinstance(side, (tuple, list)) else (side, side)
    image = pictures(size)
    ids = rows(cfg, cfg["text_cfg"].get("context_length", 77))
    out = {"image": image.numpy(), "tokens": ids.numpy()}
    with torch.no_grad():
        for tower, encode, inputs in [("image", model.encode_image, image), ("text", model.encode_text, ids)]:
            out[f"{tower}_embedding"] = encode(inputs).numpy()
            out[f"{tower}_embedding_normalized"] = encode(inputs, normalize=True).numpy()
    np.savez(folder / "reference.npz", **out)
    save_file({key: value.contiguous().clone() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": {}}))
    return "image tower whole, text two layers" if "timm_model_name" in whole["vision_cfg"] else "two layers"


def measured(binary, name):
    whole = open_clip.get_model_config(name)
    if "timm_model_name" in whole["vision_cfg"]:
        parameters = sum(p.numel() for p in build_without_storage(whole).visual.parameters())
        if "fastvit" in whole["vision_cfg"]["timm_model_name"]:
            return "names and shapes; small fixtures in tests", "—"
        if parameters > LARGEST:
            return "names and shapes; small fixtures in tests", "—"
    with tempfile.TemporaryDirectory(prefix="registry-") as scratch:
        folder = pathlib.Path(scratch)
        size = write(folder, name)
        command = [binary, "--no-settings", "export", folder, "--out", folder / "out", "--no-hash"]
        done = subprocess.run([*command, "--reference", folder / "reference.npz"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stdout[-600:]}{done.stderr[-600:]}")
        report = json.loads((folder / "out/report.json").read_text())
    worst = max(found["relative_error"] for found in entries(report))
    return size, f"{worst:.1e}"


def entries(value):
    """All parts of the report that have a relative error."""
    if isinstance(value, dict):
        if isinstance(value.get("relative_error"), float):
            yield value
        for inner in value.values():
            yield from entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from entries(inner)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = [line.split("\t") for line in (ROOT / "src/config/registry.tsv").read_text().splitlines()[1:]]
    lines = [
        "# open_clip's registry", "",
        "Every configuration of open_clip 3.3, and whether a folder as its repository is (`open_clip_config.json` and weights) is exported.",
        "`clip-onnx models --open-clip` lists the published weights of each. A test opens all of them with their real names and shapes.", "",
        f"Relative error against open_clip, float32, the larger of both towers · `scripts/check_registry.py` · Measured {datetime.date.today()}", "",
        "| configuration | published weights | exported | compared with | relative error |", "|---|---:|---|---|---:|",
    ]
    for name, lacks, weights in known:
        if args.names and name not in args.names:
            continue
        size, error = ("—", "—") if lacks else measured(args.binary.resolve(), name)
        state = f"no: {lacks}" if lacks else "yes"
        lines.append(f"| `{name}` | {len(weights.split())} | {state} | {size} | {error} |")
        print(lines[-1], flush=True)
    covered = [row for row in known if not row[1]]
    lines += ["", f"{len(covered)} of {len(known)} configurations, {sum(len(row[2].split()) for row in covered)} of "
              f"{sum(len(row[2].split()) for row in known)} published weights."]
    if not args.names:
        (ROOT / "docs/registry.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
