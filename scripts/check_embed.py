"""`clip-onnx embed` beside the original pipeline: photographs through PIL, torchvision and torch, sentences through
open_clip's tokenizers.

    pip install torch torchvision open_clip_torch transformers tokenizers numpy pillow
    cargo build --release
    python scripts/make_open_clip.py MobileCLIP-S1 -o s1.safetensors
    python scripts/check_embed.py photos MobileCLIP-S1=s1.safetensors ViT-B-32=b32.safetensors --ort-lib LIB

Checkpoints are of open_clip's naming; pixels follow models/MODEL.json. For SigLIP models a Unigram tokenizer of the
model type is trained on the sentences and their like, given to both sides, since the published one cannot be made up;
`--tokenizer FILE` takes a published one instead. Figures per model: least cosine and largest difference over the
RMS, of PNG and other lossless files, of JPEG (whose decoders differ by a few steps in some pixels), and of sentences;
then photographs and sentences a second, each side given files and strings, batches of 8, as many threads.

Exit status 1 where a lossless photograph or a sentence is further off than float32 explains: 2e-5.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import open_clip
import torch
from PIL import Image

from make_tokens import SENTENCES

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/clip-onnx"


def trained_tokenizer(path, vocabulary, eos, pad):
    """A Unigram tokenizer.json with T5's or Gemma's special ids."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=min(vocabulary, 4000), special_tokens=["<pad>", "</s>", "<unk>"],
                                      unk_token="<unk>")
    corpus = SENTENCES + [p.read_text() for p in ROOT.glob("*.md")]
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", eos)])
    tokenizer.save(str(path / "tokenizer.json"))
    name = {0: "<pad>", 1: "</s>"}[pad]
    (path / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": name, "eos_token": "</s>", "unk_token": "<unk>",
         "model_max_length": 64}))
    return path / "tokenizer.json"


def figures(found, expected):
    """Least cosine, and largest difference over the RMS."""
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    return cosine.min(), np.abs(found - expected).max() * np.sqrt(found.shape[1])


def check(name, checkpoint, photos, args, scratch):
    config = json.loads((ROOT / f"models/{name}.json").read_text())
    for key, value in config.get("dialects", {}).get("open_clip", {}).get("preprocess_cfg", {}).items():
        config["preprocess_cfg"][key] = value
    cfg = config["preprocess_cfg"]
    model, _, preprocess = open_clip.create_model_and_transforms(
        name, pretrained=str(checkpoint), image_mean=cfg["mean"], image_std=cfg["std"],
        image_interpolation=cfg["interpolation"], image_resize_mode=cfg["resize_mode"])
    model = model.eval()
    more = []
    text = config["text_cfg"]
    if config["family"].startswith("siglip"):
        folder = scratch / f"{name}-tokenizer"
        folder.mkdir()
        file = args.tokenizer or trained_tokenizer(folder, text["vocab_size"], text["eot_id"], text["pad_id"])
        tokenizer = open_clip.tokenizer.HFTokenizer(str(pathlib.Path(file).parent), context_length=text["context_length"],
                                                    clean="canonicalize")
        more = ["--tokenizer", str(file)]
    else:
        tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=text["context_length"])

    out = scratch / name
    engine = ["--ort-lib", args.ort_lib] if args.ort_lib else ["--engine", "tract"]
    subprocess.run([BINARY, "export", checkpoint, "--model", name, "--dialect", "open_clip", "--out", out, "--no-verify",
                    "--no-hash", *(["--target", "onnxruntime"] if args.ort_lib else []), *more],
                   check=True, capture_output=True)
    sentences = [s for s in SENTENCES if "\n" not in s and "\r" not in s and s.strip()]
    sentences = list(dict.fromkeys(sentences))
    lines = scratch / "sentences.txt"
    lines.write_text("\n".join(sentences) + "\n")
    npz = {}
    rates = {}
    for kind, flags, count in (("image", ["--image", *photos], len(photos)), ("text", ["--texts", lines], len(sentences))):
        file = scratch / f"{name}-{kind}.npy"
        start = time.time()
        subprocess.run([BINARY, "embed", out, *flags, "--out", file, "--threads", str(args.threads), *engine], check=True,
                       capture_output=True)
        rates[kind] = count / (time.time() - start)
        npz[kind] = np.load(file)
    torch.set_num_threads(args.threads)
    with torch.no_grad():
        start = time.time()
        expected = []
        for at in range(0, len(photos), 8):
            batch = torch.stack([preprocess(Image.open(p)) for p in photos[at:at + 8]])
            expected.append(torch.nn.functional.normalize(model.encode_image(batch), dim=-1))
        rates["torch image"] = len(photos) / (time.time() - start)
        image = torch.cat(expected).numpy()
        start = time.time()
        expected = [torch.nn.functional.normalize(model.encode_text(tokenizer(sentences[at:at + 8])), dim=-1)
                    for at in range(0, len(sentences), 8)]
        rates["torch text"] = len(sentences) / (time.time() - start)
        texts = torch.cat(expected).numpy()
    lossless = np.array([p.suffix != ".jpg" for p in photos])
    rows = [("lossless", *figures(npz["image"][lossless], image[lossless])),
            ("JPEG", *figures(npz["image"][~lossless], image[~lossless])), ("sentences", *figures(npz["text"], texts))]
    print(f"{name}: " + "; ".join(f"{what} {cosine:.7f} {error:.1e}" for what, cosine, error in rows))
    print(f"  a second: {rates['image']:.1f} photographs, torch {rates['torch image']:.1f}; "
          f"{rates['text']:.0f} sentences, torch {rates['torch text']:.0f}")
    return rows[0][2] < 2e-5 and rows[2][2] < 2e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path, help="a folder of them")
    parser.add_argument("models", nargs="+", metavar="MODEL=CHECKPOINT")
    parser.add_argument("--ort-lib")
    parser.add_argument("--tokenizer")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    photos = sorted(p for p in args.photos.iterdir() if p.suffix in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as scratch:
        good = [check(*model.split("=", 1), photos, args, pathlib.Path(scratch)) for model in args.models]
    raise SystemExit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
