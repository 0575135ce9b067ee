"""Writes tests/cases/own-lora*, own-timm-*: fine-tunes and image towers alone, with embeddings by PEFT's, open_clip's and timm's
own code. Random weights; downloads nothing.

    pip install torch timm open_clip_torch transformers peft safetensors numpy
    python scripts/make_fine_tunes.py
"""

import json
import pathlib
import shutil

import numpy as np
import open_clip
import timm
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from timm.models import save_for_hf
from transformers import CLIPConfig, CLIPModel

CASES = pathlib.Path(__file__).resolve().parent.parent / "tests/cases"


def randomized(model, seed, std=0.2):
    """Every number shows in the embeddings: norms, biases and adapters too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator) * std
            is_norm = "norm" in name or ".ln_" in name or name.split(".")[-2:-1] == ["norm"]
            value.copy_(1 + noise if is_norm and name.endswith("weight") else noise)
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return model.eval()


def write(path, image=None, text=None, tokens=None, images=None):
    """A reference: inputs and embeddings, with and without normalization."""
    out = {}
    for name, inputs, given, embedding in [("image", "image", images, image), ("text", "tokens", tokens, text)]:
        if embedding is None:
            continue
        values = embedding.detach().double()
        out[inputs] = given.numpy()
        out[f"{name}_embedding"] = values.float().numpy()
        out[f"{name}_embedding_normalized"] = (values / values.norm(dim=-1, keepdim=True)).float().numpy()
    np.savez_compressed(path, **out)


def images(side, seed=7):
    return torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(seed))


def rows(length, start, end, seed=8):
    ids = torch.randint(2, start, (4, length), generator=torch.Generator().manual_seed(seed))
    for row, at in enumerate([length - 1, 3, 5, 9]):
        ids[row, 0], ids[row, at], ids[row, at + 1 :] = start, end, 1
    return ids


def clip():
    tower = dict(num_hidden_layers=2, num_attention_heads=2)
    text = dict(vocab_size=100, hidden_size=16, intermediate_size=32, max_position_embeddings=16)
    ids = dict(bos_token_id=98, eos_token_id=99, pad_token_id=1)
    vision = dict(hidden_size=24, intermediate_size=48, image_size=32, patch_size=16)
    config = CLIPConfig(text_config={**tower, **text, **ids}, vision_config={**tower, **vision}, projection_dim=12)
    return randomized(CLIPModel(config), 0)


def embeddings(path, model):
    pixels, ids = images(32), rows(16, 98, 99)
    with torch.no_grad():
        image, text = model.get_image_features(pixel_values=pixels), model.get_text_features(input_ids=ids)
    image, text = (getattr(value, "pooler_output", value) for value in (image, text))
    write(path, image, text, ids, pixels)


ATTENTION = ["q_proj", "v_proj"]
ADAPTERS = {
    "plain": dict(r=4, lora_alpha=8, target_modules=ATTENTION),
    "second": dict(r=2, lora_alpha=3, target_modules=["fc1", "out_proj"]),
    "patterns": dict(
        r=4, lora_alpha=8, target_modules=ATTENTION, use_rslora=True,
        rank_pattern={"vision_model.encoder.layers.1.self_attn.v_proj": 6}, alpha_pattern={"v_proj": 5, "0.self_attn.q_proj": 3},
    ),
    "dora": dict(r=4, lora_alpha=8, target_modules=ATTENTION, use_dora=True),
    "saved": dict(
        r=4, lora_alpha=8, target_modules=ATTENTION + ["token_embedding"], bias="all", modules_to_save=["visual_projection"]
    ),
}


def lora():
    folder = CASES / "own-lora"
    shutil.rmtree(folder, ignore_errors=True)
    clip().save_pretrained(folder / "base")
    for seed, (name, settings) in enumerate(ADAPTERS.items()):
        model = randomized(get_peft_model(clip(), LoraConfig(**settings)), 10 + seed)
        # Of the base model alone, only what the adapter has is another.
        base, adapter = clip().state_dict(), get_peft_model_state_dict(model)
        for key, value in model.get_base_model().state_dict().items():
            plain = key.replace(".base_layer", "")
            trained = any(f"base_model.model.{key}".startswith(k.rsplit(".", 1)[0]) and k.endswith(".bias") for k in adapter)
            if plain in base and not (settings.get("bias") == "all" and key.endswith(".bias") and trained):
                value.copy_(base[plain])
        model.save_pretrained(folder / name)
        (folder / name / "README.md").unlink(missing_ok=True)
        if name == "plain":
            whole = folder / "whole"
            whole.mkdir()
            save_file({key: value.contiguous() for key, value in model.state_dict().items()}, whole / "model.safetensors")
            shutil.copy(folder / "base/config.json", whole)
            shutil.copy(folder / "plain/adapter_config.json", whole)
        embeddings(folder / f"{name}.npz", model.merge_and_unload())


def attention():
    """An adapter of `nn.MultiheadAttention`, as open_clip's blocks have it."""
    folder = CASES / "own-lora-attention"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "base").mkdir(parents=True)
    vision = dict(layers=2, width=32, head_width=16, patch_size=16, image_size=32)
    cfg = dict(embed_dim=12, vision_cfg=vision, text_cfg=dict(context_length=16, vocab_size=100, width=16, heads=2, layers=2))
    model = randomized(open_clip.CLIP(**cfg), 1)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "base/open_clip_model.safetensors")
    (folder / "base/open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": {}}))
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["attn", "c_fc"], init_lora_weights=False)
    model = get_peft_model(model, settings)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter/README.md").unlink(missing_ok=True)
    merged, pixels, ids = model.merge_and_unload().eval(), images(32), rows(16, 98, 99)
    with torch.no_grad():
        write(folder / "reference.npz", merged.encode_image(pixels), merged.encode_text(ids), ids, pixels)


def towers():
    small = dict(img_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2)
    for name, architecture, settings in [
        ("clip", "vit_base_patch16_clip_quickgelu_224", dict(small, num_classes=12)),
        ("eva02", "eva02_base_patch16_clip_224", dict(small, num_classes=0)),
        ("siglip", "vit_base_patch16_siglip_224", dict(small, num_classes=7, mlp_ratio=3)),
        ("fastvit", "fastvit_mci1", dict(layers=[1, 1, 1, 1], embed_dims=[8, 16, 32, 32], num_classes=12)),
    ]:
        folder = CASES / f"own-timm-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        model = randomized(timm.create_model(architecture, **settings), 20, std=0.1)
        side = settings.get("img_size", 64)
        model.pretrained_cfg["input_size"] = (3, side, side)
        save_for_hf(model, folder / "model", model_args=settings, safe_serialization=True)
        with torch.no_grad():
            write(folder / "reference.npz", image=model(images(side)), images=images(side))


if __name__ == "__main__":
    torch.set_num_threads(1)
    lora()
    attention()
    towers()
