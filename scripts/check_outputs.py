"""`--outputs` and `--combined` beside transformers, open_clip and timm.

    pip install torch torchvision open_clip_torch transformers numpy onnxruntime
    cargo build --release
    python scripts/check_outputs.py                                  (the folders of tests/transformers)
    python scripts/check_outputs.py ViT-B-32=b32.safetensors MobileCLIP-S1=s1.safetensors

Of transformers' folders `last_hidden_state` of both towers, `patch_tokens`, and every output of `model.onnx`; of
open_clip's checkpoints (scripts/make_open_clip.py writes some) `patch_tokens`: open_clip's own tokens of a ViT,
timm's last feature map of FastViT, in float64. Largest difference over the RMS of what they give, and over its largest
value, which of whole maps is up to fifty times the RMS; exit status 1 where the latter, or of outputs [rows, columns] the
former, is beyond 2e-5.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/clip-onnx"
BOUND = 2e-5
worst = 0.0


def export(checkpoint, out, *flags):
    subprocess.run([BINARY, "export", checkpoint, "--out", out, "--no-verify", "--force", *flags], check=True, capture_output=True)


def run(path, feeds):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = {i.name: feeds[i.name] for i in session.get_inputs()}
    return dict(zip(names, session.run(None, taken)))


def compare(what, found, expected):
    global worst
    expected = expected.detach().numpy()
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    difference = float(np.abs(found - expected).max())
    over_rms = difference / float(np.sqrt((expected.astype(np.float64) ** 2).mean()))
    over_largest = difference / float(np.abs(expected).max())
    error = over_rms if found.ndim == 2 else over_largest
    worst = max(worst, error)
    print(f"{'ok  ' if error <= BOUND else 'FAIL'} {over_rms:8.2e} {over_largest:8.2e} {what} {list(found.shape)}")


def of_transformers(folder, out):
    import transformers

    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "siglip2":
        return  # NaFlex: patches of its own order
    model = transformers.AutoModel.from_pretrained(folder).eval()
    reference = np.load(folder / "reference.npz")
    pixels, ids = reference["image"], reference["tokens"].astype(np.int64)
    feeds = {"pixel_values": pixels, "input_ids": ids}
    with torch.no_grad():
        image = model.vision_model(torch.tensor(pixels))
        text = model.text_model(torch.tensor(ids))
        whole = model(input_ids=torch.tensor(ids), pixel_values=torch.tensor(pixels))
    export(folder, out, "--outputs", "last_hidden_state,patch_tokens")
    found = run(out / "vision_model.onnx", feeds)
    compare(f"{folder.name} image last_hidden_state", found["last_hidden_state"], image.last_hidden_state)
    if config["model_type"] == "clip":
        tokens = model.vision_model.post_layernorm(image.last_hidden_state)[:, 1:]
    else:
        tokens = image.last_hidden_state
    compare(f"{folder.name} patch_tokens", found["patch_tokens"], tokens)
    found = run(out / "text_model.onnx", feeds)
    compare(f"{folder.name} text last_hidden_state", found["last_hidden_state"], text.last_hidden_state)
    export(folder, out, "--combined", "--layout", "hf")
    found = run(out / "onnx/model.onnx", feeds)
    for name in ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"):
        compare(f"{folder.name} combined {name}", found[name], getattr(whole, name))


def of_open_clip(name, checkpoint, out):
    import open_clip

    model = open_clip.create_model(name, pretrained=checkpoint).eval().double()
    size = model.visual.image_size
    size = size if isinstance(size, (tuple, list)) else (size, size)
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        if hasattr(model.visual, "trunk"):
            tokens = model.visual.trunk.forward_features(pixels.double())
            tokens = tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens[:, model.visual.trunk.num_prefix_tokens:]
        else:
            model.visual.output_tokens = True
            _, tokens = model.visual(pixels.double())
    export(checkpoint, out, "--model", name, "--dialect", "open_clip", "--outputs", "patch_tokens")
    found = run(out / "vision_model.onnx", {"pixel_values": pixels.numpy()})
    compare(f"{name} patch_tokens", found["patch_tokens"], tokens)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "out"
        for folder in sorted((ROOT / "tests/transformers").iterdir()):
            of_transformers(folder, out)
        for name, _, checkpoint in (argument.partition("=") for argument in sys.argv[1:]):
            of_open_clip(name, checkpoint, out)
    sys.exit(1 if worst > BOUND else 0)


if __name__ == "__main__":
    main()
