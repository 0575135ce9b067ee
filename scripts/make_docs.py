"""Writes docs/models.md from models/, and docs/cli.md from the program's own help.

    python scripts/make_docs.py [--binary target/release/clip-onnx] [--check]

`--check` writes nothing, and fails where a page is not what would be written.
"""
import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Who publishes a model and in which form, by the beginning of its name; the first that fits. Licences of the weights are
# in models/, null where publishers of one architecture differ.
PUBLISHERS = [
    ("ViT-B-16-SigLIP-i18n", "Google, big_vision", "`webli_i18n_*.npz`"),
    ("ViT-SO400M-16-SigLIP-i18n", "Google, big_vision", "`webli_i18n_*.npz`"),
    (".*SigLIP2.*NaFlex", "Google, big_vision", "`siglip2_*_naflex.npz`"),
    (".*SigLIP2", "Google, big_vision", "`siglip2_*.npz`"),
    (".*SigLIP", "Google, big_vision", "`webli_en_*.npz`"),
    ("MobileCLIP2", "Apple", "open_clip"),
    ("MobileCLIP-(S3|S4|L)", "Apple", "open_clip"),
    ("MobileCLIP", "Apple", "`mobileclip_*.pt`, open_clip"),
    ("LongCLIP", "Long-CLIP's authors", "`longclip-*.pt`"),
    ("EVA02", "BAAI", "open_clip"),
    (".*-quickgelu", "OpenAI, Apple (DFN), Meta", "OpenAI, open_clip, transformers"),
    ("ViT", "LAION and others", "open_clip, transformers"),
]

COMMANDS = ["export", "verify", "bench", "embed", "classify", "convert", "inspect", "models", "completions", "man"]


def side(value):
    return "any" if value is None else str(value[0]) if value[0] == value[1] else f"{value[0]}×{value[1]}"


def parameters(name):
    """Millions of parameters, from the list of tensors that tests compare with."""
    file = ROOT / "tests/keys" / f"{name}.txt"
    if not file.exists():
        return "—"
    total = 0
    for line in file.read_text().splitlines():
        axes = line.split(" ")[1]
        total += math.prod(int(axis) for axis in axes.split(",")) if axes else 1
    return f"{total / 1e6:.0f}"


def models():
    out = [
        "# Models", "",
        "A model is found by its configuration beside the weights, or by the names and shapes of its tensors.",
        "`clip-onnx models` prints this list; `--model NAME` chooses one where several have the same names and shapes.", "",
        "Made by `scripts/make_docs.py` from `models/`.", "",
    ]
    by_family = {}
    for file in sorted((ROOT / "models").glob("*.json")):
        config = json.loads(file.read_text())
        by_family.setdefault(config["family"], []).append(config)
    titles = {"siglip": "SigLIP", "siglip2": "SigLIP 2", "clip": "CLIP", "mobileclip": "MobileCLIP", "mobileclip2": "MobileCLIP2"}
    for family, configs in by_family.items():
        out += [f"## {titles.get(family, family)}", ""]
        out += ["| name | published by | form | M parameters | image | context | width | licence | dialects |",
                "|---|---|---|---|---|---|---|---|---|"]
        for config in configs:
            name = config["model"]
            who, file = next(((who, file) for start, who, file in PUBLISHERS if re.match(start, name)), (None, None))
            if who is None:
                sys.exit(f"{name}: add who publishes it to PUBLISHERS")
            size = config["vision_cfg"].get("image_size")
            dialects = ", ".join([config["dialect"], *config.get("dialects", {})])
            out.append(f"| `{name}` | {who} | {file} | {parameters(name)} | {side(size)} | {config['text_cfg']['context_length']} "
                       f"| {config['embed_dim']} | {config['license'] or '—'} | {dialects} |")
        out.append("")
    out += [
        "A dash stands for a licence that differs between the publishers of one architecture. It is then not written into",
        "the files.", "",
        "## Other sizes", "",
        "A folder with `config.json` or `open_clip_config.json` may have any sizes, and one tower alone. So may a JSON of the form of",
        "`models/`, named with `--config`. [What a checkpoint may be](checkpoints.md) says what is followed.", "",
        "## What is read", "",
        "| form | details |", "|---|---|",
        "| `.npz` | big_vision's, per block or stacked (`nn.scan`), under `params/`, `opt/target/` or neither; float16, bfloat16, float32, float64; with optimizer state |",
        "| `.pt`, `.pth`, `.bin` | PyTorch's zip files, TorchScript archives, files of before 1.6; under `state_dict` and other keys, inside of other modules, beside optimizer state |",
        "| `.safetensors` | one file, or shards with their index |",
        "| a folder | the checkpoint in it, and the configuration, tokenizer and preprocessing files beside it |",
    ]
    return "\n".join(out) + "\n"


def cli(binary):
    env = {**os.environ, "COLUMNS": "80"}

    def said(*words):
        return subprocess.run([binary, *words], capture_output=True, text=True, check=True, env=env, cwd=ROOT).stdout.rstrip()

    out = ["# Command line", "", "What `--help` prints. Made by `scripts/make_docs.py`.", "", "```text", said("--help"), "```", ""]
    for command in COMMANDS:
        out += [f"## clip-onnx {command}", "", "```text", said(command, "--help"), "```", ""]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    differ = []
    for path, text in [("docs/models.md", models()), ("docs/cli.md", cli(args.binary.resolve()))]:
        file = ROOT / path
        if args.check:
            differ += [] if file.exists() and file.read_text() == text else [path]
        else:
            file.write_text(text)
    if differ:
        sys.exit(f"{', '.join(differ)}: not what scripts/make_docs.py writes; run it")


if __name__ == "__main__":
    main()
