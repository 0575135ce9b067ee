"""What Pillow makes of the pictures of web/test/unit/pictures.js: all rows of web/test/data/resize.json but those of
TensorFlow's way, which is not Pillow's and stay as they are.

    pip install numpy pillow
    python scripts/make_resize.py
"""
import json
import pathlib

import numpy as np
from PIL import Image

DATA = pathlib.Path(__file__).resolve().parent.parent / "web/test/data/resize.json"


def picture(height, width, channels):
    """By the same rule as there: half noise, half a ramp."""
    state = height * 1000 + width * 10 + channels
    values = np.zeros((height * width, channels), int)
    for at in range(values.size):
        state = (state * 1664525 + 1013904223) % 2**32
        noise, pixel = state >> 24, at // channels
        ramp = (pixel % width) * 255 // width
        values[pixel, at % channels] = (noise + ramp) // 2 + (60 if noise > 200 else 0)
    return Image.fromarray(values.clip(0, 255).reshape(height, width, channels).astype(np.uint8))


def main():
    rows = json.loads(DATA.read_text())
    ways = {row["way"] for row in rows}
    sizes = [(row["from"], row["to"]) for row in rows if row["way"] == "bicubic"]
    # The filters that image processors name by a number alone.
    new = [way for way in ("nearest", "lanczos", "box", "hamming") if way not in ways]
    rows += [{"from": of, "to": to, "way": way, "bytes": ""} for way in new for of, to in sizes]
    for row in rows:
        if row["way"] != "tensorflow":
            way = Image.Resampling[row["way"].upper()]
            resized = picture(*row["from"]).resize(row["to"][::-1], way)
            row["bytes"] = resized.convert("RGB").tobytes().hex()
    DATA.write_text("[\n  " + ",\n  ".join(json.dumps(row).replace("{", "{ ").replace("}", " }") for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
