"""Makes seeds for the fuzz targets from fixtures of the tests: python3 fuzz/seeds.py"""
import io
import json
import pathlib
import struct
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz/corpus"
# Larger files are changed too slowly to find anything.
LARGEST = 1 << 14


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    if len(data) <= LARGEST:
        (folder / f"seed-{name}").write_bytes(data)


def npy(descr, shape, data, order=False):
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def npz(members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return out.getvalue()


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def port(name, element, dims):
    shape = b"".join(field(1, field(2 if isinstance(d, str) else 1, d.encode() if isinstance(d, str) else d)) for d in dims)
    return field(1, name.encode()) + field(2, field(1, field(1, element) + field(2, shape)))


def model(nodes, inputs, outputs, initializers):
    graph = b"".join(field(1, node) for node in nodes) + field(2, b"g")
    graph += b"".join(field(5, tensor) for tensor in initializers)
    graph += b"".join(field(11, one) for one in inputs) + b"".join(field(12, one) for one in outputs)
    return field(1, 8) + field(7, graph) + field(8, field(2, 17)) + field(14, field(1, b"image_size") + field(2, b"8x8"))


def node(kind, inputs, outputs, attributes=()):
    out = b"".join(field(1, name.encode()) for name in inputs) + b"".join(field(2, name.encode()) for name in outputs)
    return out + field(4, kind.encode()) + b"".join(field(5, attribute) for attribute in attributes)


def tensor(name, dims, element, data):
    return b"".join(field(1, dim) for dim in dims) + field(2, element) + field(8, name.encode()) + field(9, data)


def ints(name, values):
    return field(1, name.encode()) + field(20, 7) + b"".join(field(8, value) for value in values)


def models():
    weight = tensor("w", [3, 4], 1, struct.pack("<12f", *range(12)))
    mean = node("GlobalAveragePool", ["pixel_values"], ["m"])
    flat = node("Flatten", ["m"], ["f"])
    yield "image", model(
        [mean, flat, node("MatMul", ["f", "w"], ["image_embeds"])],
        [port("pixel_values", 1, ["b", 3, 8, 8])], [port("image_embeds", 1, ["b", 4])], [weight],
    )
    conv = tensor("c", [4, 3, 2, 2], 1, struct.pack("<48f", *range(48)))
    yield "conv", model(
        [
            node("Conv", ["pixel_values", "c"], ["x"], [ints("strides", [2, 2])]),
            node("Relu", ["x"], ["y"]),
            node("GlobalAveragePool", ["y"], ["m"]),
            node("Flatten", ["m"], ["image_embeds"]),
        ],
        [port("pixel_values", 1, ["b", 3, 8, 8])], [port("image_embeds", 1, ["b", 4])], [conv],
    )
    table = tensor("t", [5, 4], 1, struct.pack("<20f", *range(20)))
    first = tensor("i", [], 7, struct.pack("<q", 0))
    yield "text", model(
        [node("Gather", ["t", "input_ids"], ["x"]), node("Gather", ["x", "i"], ["text_embeds"], [field(1, b"axis") + field(3, 1) + field(20, 2)])],
        [port("input_ids", 7, ["b", 4])], [port("text_embeds", 1, ["b", 4])], [table, first],
    )


def main():
    floats = struct.pack("<4f", 1, 2, 3, 4)
    plain = {"w": npy("<f4", (2, 2), floats), "b": npy("<V2", (4,), floats[:8]), "i": npy("<i8", (2,), floats)}
    put("npz", "plain", npz(plain))
    put("npz", "deflated", npz(plain, zipfile.ZIP_DEFLATED))
    put("npz", "fortran", npz({"a/b": npy("<f8", (2, 1), floats, True), "s": npy("<f4", (), floats[:4])}))
    reference = {
        "image": npy("<f4", (1, 3, 1, 1), floats[:12]), "tokens": npy("<i4", (1, 2), floats[:8]),
        "image_embedding": npy("<f4", (1, 2), floats[:8]), "text_embedding": npy("<f8", (1, 2), floats),
        "logit_scale_exp": npy("<f4", (), floats[:4]),
    }
    put("reference", "plain", npz(reference))
    put("reference", "deflated", npz(reference, zipfile.ZIP_DEFLATED))
    for path in sorted((ROOT / "tests/torch").glob("*.pt")):
        kind = {"legacy": "legacy", "script": "script", "trace": "script"}.get(path.stem, "torch")
        put(kind, path.name, path.read_bytes())
    two = {"a": ("F32", [2, 2], floats), "b": ("BF16", [2], floats[:4]), "c": ("I64", [1], floats[:8])}
    put("safetensors", "plain", safetensors(two))
    put("safetensors", "metadata", safetensors(two, {"format": "pt", "clip_onnx.dialect": "original"}))
    put("index", "plain", json.dumps({"metadata": {"total_size": 4}, "weight_map": {"a": "one.safetensors"}}).encode())
    for path in sorted((ROOT / "models").glob("*.json"))[::6] + [ROOT / "tests/fixtures/siglip_tiny/config.json"]:
        put("config", path.name, path.read_bytes())
    for path in sorted((ROOT / "tests/transformers").glob("*/config.json")) + [ROOT / "examples/sample/config.json"]:
        put("transformers", f"{path.parent.name}.json", path.read_bytes())
    for name, target in (("preprocessor_config.json", "processor"), ("open_clip_config.json", "open_clip")):
        for at, path in enumerate(sorted(ROOT.glob(f"tests/**/{name}")) + sorted(ROOT.glob(f"examples/**/{name}"))):
            put(target, f"{at}.json", path.read_bytes())
    for name, data in models():
        put("onnx", name, data)
        put("verify", name, data)
    config = json.loads((ROOT / "tests/fixtures/siglip_tiny/config.json").read_text())
    files = [{"path": "vision_model.onnx", "role": "tower", "modality": "image", "precision": "fp32", "size": 4}]
    manifest = {"tool": "clip-onnx", "metadata": {"logit_scale_exp": "10"}, "config": config, "files": files}
    put("manifest", "plain", json.dumps(manifest).encode())
    entry = {"of": "text", "name": "a", "embedding": [0.5, 1.0]}
    image = {"of": "image", "name": "a.png", "embedding": [0.5], "stamp": [1, 2]}
    rows = [{"made_with": "x"}, image, entry, entry]
    put("partial", "plain", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    put("tokenizer", "sample", (ROOT / "examples/sample/tokenizer.json").read_bytes())
    unigram = {
        "version": "1.0", "added_tokens": [{"id": 1, "content": "</s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["▁a", -1.0], ["a", -2.0]], "byte_fallback": False},
    }
    put("tokenizer", "unigram", json.dumps(unigram).encode())
    pieces = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2}}
    put("tokenizer", "wordpiece", json.dumps({"version": "1.0", "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": pieces}).encode())
    for at, text in enumerate(["a photo of a cat", "caf\u00e9 \u732b &amp;lt; \u201cq\u201d", "Ã© â€œ&hellip;\u001b[31m\u0301", ""]):
        put("sentence", str(at), text.encode())
    for path in sorted((ROOT / "tests/pixels").glob("*.png")) + [ROOT / "examples/sample/circle.png"]:
        put("image", path.name, path.read_bytes())
    gif = b"GIF89a\x02\0\x02\0\x80\0\0\xff\0\0\0\xff\0,\0\0\0\0\x02\0\x02\0\0\x02\x03D\x02\x05\0;"
    put("image", "gif", gif)
    bmp = b"BM" + struct.pack("<IHHI", 70, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 24, 0, 16, 0, 0, 0, 0) + b"\1" * 16
    put("image", "bmp", bmp)


if __name__ == "__main__":
    main()
