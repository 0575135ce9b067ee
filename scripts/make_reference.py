"""Reference embeddings for a checkpoint you have, by code that is not clip-onnx.

    pip install torch open_clip_torch transformers numpy
    python scripts/make_reference.py webli_en_b16_224_63724782.npz --model ViT-B-16-SigLIP -o reference.npz
    clip-onnx export webli_en_b16_224_63724782.npz --out siglip --reference reference.npz

CHECKPOINT is what open_clip loads as --model: a big_vision .npz (read by open_clip's own
`load_big_vision_weights`), a .safetensors or a .pt; or, without --model, a folder in
transformers' format. `--dialect original` (the default for .npz) runs every GELU of a SigLIP
model as its authors do, with the tanh approximation; `--dialect open_clip` leaves open_clip as
it is. Models open_clip has no name for take `--config FILE`, of the form of models/*.json.

Inputs are random unless photographs are given with --image; they are stored as the tower takes
them, so clip-onnx needs neither the photographs nor the preprocessing. Token rows are random ids
with the end token and padding where the tokenizer would put them.
"""
import argparse
import json
import math
import pathlib

import numpy as np
import torch

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"


def from_config(config):
    """A SigLIP-style CustomTextCLIP of any dims, which open_clip's own names do not cover."""
    import functools

    import open_clip
    from open_clip.transformer import TextTransformer
    from timm.models.vision_transformer import VisionTransformer

    v, t, embed = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    small = dict(embed_dim=8, custom_text=True, init_logit_bias=-10 if config["logit_bias"] else None)
    visual = dict(image_size=32, timm_model_name="vit_tiny_patch16_224", timm_model_pretrained=False,
                  timm_pool="", timm_proj="linear")
    text = dict(context_length=8, vocab_size=16, width=8, heads=1, layers=1, proj_bias=True, no_causal_mask=True,
                pool_type="last")
    model = open_clip.model.CustomTextCLIP(
        8, visual, text, init_logit_bias=small["init_logit_bias"])
    act = {"gelu": "gelu", "gelu_tanh": "gelu_tanh"}
    model.visual.trunk = VisionTransformer(
        img_size=tuple(v["image_size"]), patch_size=v["patch_size"], embed_dim=v["width"], depth=v["layers"],
        num_heads=v["heads"], mlp_ratio=v["mlp_dim"] / v["width"], class_token=False, global_pool="map",
        num_classes=0, act_layer=act[v["act"]],
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=v["norm_eps"]))
    head = torch.nn.Sequential()
    if v["proj"] == "linear":
        head.add_module("proj", torch.nn.Linear(v["width"], embed, bias=v["proj_bias"]))
    model.visual.head = head
    model.visual.image_size = tuple(v["image_size"])
    act_layer = functools.partial(torch.nn.GELU, approximate="tanh" if t["act"] == "gelu_tanh" else "none")
    model.text = TextTransformer(
        context_length=t["context_length"], vocab_size=t["vocab_size"], width=t["width"], heads=t["heads"],
        layers=t["layers"], mlp_ratio=t["mlp_dim"] / t["width"], output_dim=embed,
        no_causal_mask=t["no_causal_mask"], pool_type=t["pool_type"], proj_bias=t["proj_bias"],
        proj_type="linear" if t["proj"] == "linear" else "none", act_layer=act_layer,
        norm_layer=functools.partial(open_clip.transformer.LayerNorm, eps=t["norm_eps"]))
    return model


def as_the_authors_run_it(model):
    """SigLIP in big_vision: Flax's gelu, which is the tanh approximation, everywhere."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child).__name__.startswith("GELU"):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))


def tokens(config, rows, rng):
    t = config["text_cfg"]
    length = t["context_length"]
    out = np.full((rows, length), t["pad_id"], np.int64)
    for row in range(rows):
        words = [1, length][row] if row < 2 else int(rng.integers(2, length + 1))
        words = max(words, 2 if t["sot_id"] is not None else 1)
        out[row, :words] = rng.integers(2, t["vocab_size"] - 2, words)
        if t["sot_id"] is not None:
            out[row, 0] = t["sot_id"]
        out[row, words - 1] = t["eot_id"]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--model", help="open_clip's name of the model; the name in models/ too")
    parser.add_argument("--config", type=pathlib.Path, help="instead of --model: dims of a model without a name")
    parser.add_argument("--dialect", choices=["original", "open_clip"])
    parser.add_argument("--image", nargs="*", default=[], help="photographs instead of noise")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)

    if args.checkpoint.is_dir():
        reference = by_transformers(args, rng)
    else:
        reference = by_open_clip(args, rng)
    np.savez_compressed(args.out, **reference)
    print(f"{args.out}: " + ", ".join(f"{k} {list(v.shape)}" for k, v in reference.items()))


def pixels(args, size, preprocess, rng):
    if args.image:
        from PIL import Image

        return torch.stack([preprocess(Image.open(path).convert("RGB")) for path in args.image])
    return torch.from_numpy(rng.uniform(-1, 1, (args.rows, 3, *size)).astype(np.float32))


def by_open_clip(args, rng):
    import open_clip

    npz = args.checkpoint.suffix == ".npz"
    dialect = args.dialect or ("original" if npz else "open_clip")
    preprocess = None
    if args.config:
        config = json.loads(args.config.read_text())
        model = from_config(config)
        if npz:
            open_clip.convert.load_big_vision_weights(model, str(args.checkpoint))
        else:
            from safetensors.torch import load_file

            print(model.load_state_dict(load_file(args.checkpoint), strict=True))
    else:
        config = json.loads((MODELS / f"{args.model}.json").read_text())
        model, _, preprocess = open_clip.create_model_and_transforms(args.model, pretrained=str(args.checkpoint))
        # open_clip rounds the ratio 4304 / 1152 when it makes the text MLP; the weights decide.
    if dialect == "original":
        as_the_authors_run_it(model)
    model.eval()
    size = model.visual.image_size
    size = size if isinstance(size, tuple) else (size, size)
    image = pixels(args, size, preprocess, rng)
    ids = tokens(config, args.rows, rng)
    with torch.no_grad():
        zi = model.encode_image(image).numpy()
        zt = model.encode_text(torch.from_numpy(ids)).numpy()
    bias = getattr(model, "logit_bias", None)
    return pack(image.numpy(), ids, zi, zt, float(model.logit_scale), None if bias is None else float(bias))


def by_transformers(args, rng):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    vision, text = model.config.vision_config, model.config.text_config
    eot = text.eos_token_id
    if model.config.model_type != "clip":
        eot = 1  # the configuration carries CLIP's ids, which the model does not look at
    elif eot == 2:
        eot = text.vocab_size - 1  # the ids of old: the largest one ends a row
    config = {"text_cfg": dict(context_length=text.max_position_embeddings, vocab_size=text.vocab_size,
                               pad_id=text.pad_token_id, sot_id=None, eot_id=eot)}
    ids = tokens(config, args.rows, rng)

    def embedding(output):
        return getattr(output, "pooler_output", output).numpy()

    bias = getattr(model, "logit_bias", None)
    extra, image = {}, None
    with torch.no_grad():
        if model.config.model_type == "siglip2":
            extra, feeds = naflex(args.rows, vision.num_patches, vision.patch_size, rng)
        else:
            image = pixels(args, (vision.image_size, vision.image_size), None, rng)
            feeds = dict(pixel_values=image)
        zi = embedding(model.get_image_features(**feeds))
        zt = embedding(model.get_text_features(input_ids=torch.from_numpy(ids)))
    out = pack(None if image is None else image.numpy(), ids, zi, zt, float(model.logit_scale),
               None if bias is None else float(bias))
    return {**out, **extra}


def naflex(rows, places, patch, rng):
    """Patches of images of several shapes: as our graph takes them, and as transformers does."""
    side = int(places ** 0.5)
    shapes = np.array([(side, side), (side - 1, side + 1), (side // 2, side * 2), (1, side - 1)], np.int64)
    shapes = shapes[np.arange(rows) % len(shapes)]
    inside = np.arange(places)[None] < shapes.prod(1)[:, None]
    patches = rng.uniform(-1, 1, (rows, places, patch * patch * 3)).astype(np.float32) * inside[:, :, None]
    at = np.arange(places)[None].repeat(rows, 0)
    ours = dict(naflex_patches=patches, naflex_type=inside.astype(np.int32),
                naflex_y=np.where(inside, at // shapes[:, 1:], 0).astype(np.int32),
                naflex_x=np.where(inside, at % shapes[:, 1:], 0).astype(np.int32))
    theirs = dict(pixel_values=torch.from_numpy(patches), pixel_attention_mask=torch.from_numpy(inside.astype(np.int64)),
                  spatial_shapes=torch.from_numpy(shapes))
    return ours, theirs


def pack(image, ids, zi, zt, logit_scale, logit_bias):
    unit = [z / np.linalg.norm(z, axis=-1, keepdims=True) for z in (zi.astype(np.float64), zt.astype(np.float64))]
    scale = math.exp(logit_scale)
    logits = scale * unit[0] @ unit[1].T + (logit_bias or 0.0)
    out = dict(tokens=ids, image_embedding=zi, text_embedding=zt,
               image_embedding_normalized=unit[0], text_embedding_normalized=unit[1], logits_per_image=logits,
               logit_scale=np.array(logit_scale), logit_scale_exp=np.array(scale))
    if image is not None:
        out["image"] = image
    if logit_bias is not None:
        out["logit_bias"] = np.array(logit_bias)
    return {k: v if v.dtype.kind == "i" else np.asarray(v, np.float32) for k, v in out.items()}


if __name__ == "__main__":
    main()
