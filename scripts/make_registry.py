"""Writes tests/registry.json.gz and src/config/registry.tsv: open_clip's configurations, the names and shapes of their tensors,
and the weights that are published for each.

    python scripts/make_registry.py     # needs open_clip_torch 3.3, torch, timm and transformers; downloads nothing

Models are built without storage (torch's `meta` device). Configurations of transformers' text towers are those of the
published repositories, written out here.
"""

import copy
import gzip
import json
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import open_clip
import torch
from open_clip import hf_model, pretrained
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from transformers import M2M100Config, MT5Config, RobertaConfig, XLMRobertaConfig

ROOT = pathlib.Path(__file__).resolve().parent.parent

ROBERTA = dict(max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1)
LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
NLLB = dict(
    vocab_size=256206, d_model=1024, encoder_attention_heads=16, decoder_attention_heads=16, scale_embedding=True,
    activation_function="relu", pad_token_id=1, bos_token_id=0, eos_token_id=2,
)
MT5 = dict(vocab_size=250112, d_kv=64, feed_forward_proj="gated-gelu")
TEXTS = {
    "roberta-base": RobertaConfig(vocab_size=50265, **ROBERTA),
    "xlm-roberta-base": XLMRobertaConfig(vocab_size=250002, **ROBERTA),
    "xlm-roberta-large": XLMRobertaConfig(vocab_size=250002, **ROBERTA, **LARGE),
    "facebook/nllb-200-distilled-600M": M2M100Config(**NLLB, encoder_layers=12, encoder_ffn_dim=4096),
    "facebook/nllb-200-distilled-1.3B": M2M100Config(**NLLB, encoder_layers=24, encoder_ffn_dim=8192),
    "google/mt5-base": MT5Config(**MT5, d_model=768, d_ff=2048, num_layers=12, num_heads=12),
    "google/mt5-xl": MT5Config(**MT5, d_model=2048, d_ff=5120, num_layers=24, num_heads=32),
}


class Texts:
    @staticmethod
    def from_pretrained(name, *_, **__):
        return TEXTS[name]


hf_model.AutoConfig = Texts

# What of a configuration is not supported: a field, what it contains, and what that is.
LACKS = [
    ("multimodal_cfg", "", "CoCa"),
    ("text_cfg.hf_model_name", "nllb", "NLLB text tower"),
    ("text_cfg.hf_model_name", "mt5", "mT5 text tower"),
    ("text_cfg.hf_model_name", "", "RoBERTa text tower"),
    ("vision_cfg.timm_model_name", "vitamin", "ViTamin"),
    ("vision_cfg.timm_model_name", "convnext", "ConvNeXt"),
    ("vision_cfg.timm_model_name", "vit_pe", "PE-Core"),
    ("vision_cfg.timm_model_name", "eva02_enormous", "EVA02-E"),
    ("vision_cfg.timm_model_name", "eva_giant", "EVA01"),
    ("vision_cfg.timm_model_name", "swin", "Swin"),
    ("vision_cfg.timm_model_name", "relpos", "relative positions"),
    ("vision_cfg.timm_model_name", "vit_medium_patch16_gap", "ViT-M with mean pooling"),
    ("vision_cfg.layers", "[", "ModifiedResNet"),
]


def build(cfg):
    """As open_clip's `create_model` does it."""
    cfg = copy.deepcopy(cfg)
    if "hf_model_name" in cfg["text_cfg"]:
        cfg["text_cfg"]["hf_model_pretrained"] = False
    if "timm_model_name" in cfg["vision_cfg"]:
        cfg["vision_cfg"]["timm_model_pretrained"] = False
    custom = cfg.pop("custom_text", False) or "hf_model_name" in cfg["text_cfg"]
    kind = (CoCa if "multimodal_cfg" in cfg else CustomTextCLIP) if custom else CLIP
    with torch.device("meta"):
        return kind(**cfg, cast_dtype=None)


def lacks(cfg):
    for field, part, what in LACKS:
        value = cfg
        for name in field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and part in str(value):
            return what
    return ""


def main():
    shapes, rows = {}, ["configuration\tlacks\tpublished weights"]
    for name in open_clip.list_models():
        cfg = open_clip.get_model_config(name)
        state = build(cfg).state_dict()
        tensors = {key: [str(value.dtype).removeprefix("torch."), *value.shape] for key, value in sorted(state.items())}
        shapes[name] = {"model_cfg": cfg, "tensors": tensors}
        rows.append(f"{name}\t{lacks(cfg)}\t{' '.join(pretrained.list_pretrained_tags_by_model(name))}")
        print(rows[-1], flush=True)
    data = json.dumps(shapes, separators=(",", ":"), sort_keys=True).encode()
    (ROOT / "tests/registry.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    (ROOT / "src/config/registry.tsv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
