"""Writes EVA02-CLIP checkpoints of random weights, by open_clip's and timm's own modules.

    pip install torch open_clip_torch safetensors numpy
    python scripts/make_eva02.py --fixtures tests/fixtures             (the small cases, with references)
    python scripts/make_eva02.py EVA02-B-16 -o eva.safetensors         (a full-size model of models/)
    python scripts/make_reference.py eva.safetensors --model EVA02-B-16 -o reference.npz

Weights have the scale of trained ones: timm's initialization would give scores near zero, and a projection so
small that every embedding is its bias. A fixture's `config.json` is what its checkpoint and reference are made of.
Lists of names come from `scripts/make_open_clip.py --all-keys`.
"""
import argparse
import json
import math
import pathlib

import make_reference
import numpy as np
import open_clip
import torch
from timm.models.eva import Eva

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
# Folder, file, element type: the published files are float16.
FIXTURES = [("eva02_tiny", "checkpoint.safetensors", torch.float32), ("eva02_l_tiny", "checkpoint.pt", torch.float16)]


def from_config(config):
    """open_clip's CustomTextCLIP of any dims around timm's Eva, from a file of the form of models/EVA02-*.json."""
    v, t, embed = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    # open_clip knows timm's models by name alone: a small one is made, whose trunk is then replaced.
    visual = dict(image_size=224, timm_model_name="vit_tiny_patch16_224", timm_pool="token", timm_proj=None)
    text = {k: t[k] for k in ("context_length", "vocab_size", "width", "heads", "layers")}
    model = open_clip.model.CustomTextCLIP(embed, visual, dict(text, mlp_ratio=t["mlp_dim"] / t["width"]))
    model.visual.trunk = Eva(
        img_size=tuple(v["image_size"]), patch_size=v["patch_size"], embed_dim=v["width"], depth=v["layers"],
        num_heads=v["heads"], num_classes=embed, global_pool="token", qkv_fused=False, swiglu_mlp=True,
        scale_mlp=True, scale_attn_inner=True, use_rot_pos_emb=True,
        # timm rounds width * ratio down.
        mlp_ratio=(v["mlp_dim"] + 0.5) / v["width"],
        ref_feat_shape=tuple(v["ref_feat_shape"]), rope_temperature=v["rope_temperature"])
    model.visual.image_size = tuple(v["image_size"])
    return model


def trained_like(model, seed):
    """Gains near 1, biases that matter, attention scores with a standard deviation of about 2."""
    generator = torch.Generator().manual_seed(seed)
    depth = {tower: sum(".norm2.weight" in name or ".ln_2.weight" in name for name in getattr(model, tower).state_dict())
             for tower in ("visual", "text")}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name == "logit_scale":
                p.fill_(math.log(40.0))
                continue
            if p.ndim == 1:
                mean, std = (1.0, 0.2) if name.endswith("weight") else (0.0, 0.1)
            elif name.endswith(("pos_embed", "cls_token", "token_embedding.weight", "positional_embedding")):
                mean, std = 0.0, 0.3
            else:
                fan_in = p.shape[0] if name.endswith("text_projection") else math.prod(p.shape[1:])
                mean, std = 0.0, fan_in ** -0.5
                if name.endswith(("q_proj.weight", "k_proj.weight", "in_proj_weight")):
                    std *= 1.4
                if name.endswith(("attn.proj.weight", "out_proj.weight", "fc2.weight", "c_proj.weight")):
                    # What is added to the residual stream, so that it keeps its scale over all blocks.
                    std *= (2 * depth[name.split(".")[0]]) ** -0.5
            p.copy_(mean + std * torch.randn(p.shape, generator=generator))
    return model.eval()


def write(state, path):
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in state.items()}, path, metadata={"format": "pt"})
    else:
        torch.save(state, path)


def fixture(folder, file, dtype):
    config = json.loads((folder / "config.json").read_text())
    model = trained_like(from_config(config), seed=len(folder.name))
    state = {k: v.to(dtype) for k, v in model.state_dict().items()}
    write(state, folder / file)
    # What is computed with is what the file holds.
    model.load_state_dict({k: v.float() for k, v in state.items()})
    rng = np.random.default_rng(0)
    image = rng.uniform(-2, 2, (2, 3, *config["vision_cfg"]["image_size"])).astype(np.float32)
    ids = make_reference.tokens(config, 5, rng)
    with torch.no_grad():
        zi, zt = model.encode_image(torch.from_numpy(image)).numpy(), model.encode_text(torch.from_numpy(ids)).numpy()
    packed = make_reference.pack(image, ids, zi, zt, model.logit_scale.item(), None)
    np.savez_compressed(folder / "reference.npz", **packed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=pathlib.Path)
    parser.add_argument("--fixtures", type=pathlib.Path)
    args = parser.parse_args()
    if args.fixtures:
        for name, file, dtype in FIXTURES:
            fixture(args.fixtures / name, file, dtype)
    if args.model:
        write(trained_like(open_clip.create_model(args.model, pretrained=None), args.seed).state_dict(), args.out)


if __name__ == "__main__":
    main()
