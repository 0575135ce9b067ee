"""Small pictures, and what open_clip's, transformers' and TensorFlow's ways make of them: what tests/suite/pixels.rs
holds ours to.

    pip install open_clip_torch transformers numpy pillow
    python scripts/make_pixels.py tests/pixels

Pictures are PNG, so that nothing depends on who decodes them. Expected bytes are stored as int32 `[H, W, 3]`
under `<picture>/<way>`; the ways are those of `WAYS`.
"""
import pathlib
import sys

import numpy as np
import open_clip
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode  # noqa: F401, what open_clip's transform needs

# name: resize_mode, interpolation, [height, width]
WAYS = {
    "shortest_bicubic_32": ("shortest", "bicubic", (32, 32)),
    "shortest_bilinear_32": ("shortest", "bilinear", (32, 32)),
    "shortest_bicubic_24x40": ("shortest", "bicubic", (24, 40)),
    "squash_bicubic_32": ("squash", "bicubic", (32, 32)),
    "squash_bicubic_96": ("squash", "bicubic", (96, 96)),
}


def picture(width, height, seed):
    """Something of a photograph: soft shapes, edges and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    out = np.zeros((height, width, 3))
    for channel in range(3):
        fx, fy, phase = rng.uniform(0.03, 0.4, 3)
        out[..., channel] = 120 + 90 * np.sin(fx * x + 6 * phase) * np.cos(fy * y)
    for _ in range(12):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(2, height / 3)
        out[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.uniform(0, 255, 3)
    return np.clip(out + rng.normal(0, 8, out.shape), 0, 255).astype(np.uint8)


def tensorflow_bilinear(image, size):
    """tf.image.resize(method="bilinear", antialias=False), cast to uint8 as big_vision's pp does."""
    x = torch.from_numpy(np.asarray(image.convert("RGB"))).permute(2, 0, 1)[None].float()
    y = torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=False)
    return y[0].permute(1, 2, 0).numpy().astype(np.uint8)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    rgb = picture(123, 77, 1)
    alpha = np.clip(picture(123, 77, 2)[..., :1].astype(int) * 2 - 100, 0, 255).astype(np.uint8)
    pictures = {
        "wide.png": Image.fromarray(rgb),
        "tall.png": Image.fromarray(picture(50, 201, 3)),
        "alpha.png": Image.fromarray(np.concatenate([rgb, alpha], 2)),
        "grey.png": Image.fromarray(rgb[..., 0]),
        "grey_alpha.png": Image.fromarray(np.concatenate([rgb[..., :1], alpha], 2)),
        "one.png": Image.fromarray(rgb[:1, :1]),
    }
    expected = {}
    for name, image in pictures.items():
        image.save(folder / name)
        image = Image.open(folder / name)
        for way, (mode, interpolation, size) in WAYS.items():
            transform = open_clip.transform.image_transform(
                size, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation)
            values = (transform(image) * 255).round().permute(1, 2, 0).numpy()
            expected[f"{name}/{way}"] = values.astype(np.int32)
        expected[f"{name}/tensorflow_32"] = tensorflow_bilinear(image, (32, 32)).astype(np.int32)
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    main()
