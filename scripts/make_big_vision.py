"""Writes a full-size checkpoint of random weights in the form Google publishes SigLIP in.

    python scripts/make_big_vision.py ViT-B-16-SigLIP -o /tmp/b16.npz        (numpy)
    python scripts/make_big_vision.py ViT-B-16-SigLIP --keys                 (names and shapes only)
    python scripts/make_big_vision.py --all-keys tests/keys                  (one list per model)

Names and shapes follow models/<name>.json; values are normal, scaled so that activations stay
near 1 through all layers, with every bias, gain and position non-trivial.
"""
import argparse
import json
import pathlib
import zipfile

import numpy as np

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"


def block(at, d, heads, mlp):
    hd = d // heads
    for ln in ("LayerNorm_0", "LayerNorm_1"):
        yield f"{at}{ln}/scale", (d,)
        yield f"{at}{ln}/bias", (d,)
    yield from attention(at, d, heads)
    yield from dense(at, d, mlp)


def attention(at, d, heads):
    hd = d // heads
    for n in ("query", "key", "value"):
        yield f"{at}MultiHeadDotProductAttention_0/{n}/kernel", (d, heads, hd)
        yield f"{at}MultiHeadDotProductAttention_0/{n}/bias", (heads, hd)
    yield f"{at}MultiHeadDotProductAttention_0/out/kernel", (heads, hd, d)
    yield f"{at}MultiHeadDotProductAttention_0/out/bias", (d,)


def dense(at, d, mlp):
    yield f"{at}MlpBlock_0/Dense_0/kernel", (d, mlp)
    yield f"{at}MlpBlock_0/Dense_0/bias", (mlp,)
    yield f"{at}MlpBlock_0/Dense_1/kernel", (mlp, d)
    yield f"{at}MlpBlock_0/Dense_1/bias", (d,)


def encoder(at, c, stacked):
    if stacked:
        for name, shape in block("", c["width"], c["heads"], c["mlp_dim"]):
            yield f"{at}encoderblock/{name}", (c["layers"], *shape)
    else:
        for i in range(c["layers"]):
            yield from block(f"{at}encoderblock_{i}/", c["width"], c["heads"], c["mlp_dim"])
    yield f"{at}encoder_norm/scale", (c["width"],)
    yield f"{at}encoder_norm/bias", (c["width"],)


def keys(config, stacked=False, prefix=""):
    """(name, shape) of every tensor, in the order they are written."""
    v, t = config["vision_cfg"], config["text_cfg"]
    d, p = v["width"], v["patch_size"]
    yield f"{prefix}t", (1,)
    if config["logit_bias"]:
        yield f"{prefix}b", (1,)
    at = f"{prefix}img/"
    if v["model_type"] == "naflexvit":
        yield f"{at}embedding/kernel", (p * p * 3, d)
        yield f"{at}pos_embedding", (*v["pos_grid"], d)
    else:
        h, w = (n // p for n in v["image_size"])
        yield f"{at}embedding/kernel", (p, p, 3, d)
        yield f"{at}pos_embedding", (1, h * w, d)
    yield f"{at}embedding/bias", (d,)
    yield from encoder(f"{at}Transformer/", v, stacked)
    yield f"{at}MAPHead_0/probe", (1, 1, d)
    yield from attention(f"{at}MAPHead_0/", d, v["map_heads"])
    yield f"{at}MAPHead_0/LayerNorm_0/scale", (d,)
    yield f"{at}MAPHead_0/LayerNorm_0/bias", (d,)
    yield from dense(f"{at}MAPHead_0/", d, v["map_mlp_dim"])
    if v["proj"] == "linear":
        yield f"{at}head/kernel", (d, config["embed_dim"])
        yield f"{at}head/bias", (config["embed_dim"],)
    at = f"{prefix}txt/"
    yield f"{at}Embed_0/embedding", (t["vocab_size"], t["width"])
    yield f"{at}pos_embedding", (1, t["context_length"], t["width"])
    yield from encoder(f"{at}Encoder_0/", t, stacked)
    if t["proj"] == "linear":
        yield f"{at}head/kernel", (t["width"], config["embed_dim"])
        yield f"{at}head/bias", (config["embed_dim"],)


def values(name, shape, rng):
    leaf = name.rsplit("/", 1)[-1]
    if leaf == "t":
        return np.full(shape, np.log(100.0), np.float32)
    if leaf == "b":
        return np.full(shape, -12.0, np.float32)
    x = rng.standard_normal(shape, dtype=np.float32)
    if leaf == "scale":
        return 1 + 0.1 * x
    if leaf in ("bias", "pos_embedding", "embedding"):
        return 0.1 * x
    if leaf == "probe":
        return x
    stacked = "/encoderblock/" in name
    fan_in = np.prod(shape[stacked:-1]) if "/out/" in name or "embedding/" in name else shape[stacked]
    return x * np.float32(1 / np.sqrt(fan_in))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("-o", "--out", type=pathlib.Path)
    parser.add_argument("--stacked", action="store_true")
    parser.add_argument("--params", action="store_true", help="put everything under params/")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--compressed", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keys", action="store_true")
    parser.add_argument("--all-keys", type=pathlib.Path)
    args = parser.parse_args()

    def listing(config, stacked):
        prefix = "params/" if args.params or stacked else ""
        return "".join(f"{n} {','.join(map(str, s))}\n" for n, s in keys(config, stacked, prefix))

    if args.all_keys:
        args.all_keys.mkdir(exist_ok=True)
        for path in sorted(MODELS.glob("*SigLIP*.json")):
            config = json.loads(path.read_text())
            # SigLIP 2 is published with its blocks stacked.
            text = listing(config, config["family"] == "siglip2")
            (args.all_keys / f"{path.stem}.txt").write_text(text)
        return
    config = json.loads((MODELS / f"{args.model}.json").read_text())
    if args.keys:
        print(listing(config, args.stacked), end="")
        return
    rng = np.random.default_rng(args.seed)
    kind = zipfile.ZIP_DEFLATED if args.compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(args.out, "w", kind, allowZip64=True) as archive:
        for name, shape in keys(config, args.stacked, "params/" if args.params else ""):
            x = np.ascontiguousarray(values(name, shape, rng), np.float32)
            if args.dtype == "bfloat16":
                x = (x.view(np.uint32) >> 16).astype(np.uint16).view("V2")
            else:
                x = x.astype(args.dtype)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, x, allow_pickle=False)


if __name__ == "__main__":
    main()
