"""Prints tests/resample_values.in: a small grid resampled by the code each rule is named after.

    python scripts/resample_values.py > tests/resample_values.in      (numpy, scipy, torch)
"""
import numpy as np
import torch
from scipy.ndimage import zoom

grid = np.arange(12, dtype=np.float32).reshape(3, 4)
grid[1, 1] += 3

def torch_resample(mode, to, antialias=True):
    out = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None], size=to, mode=mode, antialias=antialias, align_corners=False)
    return out[0, 0].numpy()

RULES = {
    "CornerAligned": lambda to: zoom(grid, (to[0] / 3, to[1] / 4), order=1),
    "AntialiasedBilinear": lambda to: torch_resample("bilinear", to),
    "AntialiasedBicubic": lambda to: torch_resample("bicubic", to),
    "Bicubic": lambda to: torch_resample("bicubic", to, antialias=False),
}
print("[")
for rule, resample in RULES.items():
    for to in [(5, 7), (2, 3), (6, 2), (1, 4), (3, 9)]:
        values = resample(to)
        assert values.shape == to
        print(f"    (Rule::{rule}, {list(to)}, vec![{', '.join(np.format_float_positional(v, trim='0') for v in values.ravel())}f32]),")
print("]")
