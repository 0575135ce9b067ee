"""Writes a full-size checkpoint of random weights of a model open_clip knows, and its names.

    pip install torch open_clip_torch numpy safetensors
    python scripts/make_open_clip.py MobileCLIP-S1 -o s1.pt              (open_clip's names)
    python scripts/make_open_clip.py MobileCLIP-S1 --apple -o s1.pt      (Apple's names)
    python scripts/make_open_clip.py ViT-B-32 --keys tests/keys          (the list of its tensors)
    python scripts/make_open_clip.py --all-keys tests/keys               (one list per model in models/)

`--plant SEED` gives six residual features of each tower outputs 20 to 60 times as large, weights and biases
of whatever writes them, as trained models have them: what quantisation has to live with.

BatchNorm statistics, gains, biases and layer scales are randomised, so that nothing folds away
unnoticed. `scripts/make_reference.py` gives the embeddings.
"""
import argparse
import pathlib
import re

import open_clip
import torch

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
# The same architecture under the name open_clip 3.3 has it by.
STANDS_FOR = {"MobileCLIP-S3": "MobileCLIP2-S3", "MobileCLIP-S4": "MobileCLIP2-S4", "MobileCLIP-L-14": "MobileCLIP2-L-14"}
APPLE = ["MobileCLIP-S0", "MobileCLIP-S1", "MobileCLIP-S2", "MobileCLIP-B"]


def randomise(model, seed):
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if name.endswith("gamma"):
                p.normal_(0.5, 0.1)
            elif p.ndim == 1 and name.endswith("weight"):
                p.normal_(1.0, 0.1)
            elif p.ndim == 1:
                p.normal_(0.0, 0.1)
    for name, b in model.named_buffers():
        if name.endswith("running_mean"):
            b.normal_(0.0, 0.2)
        elif name.endswith("running_var"):
            b.uniform_(0.5, 1.5)


# What writes to the residual stream: attention's projection and the second layer of the MLP.
WRITERS = re.compile(r"(attn\.(out_)?proj|token_mixer\.proj|mlp\.fc2|mlp\.c_proj)\.(weight|bias)$")


def plant(state, seed):
    """Six features of every residual width of every tower times 20 to 60; nothing else makes up for it."""
    generator = torch.Generator().manual_seed(seed)
    chosen = {}
    for name, value in state.items():
        if not WRITERS.search(name) or not value.is_floating_point():
            continue
        at = (name.startswith("visual"), value.shape[0])
        if at not in chosen:
            features = torch.randperm(value.shape[0], generator=generator)[:6]
            chosen[at] = features, 20 + 40 * torch.rand(6, generator=generator)
        features, factors = chosen[at]
        value[features] *= factors.reshape(-1, *[1] * (value.ndim - 1)).to(value.dtype)
    return state


def apple(state):
    """open_clip's names as Apple's: timm's own remapping, backwards."""
    out = {}
    stage_at = {0: 0, 1: 2, 2: 4, 3: 7}
    for name, value in state.items():
        if name.startswith("visual.trunk."):
            k = name[len("visual.trunk."):]
            if k == "head.fc.weight":
                k, value = "head.proj", value.T.contiguous()
            elif k == "head.weight":
                k, value = "classifier.proj", value.T.contiguous()
            elif k in ("head.fc.bias", "head.bias"):
                continue
            k = re.sub(r"^stages\.(\d)\.downsample", lambda m: f"network.{2 * int(m[1]) - 1}", k)
            k = re.sub(r"^stages\.(\d)\.blocks", lambda m: f"network.{stage_at[int(m[1])]}", k)
            k = re.sub(r"^stages\.3\.pos_emb\.pos_enc", "network.6.pe", k)
            k = re.sub(r"^final_conv\.se\.fc1", "final_conv.se.reduce", k)
            k = re.sub(r"^final_conv\.se\.fc2", "final_conv.se.expand", k)
            for new, old in (("stem.", "patch_embed."), ("conv_kxk", "rbr_conv"), ("conv_scale", "rbr_scale"),
                             ("identity", "rbr_skip"), ("final_conv", "conv_exp"), ("large_conv", "lkb_origin")):
                k = k.replace(new, old)
            if "network." in k:
                k = k.replace(".mlp.", ".convffn.").replace(".gamma", "")
            k = re.sub(r"patch_embed\.backbone\.(\d)\.conv", r"patch_emb.\1.block.conv", k)
            k = re.sub(r"patch_embed\.backbone\.(\d)\.bn", r"patch_emb.\1.block.norm", k)
            if k == "pos_embed":
                k, value = "pos_embed.pos_embed.pos_embed", value[None]
            k = re.sub(r"^norm\.", "post_transformer_norm.", k)
            k = transformer(re.sub(r"^blocks\.", "transformer.", k))
            out[f"image_encoder.model.{k}"] = value
        elif name.startswith("text."):
            k = name[len("text."):].replace("transformer.resblocks.", "transformer.")
            k = {"positional_embedding": "positional_embedding.pos_embed.pos_embed",
                 "text_projection": "projection_layer", "token_embedding.weight": "embedding_layer.weight"}.get(k, k)
            k = transformer(k.replace("ln_final", "final_layer_norm"))
            out[f"text_encoder.{k}"] = value[None, None] if k.startswith("positional") else value
        else:
            out[name] = value
    return out


def transformer(k):
    for new, old in ((r"(norm1|ln_1)", "pre_norm_mha.0"), (r"attn\.(qkv\.|in_proj_)", "pre_norm_mha.1.qkv_proj."),
                     (r"attn\.(proj|out_proj)", "pre_norm_mha.1.out_proj"), (r"(norm2|ln_2)", "pre_norm_ffn.0"),
                     (r"mlp\.(fc1|c_fc)", "pre_norm_ffn.1"), (r"mlp\.(fc2|c_proj)", "pre_norm_ffn.4")):
        k = re.sub(rf"^(transformer\.\d+)\.{new}", rf"\1.{old}", k)
    return k


def s0_text(state, width=512, kernel=11, mlp=2048):
    """MobileCLIP-S0's text tower, which open_clip has no module for: RepMixers around 4 layers."""
    out = {k: v for k, v in state.items() if not k.startswith("text_encoder.transformer.")}
    for layer in range(1, 5):
        at = "text_encoder.transformer.1."
        for k, v in state.items():
            if k.startswith(at):
                out[k.replace(at, f"text_encoder.transformer.{layer}.")] = torch.randn_like(v) * v.std()
    for layer in (0, 5):
        at = f"text_encoder.transformer.{layer}."
        dw = lambda: torch.randn(width, 1, 1, kernel) * 0.3

        def bn(name):
            out[f"{at}{name}.weight"] = 1 + 0.1 * torch.randn(width)
            out[f"{at}{name}.bias"] = 0.1 * torch.randn(width)
            out[f"{at}{name}.running_mean"] = 0.1 * torch.randn(width)
            out[f"{at}{name}.running_var"] = 0.5 + torch.rand(width)
            out[f"{at}{name}.num_batches_tracked"] = torch.tensor(1)

        out[f"{at}layer_scale"] = torch.full((width, 1, 1), 0.5)
        out[f"{at}token_mixer.layer_scale"] = torch.full((width, 1, 1), 0.5)
        for name in ("token_mixer.norm.rbr_skip", "token_mixer.mixer.rbr_skip", "token_mixer.mixer.rbr_conv.0.bn",
                     "convffn.conv.bn"):
            bn(name)
        out[f"{at}token_mixer.mixer.rbr_conv.0.conv.weight"] = dw()
        out[f"{at}convffn.conv.conv.weight"] = dw()
        out[f"{at}convffn.fc1.weight"] = torch.randn(mlp, width, 1, 1) / width ** 0.5
        out[f"{at}convffn.fc1.bias"] = 0.1 * torch.randn(mlp)
        out[f"{at}convffn.fc2.weight"] = torch.randn(width, mlp, 1, 1) / mlp ** 0.5
        out[f"{at}convffn.fc2.bias"] = 0.1 * torch.randn(width)
    return out


def state(name, as_apple, seed=0, planted=None):
    base = "MobileCLIP2-S0" if name == "MobileCLIP-S0" else STANDS_FOR.get(name, name)
    torch.manual_seed(seed)
    model = open_clip.create_model(base, pretrained=None)
    randomise(model, seed)
    out = {k: v.clone() for k, v in model.state_dict().items()}
    if planted is not None:
        plant(out, planted)
    out = apple(out) if as_apple else out
    return s0_text(out) if name == "MobileCLIP-S0" else out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--apple", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plant", type=int, metavar="SEED")
    parser.add_argument("-o", "--out", type=pathlib.Path)
    parser.add_argument("--keys", type=pathlib.Path, help="folder for the list of the model's tensors")
    parser.add_argument("--all-keys", type=pathlib.Path, help="folder for the lists of all models")
    args = parser.parse_args()
    if not args.all_keys and not args.keys:
        weights = state(args.model, args.apple or args.model == "MobileCLIP-S0", seed=args.seed, planted=args.plant)
        if args.out.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file({k: v.contiguous() for k, v in weights.items()}, args.out)
        else:
            torch.save(weights, args.out)
        return
    folder = args.keys or args.all_keys
    for path in [MODELS / f"{args.model}.json"] if args.keys else sorted(MODELS.glob("*.json")):
        if re.search("SigLIP|LongCLIP|EVA02", path.stem):
            continue  # scripts/make_big_vision.py, make_eva02.py; open_clip has no Long-CLIP
        for as_apple in ([True] if path.stem == "MobileCLIP-S0" else [False, True] if path.stem in APPLE else [False]):
            lines = [f"{k} {','.join(map(str, v.shape))}\n" for k, v in state(path.stem, as_apple).items()]
            suffix = ".apple" if as_apple else ""
            (folder / f"{path.stem}{suffix}.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
