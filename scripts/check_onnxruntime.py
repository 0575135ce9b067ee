"""Checks exported folders the way their users run them: onnx's checker and ONNX Runtime.

    pip install numpy onnx onnxruntime
    python scripts/check_onnxruntime.py OUT=REFERENCE.npz [OUT=REFERENCE.npz ...]
    python scripts/check_onnxruntime.py --fixtures       (exports every fixture first, in all variants)
    python scripts/check_onnxruntime.py --precisions     (other precisions of five of them)
    python scripts/check_onnxruntime.py --forms          (edge targets, both towers in one file, bytes, more outputs)

For every .onnx file of each folder: `onnx.checker` with full_check, strict shape inference, and
embeddings at batch 1, 2, 3 and 7 against the reference, held to the same bound as in clip-onnx
(largest absolute difference over the RMS of the reference, 2e-5); a folder OUT_unfolded beside OUT,
from --no-fold, is also held to OUT's own numbers, at 1e-5. Files of other precisions than fp32 are loaded and
run at every optimisation level, in a process of their own, since what converters make has been seen to end it;
their cosines are held to LEAST. With --fixtures the tool's own use of ONNX
Runtime is tried too: `export` and `verify` with the wheel's library, and `bench`. Exits 1 if anything fails.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRECISION_FIXTURES = ["siglip_tiny", "siglip2_naflex_tiny", "mobileclip_s0_tiny", "mobileclip2_b_tiny", "openclip_vit_tiny"]
BOUND = 2e-5
FOLD_BOUND = 1e-5
BATCHES = (1, 2, 3, 7)
# Of towers 64 wide; those of hundreds of channels lose less.
LEAST = {"fp16": 0.9999, "fp16-weights": 0.99999, "int8": 0.99, "int8-weights": 0.999, "int4": 0.9, "int4-fp16": 0.9}
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def feeds(session, reference):
    names = [i.name for i in session.get_inputs()]
    if names == ["pixel_values"]:
        return {"pixel_values": reference["image"]}, "image_embedding"
    if names == ["input_ids"]:
        return {"input_ids": reference["tokens"].astype(np.int64)}, "text_embedding"
    assert names == ["patches", "patch_mask", "patch_y", "patch_x"], names
    keys = ["naflex_patches", "naflex_type", "naflex_y", "naflex_x"]
    arrays = [reference[k] for k in keys]
    return {n: a if a.dtype == np.float32 else a.astype(np.int64) for n, a in zip(names, arrays)}, "image_embedding"


def relative_error(got, want):
    return float(np.abs(got - want).max() / np.sqrt((want.astype(np.float64) ** 2).mean()))


def folding_error(path, reference):
    """What folding changes; None where there is nothing to compare."""
    folded = path.parent.with_name(path.parent.name.removesuffix("_unfolded")) / path.name
    if folded == path:
        return None
    sessions = [ort.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (path, folded)]
    inputs, _ = feeds(sessions[0], reference)
    unfolded, folded = (session.run(None, inputs)[0] for session in sessions)
    return relative_error(folded, unfolded)


def trimmed_error(session, ids, causal, pad):
    """Each row alone, without what stands behind its end token (the largest id, or the first end), or, where that is
    looked at, without its padding; beside the whole row."""
    worst = 0.0
    for row in ids:
        if not causal:
            row = row.copy()
            row[len(row) // 2 :] = pad
        end = row.argmax() + 1 if causal else len(row) // 2
        [got], [want] = (session.run(None, {"input_ids": row[None, :n]}) for n in (end, len(row)))
        worst = max(worst, relative_error(got[0], want[0]))
    return worst


def checked(path):
    """The model, without its weights, once onnx has found nothing wrong with it."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    # onnx knows no shapes of ONNX Runtime's own operators.
    strict = all(node.domain == "" for node in model.graph.node)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=strict, data_prop=True)
    return model


def at_every_level(path, reference):
    """Least cosine at any level, of a batch of all rows."""
    least = 1.0
    for level in LEVELS:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs, key = feeds(session, reference)
        [got] = session.run(None, inputs)
        want = reference[f"{key}_normalized"]
        norms = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
        least = min(least, float(((got * want).sum(axis=1) / norms).min()))
    return least


def precisions(scratch, names):
    """Every precision of some fixtures, in both targets and, of int4, in standard operators."""
    failed = checked_files = 0
    binary = ROOT / "target/release/clip-onnx"
    for name in names:
        case = ROOT / "tests/fixtures" / name
        checkpoint = sorted(case.glob("checkpoint.*"))[0]
        variants = {
            "portable": ["--precision", "fp32," + ",".join(LEAST)],
            "onnxruntime": ["--precision", ",".join(LEAST), "--target", "onnxruntime"],
            "zero_points": ["--precision", "int4,int8", "--zero-points", "--reduce-range"],
            "opset21": ["--precision", "int4,int4-fp16", "--opset", "21"],
            "opset21_zero_points": ["--precision", "int4", "--opset", "21", "--zero-points"],
        }
        for variant, flags in variants.items():
            out = scratch / f"{name}_{variant}_precisions"
            command = [binary, "export", checkpoint, "--config", case / "config.json", "--out", out, "--no-verify", *flags]
            subprocess.run(command, check=True, capture_output=True)
            for path in sorted(out.glob("*.onnx")):
                precision = {p.key: p.value for p in checked(path).metadata_props}["precision"]
                line = [sys.executable, __file__, "--levels", path, case / "reference.npz"]
                ran = subprocess.run(line, capture_output=True, text=True)
                bound = LEAST.get(precision, 1 - 1e-6)
                good = ran.returncode == 0 and float(ran.stdout) >= bound
                said = ran.stdout.strip() if ran.returncode == 0 else f"exit {ran.returncode}: {ran.stderr.strip()[-300:]}"
                print(f"{'ok  ' if good else 'FAIL'} {said} of {bound} {out.name}/{path.name}")
                failed, checked_files = failed + (not good), checked_files + 1
    print(f"{checked_files - failed} files of other precisions passed at every level, {failed} failed")
    if failed:
        sys.exit(1)


def check(path, reference):
    model = checked(path)
    normalized = {p.key: p.value for p in model.metadata_props}["normalized"] == "true"
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape[0] == "batch_size"
    inputs, key = feeds(session, reference)
    expected = reference[key + ("_normalized" if normalized else "")]
    rows = len(expected)
    worst = 0.0
    for batch in BATCHES:
        for start in range(0, rows, batch):
            taken = [(start + i) % rows for i in range(batch)]
            [got] = session.run(None, {n: a[taken] for n, a in inputs.items()})
            worst = max(worst, relative_error(got, expected[taken]))
    if session.get_inputs()[0].shape[-1] == "sequence_length":
        causal = path.parent.name.partition("_dynamic_")[2].startswith("causal")
        pad = int({p.key: p.value for p in model.metadata_props}["pad_id"])
        worst = max(worst, trimmed_error(session, inputs["input_ids"], causal, pad))
    return worst


def fixtures(scratch):
    """Exports every fixture with the release binary; yields folders and references."""
    root, binary = ROOT, ROOT / "target/release/clip-onnx"

    def export(name, checkpoint, *flags):
        out = scratch / name
        command = [binary, "export", checkpoint, "--out", out, "--no-verify", *flags]
        subprocess.run(command, check=True, capture_output=True)
        return out

    for case in sorted((root / "tests/fixtures").iterdir()):
        reference, checkpoint = case / "reference.npz", sorted(case.glob("checkpoint.*"))[0]
        config = ["--config", case / "config.json"]
        yield export(case.name, checkpoint, *config), reference
        yield export(f"{case.name}_raw", checkpoint, *config, "--no-normalize"), reference
        yield export(f"{case.name}_ort", checkpoint, *config, "--target", "onnxruntime"), reference
        yield export(f"{case.name}_opset20", checkpoint, *config, "--opset", "20"), reference
        plain = ["--no-last-block", "--no-map-query", "--no-plain-depthwise"]
        yield export(f"{case.name}_plain", checkpoint, *config, *plain), reference
        yield export(f"{case.name}_ort_plain", checkpoint, *config, *plain, "--no-text-cut", "--target", "onnxruntime"), reference
        text = json.loads((case / "config.json").read_text())["text_cfg"]
        looks = text["no_causal_mask"] or text["model_type"] == "mct" or text["pool_type"] in ("first", "last")
        causal = "filled" if looks else "causal"
        for target in ("portable", "onnxruntime"):
            flags = ["--dynamic-text", "--target", target]
            yield export(f"{case.name}_dynamic_{causal}_{target}", checkpoint, *config, *flags), reference
        yield export(f"{case.name}_external", checkpoint, *config, "--external-data"), reference
        yield export(f"{case.name}_unfolded", checkpoint, *config, "--no-fold"), reference
        size = []
        if "naflex" in case.name:
            size = ["--image-size", "{}x{}".format(*np.load(reference)["image"].shape[2:])]
            yield export(f"{case.name}_frozen", checkpoint, *config, *size), reference
        if case.name.startswith("mobileclip_s0"):
            continue  # open_clip has no place for its text tower
        converted = scratch / f"{case.name}.safetensors"
        subprocess.run([binary, "convert", checkpoint, *config, "-o", converted, *size], check=True, capture_output=True)
        yield export(f"{case.name}_converted", converted), reference
    for case in sorted((root / "tests/transformers").iterdir()):
        yield export(f"transformers_{case.name}", case), case / "reference.npz"


FORMS = {
    "mobile": ["--target", "mobile"],
    "coreml": ["--target", "coreml", "--static", "2"],
    "qnn": ["--target", "qnn", "--static", "2"],
    "web": ["--target", "web"],
    "combined": ["--combined"],
    "combined_ort": ["--combined", "--target", "onnxruntime"],
    "outputs": ["--outputs", "last_hidden_state,patch_tokens"],
    "uint8": ["--image-type", "uint8"],
    "uint8_nchw": ["--image-type", "uint8-nchw", "--static", "2"],
    "resize": ["--resize"],
    "immich_uint8": ["--layout", "immich-uint8"],
    "clip_as_service": ["--layout", "clip-as-service"],
}


def forms(scratch, names):
    """Other graphs than two plain towers: the tool's own verification with ONNX Runtime, onnx's checks, and, of those fed
    as references are, embeddings beside the reference's."""
    [library] = pathlib.Path(ort.__file__).parent.glob("capi/libonnxruntime.so*")
    failed = files = 0
    for name in names:
        case = ROOT / "tests/fixtures" / name
        checkpoint, reference = sorted(case.glob("checkpoint.*"))[0], dict(np.load(case / "reference.npz"))
        for form, flags in FORMS.items():
            if "naflex" in name and form not in ("web", "combined", "combined_ort", "outputs"):
                continue
            out = scratch / f"{name}_{form}"
            line = [ROOT / "target/release/clip-onnx", "export", checkpoint, "--config", case / "config.json", "--out", out]
            ran = subprocess.run([*line, "--reference", case / "reference.npz", "--ort-lib", library, *flags], capture_output=True, text=True)
            worst = 0.0 if ran.returncode == 0 else float("inf")
            for path in sorted(out.rglob("*.onnx")):
                files += 1
                checked(path)
                session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
                worst = max(worst, embeddings_error(session, reference))
            good = worst <= BOUND
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'} {worst:8.2e} {out.name}" + ("" if good else f": {ran.stdout[-300:]}{ran.stderr[-300:]}"))
    print(f"{files} files of other forms, {failed} exports failed")
    if failed:
        sys.exit(1)


def embeddings_error(session, reference):
    """Of every embedding a file gives, where it takes what references hold."""
    keys = {"pixel_values": "image", "input_ids": "tokens", "patches": "naflex_patches", "patch_mask": "naflex_type", "patch_y": "naflex_y", "patch_x": "naflex_x"}
    inputs = session.get_inputs()
    if any(i.name not in keys or i.type == "tensor(uint8)" for i in inputs):
        return 0.0
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else 3
    fed = {i.name: reference[keys[i.name]][:fixed].astype(types[i.type]) for i in inputs}
    found = session.run(None, fed)
    # What may be left out is not looked at.
    masks = {i.name: np.zeros_like(fed["input_ids"], dtype=types[i.type]) for i in session.get_overridable_initializers()}
    if masks:
        assert list(masks) == ["attention_mask"], masks
        assert all((a == b).all() for a, b in zip(found, session.run(None, fed | masks))), "a mask makes a difference"
    raw = session.get_modelmeta().custom_metadata_map.get("normalized") == "false"
    worst = 0.0
    for output, got in zip(session.get_outputs(), found):
        key = {"image_embeds": "image_embedding_normalized", "text_embeds": "text_embedding_normalized"}.get(output.name)
        if key:
            key = key.removesuffix("_normalized") if raw else key
            worst = max(worst, relative_error(got, reference[key][:fixed]))
    return worst


def engine(scratch):
    """The tool's own verification and timing, by the library of the wheel that runs here."""
    root, binary = ROOT, ROOT / "target/release/clip-onnx"
    [library] = pathlib.Path(ort.__file__).parent.glob("capi/libonnxruntime.so*")
    case, out = root / "tests/fixtures/openclip_vit_tiny", scratch / "engine"
    reference = ["--reference", case / "reference.npz"]

    def tool(*line):
        return subprocess.run([binary, *line, "--ort-lib", library], check=True, capture_output=True, text=True).stdout

    tool("export", case / "checkpoint.pt", "--config", case / "config.json", "--target", "onnxruntime", "--out", out, *reference)
    towers = json.loads((out / "report.json").read_text())["towers"]
    ran = sorted((t["file"], t["engine"].split()[0]) for t in towers)
    assert ran == [(f, e) for f in ("text_model.onnx", "vision_model.onnx") for e in ("ONNX", "tract")], ran
    report = json.loads(tool("verify", out, "--json", *reference))
    tract, onnxruntime = report["engine"].split(", ")
    assert report["passed"] and tract.startswith("tract ") and onnxruntime == f"ONNX Runtime {ort.__version__}", report["engine"]
    assert [t["file"] for t in report["towers"] if t["engine"].startswith("ONNX")] == ["text_model.onnx", "vision_model.onnx"]
    assert any("not run" in note for note in report["notes"]), "the cut is not for tract"
    timed = json.loads(tool("bench", out, "--json", "--text-length", "5", "--threads", "1,2", "--batches", "1,4"))["timed"]
    assert [(t["engine"].split()[0], t["threads"]) for t in timed if t["file"].endswith("text_model.onnx")] == [("ONNX", 1), ("ONNX", 2)]
    print(f"ok   the tool's own verification and timing with {library.name}")


def main():
    with tempfile.TemporaryDirectory() as scratch:
        if sys.argv[1:2] == ["--levels"]:
            print(at_every_level(sys.argv[2], dict(np.load(sys.argv[3]))))
        elif sys.argv[1:2] == ["--precisions"]:
            precisions(pathlib.Path(scratch), sys.argv[2:] or PRECISION_FIXTURES)
        elif sys.argv[1:2] == ["--forms"]:
            forms(pathlib.Path(scratch), sys.argv[2:] or PRECISION_FIXTURES)
        elif sys.argv[1:] == ["--fixtures"]:
            precisions(pathlib.Path(scratch), PRECISION_FIXTURES)
            forms(pathlib.Path(scratch), PRECISION_FIXTURES)
            engine(pathlib.Path(scratch))
            run(fixtures(pathlib.Path(scratch)))
        else:
            run((pathlib.Path(folder), reference) for folder, _, reference in (a.partition("=") for a in sys.argv[1:]))


def run(cases):
    print(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}, bound {BOUND:.0e}")
    failed = checked = 0
    for folder, reference in cases:
        reference = dict(np.load(reference))
        for path in sorted(folder.glob("*.onnx")):
            checked += 1
            try:
                worst = check(path, reference)
                folding = folding_error(path, reference)
                good = worst <= BOUND and (folding is None or folding <= FOLD_BOUND)
                note = "" if folding is None else f" (folding {folding:.2e})"
                print(f"{'ok  ' if good else 'FAIL'} {worst:8.2e} {folder.name}/{path.name}{note}")
            except Exception as error:  # noqa: BLE001 - every file is reported
                good = False
                print(f"FAIL {path}: {error}")
            failed += not good
    print(f"{checked - failed} passed, {failed} failed")
    sys.exit(1 if failed or not checked else 0)


if __name__ == "__main__":
    main()
