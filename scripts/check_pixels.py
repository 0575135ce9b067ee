"""`clip-onnx embed` beside transformers' and open_clip's own processors, over a grid of settings.

    pip install torch torchvision transformers open_clip_torch timm safetensors numpy pillow
    python scripts/check_pixels.py [--binary target/release/clip-onnx]

Small models of random weights; for each setting a folder whose files say so is exported, photographs of several shapes
are embedded from their files, and the embeddings compared with those of the same weights in torch, fed by the library's
own processor. The error is the largest absolute difference over the RMS of the reference. transformers' processors are
run on Pillow and on torchvision, whose bytes may differ by one from Pillow's; open_clip's and timm's are Pillow's.
Exits 1 where something is beyond its bound, or is refused that a processor takes.
"""
import argparse
import itertools
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import open_clip
import torch
from make_cases import photo, towers, unit, widened
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from transformers import CLIPImageProcessor, CLIPImageProcessorPil, SiglipImageProcessor, SiglipImageProcessorPil

ROOT = pathlib.Path(__file__).resolve().parent.parent
PILLOW = 2e-5
# One step of a byte, in all of a small picture's pixels at worst.
TORCHVISION = 0.1
SIZES = [(50, 90), (90, 51), (33, 32), (20, 64), (32, 32), (50, 100)]


def photos(folder):
    out = []
    for at, size in enumerate(SIZES):
        out.append(folder / f"{at}.png")
        photo(size, at).save(out[-1])
    transparent = photo((61, 40), 9)
    transparent.putalpha(Image.fromarray(np.linspace(0, 255, 61 * 40).reshape(40, 61).astype(np.uint8)))
    out.append(folder / "alpha.png")
    transparent.save(out[-1])
    return out


def embedded(binary, model, scratch, pictures):
    """Embeddings by the tool; its refusal where it refuses."""
    out = scratch / "out"
    ran = subprocess.run([binary, "export", model, "--out", out, "--force", "--no-verify", "--no-hash"], capture_output=True, text=True)
    if ran.returncode != 0:
        return ran.stderr.strip()
    rows = scratch / "rows.npy"
    line = [binary, "embed", out, "--image", *pictures, "--out", rows, "--force", "--engine", "tract"]
    ran = subprocess.run(line, capture_output=True, text=True)
    return np.load(rows) if ran.returncode == 0 else ran.stderr.strip()


def error(got, want):
    return float(np.abs(got - want).max() / np.sqrt((want.astype(np.float64) ** 2).mean()))


def transformers_settings():
    """Fields of image processors of CLIP (a crop follows) and of SigLIP (none does), for towers of 32 pixels."""
    means = [dict(), dict(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]), dict(do_normalize=False)]
    scales = [dict(), dict(do_rescale=False), dict(rescale_factor=2 / 255)]
    sizes = [{"shortest_edge": 32}, {"shortest_edge": 40}, {"height": 40, "width": 36}, {"shortest_edge": 34, "longest_edge": 50}]
    for resample, size, mean in itertools.product(range(6), sizes, means):
        yield "clip", dict(resample=resample, size=size, crop_size={"height": 32, "width": 32}, **mean)
    for resample, scale, mean in itertools.product(range(6), scales, means):
        yield "siglip", dict(resample=resample, size={"height": 32, "width": 32}, **scale, **mean)
    for scale, mean in itertools.product(scales, means):
        yield "clip", dict(do_resize=False, crop_size=32, **scale, **mean)
        yield "clip", dict(do_center_crop=False, size={"height": 32, "width": 32}, resample=2, **scale, **mean)


def open_clip_settings():
    numbers = [dict(), dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])]
    for size, mode, filter, fill, more in itertools.product([32, (32, 48)], ["shortest", "longest", "squash"], ["bicubic", "bilinear"], [0, 200], numbers):
        yield size, dict(resize_mode=mode, interpolation=filter, fill_color=fill, **more)


def timm_settings():
    for mode, pct, filter in itertools.product(["center", "squash", "border"], [0.8, 0.95, 1.0], ["bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"]):
        yield dict(input_size=[3, 32, 32], crop_mode=mode, crop_pct=pct, interpolation=filter, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])


def rgb(path, convert):
    picture = Image.open(path)
    return picture.convert("RGB") if convert else picture


def check_transformers(binary, scratch, pictures):
    models = {}
    for kind in ("clip", "siglip"):
        models[kind] = widened(towers(kind))
        models[kind].save_pretrained(scratch / kind)
    classes = {"clip": (CLIPImageProcessorPil, CLIPImageProcessor), "siglip": (SiglipImageProcessorPil, SiglipImageProcessor)}
    for kind, fields in transformers_settings():
        on_pillow, on_torchvision = (made(**fields) for made in classes[kind])
        on_torchvision.save_pretrained(scratch / kind)
        model = models[kind]

        def features(processor):
            rows = []
            for path in pictures:
                pixels = processor(images=rgb(path, False), return_tensors="pt")["pixel_values"].float()
                rows.append(unit(model.get_image_features(pixel_values=pixels))[0])
            return np.stack(rows)

        found = embedded(binary, scratch / kind, scratch, pictures)
        yield f"transformers on Pillow, {kind}", fields, found, features(on_pillow), PILLOW
        # torchvision has no box and no hamming for tensors, and its nearest pixel is another one than Pillow's where the
        # middle of a pixel falls between two.
        # Where an odd number of pixels is filled up, its odd one is on the other side.
        if fields.get("resample") not in (0, 4, 5) and "longest_edge" not in fields.get("size", {}):
            yield f"transformers on torchvision, {kind}", fields, found, features(on_torchvision), TORCHVISION


def native(size):
    torch.manual_seed(3)
    config = {"embed_dim": 12, "vision_cfg": {"image_size": size, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
              "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}}
    return widened(open_clip.CLIP(**json.loads(json.dumps(config))).eval()), config


def check_open_clip(binary, scratch, pictures):
    for size, fields in open_clip_settings():
        model, config = native(size)
        folder = scratch / "open_clip"
        folder.mkdir(exist_ok=True)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": fields}))
        transform = open_clip.transform.image_transform(
            size, is_train=False, **{k: v for k, v in fields.items()})
        want = np.stack([unit(model.encode_image(transform(Image.open(path))[None]))[0] for path in pictures])
        yield "open_clip", dict(size=size, **fields), embedded(binary, folder, scratch, pictures), want, PILLOW


def check_timm(binary, scratch, pictures):
    model, config = native(32)
    folder = scratch / "timm"
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    for fields in timm_settings():
        (folder / "config.json").write_text(json.dumps({"architecture": "vit", "pretrained_cfg": fields}))
        transform = create_transform(**resolve_data_config(pretrained_cfg=dict(fields)))
        want = np.stack([unit(model.encode_image(transform(rgb(path, True))[None]))[0] for path in pictures])
        yield "timm", fields, embedded(binary, folder, scratch, pictures), want, PILLOW


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    binary = parser.parse_args().binary.resolve()
    worst, count, failed = {}, {}, 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        pictures = photos(scratch)
        for check in (check_transformers, check_open_clip, check_timm):
            for what, fields, found, want, bound in check(binary, scratch, pictures):
                figure = error(found, want) if isinstance(found, np.ndarray) else float("inf")
                worst[what], count[what] = max(worst.get(what, 0), figure), count.get(what, 0) + 1
                if figure > bound:
                    failed += 1
                    said = found if isinstance(found, str) else f"{figure:.1e} (allowed {bound:.0e})"
                    print(f"FAIL {what} {json.dumps(fields)}: {said}")
    for what, figure in worst.items():
        print(f"{what}: {count[what]} settings, worst {figure:.1e}")
    print(f"{sum(count.values()) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
