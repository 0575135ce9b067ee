"""Makes examples/sample: a small CLIP model that tells drawn shapes apart, as transformers saves it.

    pip install torch transformers tokenizers safetensors numpy pillow
    python scripts/make_sample.py

Trained here in a few minutes on drawings of four shapes in four colours; no data is downloaded. The folder has what a
folder on Hugging Face's hub has (config.json, preprocessor_config.json, tokenizer files, weights), two drawings, and
reference.npz: inputs and embeddings by transformers' own code.
"""
import itertools
import json
import math
import pathlib

import make_reference
import numpy as np
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

SAMPLE = pathlib.Path(__file__).resolve().parent.parent / "examples/sample"
COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (235, 205, 50)}
SHAPES = ["circle", "square", "triangle", "cross"]
CLASSES = list(itertools.product(COLOURS, SHAPES))
WORDS = ["a", "photo", "of", "drawing", "the", *COLOURS, *SHAPES]
MARKS = {"pad": 0, "unk": 1, "bos": 62, "eos": 63}
IDS = {word: 10 + at for at, word in enumerate(WORDS)} | {f"<{mark}>": at for mark, at in MARKS.items()}
SIZE, CONTEXT = 32, 16


def drawing(colour, shape, rng, size=SIZE):
    """A shape at a random place on a bright ground."""
    big = size * 4
    ground = rng.integers(170, 255)
    image = Image.new("RGB", (big, big), tuple(int(v) for v in np.clip(ground + rng.integers(-15, 16, 3), 0, 255)))
    pen, half = ImageDraw.Draw(image), rng.uniform(0.2, 0.38) * big
    x, y = rng.uniform(half, big - half, 2)
    fill = tuple(int(v) for v in np.clip(np.array(COLOURS[colour]) + rng.integers(-25, 26, 3), 0, 255))
    if shape == "circle":
        pen.ellipse([x - half, y - half, x + half, y + half], fill=fill)
    elif shape == "square":
        pen.rectangle([x - half * 0.85, y - half * 0.85, x + half * 0.85, y + half * 0.85], fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - half), (x + half, y + half * 0.8), (x - half, y + half * 0.8)], fill=fill)
    else:
        pen.rectangle([x - half, y - half / 4, x + half, y + half / 4], fill=fill)
        pen.rectangle([x - half / 4, y - half, x + half / 4, y + half], fill=fill)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def row(text):
    ids = [MARKS["bos"], *(IDS.get(word, MARKS["unk"]) for word in text.split()), MARKS["eos"]]
    return ids + [MARKS["pad"]] * (CONTEXT - len(ids))


def train(model, processor, rng, steps=1500):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        images = [drawing(*one, rng) for one in CLASSES for _ in range(2)]
        texts = [f"{rng.choice(['a photo of a', 'a drawing of the', 'the', 'a'])} {colour} {shape}" for colour, shape in CLASSES]
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        found = model(input_ids=torch.tensor([row(text) for text in texts]), pixel_values=pixels)
        wanted = torch.arange(len(CLASSES)).repeat_interleave(2)
        logits = found.logits_per_image
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(30))
        if step % 300 == 0 or step == steps - 1:
            print(step, loss.item(), (logits.argmax(1) == wanted).float().mean().item())


def write_tokenizer():
    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    tokenizer.add_special_tokens([f"<{mark}>" for mark in MARKS])
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    ends = [(f"<{mark}>", MARKS[mark]) for mark in ("bos", "eos")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    tokenizer.save(str(SAMPLE / "tokenizer.json"))
    special = {f"{mark}_token": f"<{mark}>" for mark in MARKS}
    (SAMPLE / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")


def main():
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    dims = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    config = CLIPConfig(
        vision_config=dict(dims, image_size=SIZE, patch_size=4),
        text_config=dict(dims, vocab_size=64, max_position_embeddings=CONTEXT, bos_token_id=62, eos_token_id=63, pad_token_id=0),
        projection_dim=32)
    model = CLIPModel(config)
    processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    train(model, processor, rng)
    model.eval()
    SAMPLE.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(SAMPLE)
    processor.save_pretrained(SAMPLE)
    (SAMPLE / "model.safetensors").chmod(0o644)
    write_tokenizer()
    drawing("red", "circle", rng, 240).save(SAMPLE / "circle.png")
    drawing("blue", "triangle", rng, 240).save(SAMPLE / "triangle.png")
    pixels = processor([drawing(*one, rng) for one in CLASSES[::4]], return_tensors="pt")["pixel_values"]
    tokens = np.array([row(f"a photo of a {colour} {shape}") for colour, shape in CLASSES[::3]])
    with torch.no_grad():
        embedding = lambda output: getattr(output, "pooler_output", output).numpy()
        image = embedding(model.get_image_features(pixel_values=pixels))
        text = embedding(model.get_text_features(input_ids=torch.from_numpy(tokens)))
    arrays = make_reference.pack(pixels.numpy(), tokens, image, text, float(model.logit_scale), None)
    np.savez_compressed(SAMPLE / "reference.npz", **arrays)


if __name__ == "__main__":
    main()
