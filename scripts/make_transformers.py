"""Writes transformers models of random weights as `save_pretrained` does, and their names.

    pip install torch transformers numpy safetensors
    python scripts/make_transformers.py --like ViT-B-32-quickgelu -o clip   (a full-size model, as a folder)
    python scripts/make_transformers.py --fixtures tests/transformers       (the small cases, with references)
    python scripts/make_transformers.py --all-keys tests/keys               (one list per model in models/)

`--like` takes any model of models/ that is a CLIP, SigLIP or SigLIP 2. References of the full-size
ones come from `scripts/make_reference.py`; the small cases carry theirs, by transformers' own code.
"""
import argparse
import json
import math
import pathlib

import make_reference
import numpy as np
import torch
from transformers import (CLIPConfig, CLIPModel, Siglip2Config, Siglip2Model, SiglipConfig, SiglipModel)

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
ACTS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}


def like(config):
    """transformers' class and configuration for one of models/*.json."""
    v, t = config["vision_cfg"], config["text_cfg"]
    act = {tower: ACTS[config["dialects"]["transformers"].get(tower, {}).get("act", config[tower]["act"])]
           for tower in ("vision_cfg", "text_cfg")}
    vision = dict(hidden_size=v["width"], intermediate_size=v["mlp_dim"], num_hidden_layers=v["layers"],
                  num_attention_heads=v["heads"], patch_size=v["patch_size"], hidden_act=act["vision_cfg"])
    text = dict(hidden_size=t["width"], intermediate_size=t["mlp_dim"], num_hidden_layers=t["layers"],
                num_attention_heads=t["heads"], max_position_embeddings=t["context_length"],
                vocab_size=t["vocab_size"], hidden_act=act["text_cfg"])
    if config["family"] == "clip":
        vision.update(image_size=v["image_size"][0], projection_dim=config["embed_dim"])
        text.update(projection_dim=config["embed_dim"], eos_token_id=t["eot_id"], bos_token_id=t["sot_id"])
        return CLIPModel, CLIPConfig(vision_config=vision, text_config=text, projection_dim=config["embed_dim"])
    text.update(projection_size=config["embed_dim"], pad_token_id=t["pad_id"])
    if v["model_type"] == "naflexvit":
        vision.update(num_patches=math.prod(v["pos_grid"]))
        return Siglip2Model, Siglip2Config(vision_config=vision, text_config=text)
    vision.update(image_size=v["image_size"][0])
    return SiglipModel, SiglipConfig(vision_config=vision, text_config=text)


def build(kind, config, seed=0):
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim <= 1 and "logit" not in name:
                p.normal_(1.0 if name.endswith("weight") else 0.0, 0.1)
            elif "logit" not in name:
                p.normal_(0.0, min(0.3, p.shape[-1] ** -0.5) if "embedding" not in name else 0.2)
        model.logit_scale.fill_(math.log(20.0))
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-3.0)
    return model


def reference(model, feeds, tokens, extra):
    """Embeddings and logits, by transformers; `feeds` is what its image tower takes."""

    def embedding(output):
        return getattr(output, "pooler_output", output).numpy()

    with torch.no_grad():
        zi = embedding(model.get_image_features(**feeds))
        zt = embedding(model.get_text_features(input_ids=torch.from_numpy(tokens)))
    bias = float(model.logit_bias) if hasattr(model, "logit_bias") else None
    image = None if extra else feeds["pixel_values"].numpy()
    return {**make_reference.pack(image, tokens, zi, zt, float(model.logit_scale), bias), **extra}


def clip_tokens(rng, rows, length, vocab):
    ids = np.zeros((rows, length), np.int64)
    for row, end in zip(ids, [1, length - 1, *rng.integers(2, length - 1, rows - 2)]):
        row[1:end] = rng.integers(3, vocab - 2, end - 1)
        row[0], row[end] = vocab - 2, vocab - 1
    return ids


def fixtures(out):
    rng = np.random.default_rng(0)
    dims = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4)
    image = rng.uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32)
    text = dict(**dims, vocab_size=300, max_position_embeddings=16)
    siglip_tokens = rng.integers(2, 300, (5, 16)).astype(np.int64)

    def save(name, kind, config, tokens, feeds=dict(pixel_values=torch.from_numpy(image)), extra={}, **how):
        model = build(kind, config)
        model.save_pretrained(out / name, **how)
        np.savez_compressed(out / name / "reference.npz", **reference(model, feeds, tokens, extra))

    # The first end token, which is not the largest id.
    clip = dict(vision_config=dict(**dims, image_size=32, patch_size=8), projection_dim=48)
    ids = clip_tokens(rng, 5, 16, 300)
    save("clip_eos", CLIPModel,
         CLIPConfig(text_config=dict(**text, bos_token_id=298, eos_token_id=250), **clip), np.where(ids == 299, 250, ids))
    # The ids of old, where the largest id is looked for; exact GELU; in three shards.
    clip["vision_config"]["hidden_act"] = "gelu"
    save("clip_legacy", CLIPModel, CLIPConfig(text_config=dict(**text, hidden_act="gelu", eos_token_id=2), **clip), ids,
         max_shard_size="150KB")
    save("siglip", SiglipModel, SiglipConfig(vision_config=dict(**dims, image_size=32, patch_size=8),
                                             text_config=dict(**text, projection_size=64)), siglip_tokens)
    extra, feeds = make_reference.naflex(4, 16, 8, rng)
    save("siglip2_naflex", Siglip2Model, Siglip2Config(vision_config=dict(**dims, patch_size=8, num_patches=16),
                                                       text_config=dict(**text, projection_size=64)),
         siglip_tokens, feeds, extra)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like")
    parser.add_argument("-o", "--out", type=pathlib.Path)
    parser.add_argument("--fixtures", type=pathlib.Path)
    parser.add_argument("--all-keys", type=pathlib.Path)
    parser.add_argument("--shards", default="50GB", help="largest size of a file")
    args = parser.parse_args()
    if args.fixtures:
        fixtures(args.fixtures)
    if args.like:
        kind, config = like(json.loads((MODELS / f"{args.like}.json").read_text()))
        build(kind, config).save_pretrained(args.out, max_shard_size=args.shards)
    if args.all_keys:
        for path in sorted(MODELS.glob("*.json")):
            config = json.loads(path.read_text())
            if "transformers" in config.get("dialects", {}):
                kind, config = like(config)
                with torch.device("meta"):
                    state = kind(config).state_dict()
                lines = [f"{k} {','.join(map(str, v.shape))}\n" for k, v in state.items()]
                (args.all_keys / f"{path.stem}.transformers.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
