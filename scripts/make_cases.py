"""Writes tests/cases/own-*: small models beside files that say how their inputs are made, and what other code makes of
them. Random weights; references by transformers', open_clip's and torch's own code.

    pip install torch torchvision transformers open_clip_torch safetensors numpy pillow tokenizers
    python scripts/make_cases.py
"""
import argparse
import collections
import json
import pathlib

import numpy as np
import open_clip
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipImageProcessor, SiglipModel

CASES = pathlib.Path(__file__).resolve().parent.parent / "tests/cases"
WORDS = ["a", "photo", "of", "cat", "dog", "the", "red", "car", "two", "big"]


def photo(size, seed):
    """Noise over a ramp: every pixel matters, and so does every filter."""
    width, height = size
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, width)[None, :, None] * np.array([1, 0.6, 0.3]) + np.linspace(0, 55, height)[:, None, None]
    return Image.fromarray((ramp + rng.integers(0, 56, (height, width, 3))).clip(0, 255).astype(np.uint8))


def towers(kind, words=100, context=16):
    torch.manual_seed(7)
    both = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    vision = dict(both, image_size=32, patch_size=16)
    if kind == "clip":
        text = dict(both, max_position_embeddings=context, vocab_size=words, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=1)
        return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    text = dict(both, max_position_embeddings=context, vocab_size=words)
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()


def widened(model):
    """With weights that make every input count."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:
                tensor.normal_(0, 0.3)
    return model


def unit(found):
    found = found if torch.is_tensor(found) else found.pooler_output
    return torch.nn.functional.normalize(found, dim=-1).detach().numpy()


def case(name, model, picture, processor):
    """A folder as transformers saves it, and the embedding of one photograph."""
    folder = CASES / name
    (folder / "model").mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    picture.save(folder / "photo.png")
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"].float()
    np.savez_compressed(folder / "reference.npz", image_embedding_normalized=unit(model.get_image_features(pixel_values=pixels)))


def pixels():
    clip, siglip = widened(towers("clip")), widened(towers("siglip"))
    # Lanczos to another shape than the tower's, bytes as they are.
    raw = CLIPImageProcessor(size={"height": 40, "width": 48}, crop_size=32, resample=1, do_rescale=False, do_normalize=False)
    case("own-pixels-lanczos-raw", clip, photo((90, 50), 1), raw)
    # A longest edge, under which the shorter side is less than what is cropped: filled up.
    most = CLIPImageProcessor(size={"shortest_edge": 36, "longest_edge": 50}, crop_size={"height": 32, "width": 32}, resample=2)
    case("own-pixels-longest-edge", clip, photo((120, 44), 2), most)
    # Not resized at all, as a nested file of transformers 5 says.
    folder = CASES / "own-pixels-not-resized"
    plain = SiglipImageProcessor(do_resize=False, image_mean=[0.3, 0.2, 0.1], image_std=[0.9, 0.8, 0.7])
    case(folder.name, siglip, photo((32, 32), 3), plain)
    nested = folder / "model/preprocessor_config.json"
    fields = json.loads(nested.read_text())
    nested.unlink()
    (folder / "model/processor_config.json").write_text(json.dumps({"image_processor": fields, "processor_class": "SiglipProcessor"}))


def open_clip_longest():
    """open_clip's own ViT, whose photographs are filled up."""
    folder = CASES / "own-openclip-longest"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": {
            "embed_dim": 12,
            "quick_gelu": True,
            "vision_cfg": {"image_size": [32, 48], "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
            "text_cfg": {"context_length": 16, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.4, 0.4, 0.4], "std": [0.3, 0.2, 0.1], "interpolation": "bilinear", "resize_mode": "longest", "fill_color": 90, "mode": "RGB", "size": [32, 48]},
    }
    torch.manual_seed(9)
    model = widened(open_clip.CLIP(**{k: v for k, v in config["model_cfg"].items()}).eval())
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model/open_clip_model.safetensors")
    (folder / "model/open_clip_config.json").write_text(json.dumps(config, indent=1))
    picture = photo((50, 90), 4)
    picture.save(folder / "photo.png")
    cfg = config["preprocess_cfg"]
    transform = open_clip.transform.image_transform(
        (32, 48), is_train=False, mean=cfg["mean"], std=cfg["std"], resize_mode="longest", interpolation="bilinear", fill_color=90)
    np.savez_compressed(folder / "reference.npz", image_embedding_normalized=unit(model.encode_image(transform(picture)[None])))


def open_clip_first():
    """Texts pooled at their first position, which sees itself alone."""
    folder = CASES / "own-openclip-first"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": 12, "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
              "text_cfg": {"context_length": 16, "vocab_size": 100, "width": 16, "heads": 2, "layers": 2, "pool_type": "first"}}
    torch.manual_seed(11)
    model = widened(open_clip.CLIP(**json.loads(json.dumps(config))).eval())
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}, indent=1))
    write_reference(folder, model)


def tokens():
    """A vocabulary of words, whose padding only the tokenizer's own files tell."""
    for name, kind, marks, text in [
        ("own-tokens-siglip-map", "siglip", {"pad": 5, "eos": 3}, "a red car"),
        ("own-tokens-clip-words", "clip", {"pad": 0, "bos": 98, "eos": 99}, "two photo of the big dog"),
    ]:
        folder = CASES / name
        (folder / "model").mkdir(parents=True, exist_ok=True)
        model = widened(towers(kind))
        model.save_pretrained(folder / "model")
        vocabulary = {word: 10 + at for at, word in enumerate(WORDS)} | {f"<{mark}>": at for mark, at in marks.items()} | {"<unk>": 7}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(folder / "model/tokenizer.json"))
        special = {f"{mark}_token": f"<{mark}>" for mark in marks}
        (folder / "model/special_tokens_map.json").write_text(json.dumps({k: {"content": v, "lstrip": False} for k, v in special.items()}))
        ids = [vocabulary[word] for word in text.split()]
        row = ([marks["bos"]] if "bos" in marks else []) + ids + [marks["eos"]]
        row += [marks["pad"]] * (16 - len(row))
        (folder / "text.txt").write_text(text + "\n")
        features = model.get_text_features(input_ids=torch.tensor([row]))
        np.savez_compressed(folder / "reference.npz", text_embedding_normalized=unit(features))


class Hyper(dict):
    """As Lightning's AttributeDict: items of a dictionary's own class."""


def pickles():
    """What training scripts save beside weights."""
    folder = CASES / "own-pickles"
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((CASES / "pickle-namespace/config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    torch.manual_seed(3)
    model = open_clip.CLIP(
        embed_dim=16, vision_cfg={"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 64},
        text_cfg={"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2}).eval()
    weights = model.state_dict()
    best = collections.defaultdict(list)
    best["top1"].append(0.5)
    hyper = Hyper(lr=1e-3, args=argparse.Namespace(name="run", device=torch.device("cpu")))
    # A class of this script's: no other program can make one.
    torch.save({"state_dict": weights, "hyper_parameters": hyper, "best": best, "path": pathlib.PurePosixPath("runs/1"), "epoch": np.int64(3)}, folder / "lightning.pt")
    torch.save(weights | {"_extra": np.arange(3), "tags": {"a", "b"}}, folder / "flat.pt", pickle_protocol=4)
    torch.save({"model": model}, folder / "module.pt")
    write_reference(folder, model)


def write_reference(folder, model):
    """Embeddings of random images and texts, with the keys of the fixtures' references."""
    torch.manual_seed(5)
    image, ids = torch.randn(3, 3, 32, 32), torch.randint(1, 98, (3, 16))
    ids[:, 0], ids[0, 5], ids[1, 9], ids[2, 15] = 98, 99, 99, 99
    with torch.no_grad():
        found = {"image_embedding": model.encode_image(image), "text_embedding": model.encode_text(ids)}
        arrays = {key: value.numpy() for key, value in found.items()} | {f"{key}_normalized": unit(value) for key, value in found.items()}
        scale = model.logit_scale.exp().item()
    logits = scale * arrays["image_embedding_normalized"] @ arrays["text_embedding_normalized"].T
    np.savez_compressed(folder / "reference.npz", image=image.numpy(), tokens=ids.numpy().astype(np.int32), logits_per_image=logits, logit_scale_exp=np.float32(scale), **arrays)


if __name__ == "__main__":
    pixels()
    open_clip_longest()
    open_clip_first()
    tokens()
    pickles()
