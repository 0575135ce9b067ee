"""Folders of every layout, loaded by their consumers' own code, offline, beside `clip-onnx embed`.

    pip install fastembed tokenizers transformers onnxruntime numpy pillow torch torchvision
    npm install @huggingface/transformers          (in the folder this is run from)
    pip install --target cas --no-deps clip-server==0.8.3 docarray==0.21.0
    pip install --target cas jina-hubble-sdk 'setuptools<80'; export PYTHONPATH=cas
    python scripts/check_layouts.py photos ViT-B-32=b32.safetensors ViT-B-16-SigLIP=siglip.safetensors

`hf`: transformers.js (node); fastembed's own TextEmbedding and ImageEmbedding; transformers' AutoTokenizer and
AutoImageProcessor with the towers on ONNX Runtime; with `--combined` transformers.js' own pipeline for zero-shot
classification, whose probabilities are compared with `clip-onnx classify`. `immich` and `immich-uint8`: Immich cannot be
installed alone; its calls are made here by the names it uses. `clip-as-service`: clip-server's own tokenizer,
preprocessing and sessions, without the server around them, for models it prepares inputs for. Sentences are plain ones: what each consumer's
cleaning does to others is its own. Figures are least cosines with the embeddings of `clip-onnx embed`, and of the
pipeline the largest difference of a probability.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import onnxruntime as ort
from PIL import Image

from check_embed import BINARY, ROOT, trained_tokenizer

LABELS = ["cat", "dog", "bicycle", "night"]
SENTENCES = ["a photo of a cat", "two dogs on a beach", "the city at night", "a red bicycle near a wall"]


def least(found, expected):
    found, expected = (np.stack(x) / np.linalg.norm(np.stack(x), axis=1, keepdims=True) for x in (found, expected))
    return float((found * expected).sum(1).min())


def session(path):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def by_transformers_js(folder, siglip, photos, scratch):
    request = scratch / "request.json"
    request.write_text(json.dumps({"images": [str(p) for p in photos], "texts": SENTENCES}))
    done = subprocess.run(["node", ROOT / "scripts/check_layouts.mjs", folder, "siglip" if siglip else "clip", request],
                          check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["images"], found["texts"]


def by_pipeline(folder, photos, tokenizer, scratch):
    """transformers.js' zero-shot-image-classification on onnx/model.onnx; its largest difference from `classify`."""
    request = scratch / "request.json"
    request.write_text(json.dumps({"images": [str(p) for p in photos], "texts": LABELS}))
    done = subprocess.run(["node", ROOT / "scripts/check_layouts.mjs", folder, "pipeline", request],
                          check=True, capture_output=True, text=True)
    worst = 0.0
    for photo, found in zip(photos, json.loads(done.stdout.splitlines()[-1])["images"]):
        line = [BINARY, "classify", folder, photo, "--labels", ",".join(LABELS), "--json", "--template", "This is a photo of {}", "--engine", "tract", *tokenizer]
        expected = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
        expected = {entry["label"]: entry["probability"] for entry in expected}
        worst = max(worst, *(abs(entry["score"] - expected[entry["label"]]) for entry in found))
    return worst


def by_transformers(folder, photos):
    from transformers import AutoImageProcessor, AutoTokenizer

    tokenizer, processor = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    ids = tokenizer(SENTENCES, padding="max_length", truncation=True, return_tensors="np")["input_ids"]
    pixels = [processor(Image.open(p).convert("RGB"), return_tensors="np")["pixel_values"][0] for p in photos]
    return towers(folder, np.stack(pixels), ids)


def by_fastembed(folder, siglip, photos):
    from fastembed import ImageEmbedding, TextEmbedding

    image, text = ("google/siglip2-base-patch16-224",) * 2
    places = [folder, folder]
    if not siglip:
        # It wants CLIP's towers in a folder each, as model.onnx.
        image, text = "Qdrant/clip-ViT-B-32-vision", "Qdrant/clip-ViT-B-32-text"
        places = [folder.parent / f"fastembed-{kind}" for kind in ("vision", "text")]
        for place, kind in zip(places, ("vision", "text")):
            place.mkdir()
            for file in folder.glob("*.json"):
                (place / file.name).symlink_to(file)
            (place / "model.onnx").symlink_to(folder / f"onnx/{kind}_model.onnx")
    images = ImageEmbedding(image, specific_model_path=str(places[0])).embed([str(p) for p in photos])
    return list(images), list(TextEmbedding(text, specific_model_path=str(places[1])).embed(SENTENCES))


def by_clip_as_service(folder, photos):
    from clip_server.executors.helper import preproc_image, preproc_text
    from clip_server.model import clip
    from clip_server.model.clip_onnx import CLIPOnnxModel
    from clip_server.model.tokenization import Tokenizer
    from docarray import Document, DocumentArray

    # The name of a model of the same image size, in whose place the folder is run.
    side = session(folder / "visual.onnx").get_inputs()[0].shape[-1]
    name = {224: "ViT-B-32::openai", 336: "ViT-L-14-336::openai"}[side]
    model = CLIPOnnxModel(name, str(folder), "fp32")
    model.start_sessions(dtype="fp32", providers=["CPUExecutionProvider"])
    documents = DocumentArray([Document(uri=str(p)) for p in photos])
    _, pixels = preproc_image(documents, clip._transform_blob(model.image_size), return_np=True)
    _, ids = preproc_text(DocumentArray([Document(text=s) for s in SENTENCES]), Tokenizer(name), return_np=True)
    return model.encode_image(pixels), model.encode_text(ids)


def towers(folder, pixels, ids):
    out = []
    for name, values in (("vision", pixels.astype(np.float32)), ("text", ids.astype(np.int64))):
        tower = session(folder / f"onnx/{name}_model.onnx")
        names = [o.name for o in tower.get_outputs()]
        wanted = "pooler_output" if "pooler_output" in names else names[0]
        out.append(tower.run([wanted], {tower.get_inputs()[0].name: values})[0])
    return out


def by_immich(folder, photos):
    """Its OpenClipVisualEncoder and OpenClipTextualEncoder, call by call."""
    from tokenizers import Tokenizer

    config = json.loads((folder / "config.json").read_text())
    cfg = json.loads((folder / "visual/preprocess_cfg.json").read_text())
    size = cfg["size"][0]
    images = []
    for photo in photos:
        image = Image.open(photo).convert("RGB")
        scale = size / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], getattr(Image.Resampling, cfg["interpolation"].upper()))
        left, top = int(image.width / 2 - size / 2), int(image.height / 2 - size / 2)
        values = np.asarray(image.crop((left, top, left + size, top + size)))
        tower = session(folder / "visual/model.onnx")
        if tower.get_inputs()[0].type == "tensor(uint8)":
            images.append(tower.run(["image_embedding"], {"image": values[None]})[0][0])
            continue
        values = np.asarray(values, np.float32) / 255
        values = (values - np.array(cfg["mean"], np.float32)) / np.array(cfg["std"], np.float32)
        images.append(tower.run(None, {"image": values.transpose(2, 0, 1)[None]})[0][0])
    tokenizer = Tokenizer.from_file(str(folder / "textual/tokenizer.json"))
    pad = json.loads((folder / "textual/tokenizer_config.json").read_text())["pad_token"]
    length = config["text_cfg"].get("context_length", 77)
    tokenizer.enable_padding(length=length, pad_token=pad, pad_id=tokenizer.token_to_id(pad))
    tokenizer.enable_truncation(max_length=length)
    tower = session(folder / "textual/model.onnx")
    texts = [tower.run(None, {"text": np.array([tokenizer.encode(s).ids], np.int32)})[0][0] for s in SENTENCES]
    return images, texts


def embedded(folder, photos, scratch):
    out = scratch / "embedded.json"
    subprocess.run([BINARY, "embed", folder, "--image", *photos, "--text", *SENTENCES, "--out", out, "--force",
                    "--engine", "tract"], check=True, capture_output=True)
    found = json.loads(out.read_text())
    return [row["embedding"] for row in found["images"]], [row["embedding"] for row in found["texts"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("models", nargs="+", metavar="MODEL=CHECKPOINT")
    args = parser.parse_args()
    photos = sorted(args.photos.glob("*.png"))
    bad = False
    for name, checkpoint in (model.split("=", 1) for model in args.models):
        config = json.loads((ROOT / f"models/{name}.json").read_text())
        siglip = config["family"].startswith("siglip")
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            more, served = [], False
            if siglip:
                text = config["text_cfg"]
                more = ["--tokenizer", trained_tokenizer(scratch, text["vocab_size"], text["eot_id"], text["pad_id"])]
            for folder, flags in (("hf", []), ("immich", []), ("immich-uint8", []), ("clip-as-service", []), ("combined", ["--combined"])):
                layout = "hf" if folder == "combined" else folder
                done = subprocess.run([BINARY, "export", checkpoint, "--model", name, "--dialect", "open_clip", "--layout",
                                       layout, "--out", scratch / folder, "--no-verify", "--no-hash", *flags, *more],
                                      check=True, capture_output=True, text=True)
                served = "clip-as-service feeds" not in done.stderr if folder == "clip-as-service" else served
            expected = embedded(scratch / "hf", photos, scratch)
            for consumer, run in (("transformers.js", lambda: by_transformers_js(scratch / "hf", siglip, photos, scratch)),
                                  ("transformers", lambda: by_transformers(scratch / "hf", photos)),
                                  ("fastembed", lambda: by_fastembed(scratch / "hf", siglip, photos)),
                                  ("Immich's calls", lambda: by_immich(scratch / "immich", photos)),
                                  ("Immich's newer calls", lambda: by_immich(scratch / "immich-uint8", photos)),
                                  ("clip-as-service", lambda: by_clip_as_service(scratch / "clip-as-service", photos))):
                if consumer == "clip-as-service" and not served:
                    continue  # as the export's note says
                try:
                    images, texts = run()
                    print(f"{name}, {consumer}: images {least(images, expected[0]):.6f}, "
                          f"sentences {least(texts, expected[1]):.7f}", flush=True)
                except Exception as error:  # noqa: BLE001, one consumer's failure is a row of the table
                    bad = True
                    told = error.stderr[-300:] if isinstance(error, subprocess.CalledProcessError) else error
                    print(f"{name}, {consumer}: FAILED: {told}", flush=True)
            try:
                worst = by_pipeline(scratch / "combined", photos, more, scratch)
                print(f"{name}, transformers.js' pipeline: probabilities within {worst:.1e}", flush=True)
            except Exception as error:  # noqa: BLE001
                bad = True
                told = error.stderr[-300:] if isinstance(error, subprocess.CalledProcessError) else error
                print(f"{name}, transformers.js' pipeline: FAILED: {told}", flush=True)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
