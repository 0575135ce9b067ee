"""Runs towers of `--target qnn` on the simulator of Qualcomm's HTP that the x86 wheel of ONNX Runtime's QNN plugin has.

    pip install numpy onnx onnxruntime onnxruntime-qnn
    python scripts/check_qnn.py [--binary target/release/clip-onnx] [FIXTURE ...]

Nothing may fall back to the CPU: a session of a tower of which one node is not taken does not come about. float32 is
computed in float16 there, so embeddings are held to a cosine beside those of the authors' code; the largest absolute
difference over the RMS of the reference stands beside it. Without names, one fixture of each family is run. Exits 1 where
a tower is not taken whole, or is below its bound.
"""
import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
import onnxruntime as ort
import onnxruntime_qnn

ROOT = pathlib.Path(__file__).resolve().parent.parent
FAMILIES = ["siglip_tiny", "siglip2_naflex_tiny", "mobileclip_s0_tiny", "mobileclip_s1_tiny", "mobileclip_b_tiny",
            "mobileclip2_s3_tiny", "openclip_vit_tiny", "clip_eos"]
# Of towers 64 wide and FastViTs of 8 channels in float16.
LEAST = 0.999
# Without a chip's name the compiler runs out of memory ("QNN_COMMON_ERROR_MEM_ALLOC 1002").
OPTIONS = {"backend_path": "", "htp_arch": "75", "soc_model": "57", "enable_htp_fp16_precision": "1"}


def source(name):
    """What is exported, flags and reference."""
    case = ROOT / "tests/fixtures" / name
    if case.is_dir():
        return sorted(case.glob("checkpoint.*"))[0], ["--config", case / "config.json"], case / "reference.npz"
    case = ROOT / "tests/transformers" / name
    return case, [], case / "reference.npz"


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    devices = [device for device in ort.get_ep_devices() if device.ep_name == onnxruntime_qnn.get_ep_name()]
    options.add_provider_for_devices(devices[:1], OPTIONS | {"backend_path": onnxruntime_qnn.get_qnn_htp_path()})
    return ort.InferenceSession(str(path), options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    parser.add_argument("fixtures", nargs="*", default=FAMILIES)
    args = parser.parse_args()
    ort.register_execution_provider_library(onnxruntime_qnn.get_ep_name(), onnxruntime_qnn.get_library_path())
    print(f"ONNX Runtime {ort.__version__}, QNN plugin {onnxruntime_qnn.__version__}, HTP simulator")
    print("| model | tower | relative error | cosine |\n|---|---|---|---|")
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.fixtures:
            checkpoint, flags, reference = source(name)
            arrays = dict(np.load(reference))
            if "naflex" in name:
                flags = [*flags, "--image-size", "{}x{}".format(*arrays["image"].shape[2:])]
            out = pathlib.Path(scratch) / name
            line = [args.binary, "export", checkpoint, *flags, "--out", out, "--target", "qnn", "--no-verify"]
            subprocess.run(line, check=True, capture_output=True)
            for tower, file, key, wanted in [
                ("image", "vision_model.onnx", "image", "image_embedding_normalized"),
                ("text", "text_model.onnx", "tokens", "text_embedding_normalized"),
            ]:
                try:
                    run = session(out / file)
                    taken = arrays[key][:1].astype(np.int32 if tower == "text" else np.float32)
                    got = run.run(None, {run.get_inputs()[0].name: taken})[0].astype(np.float64)
                except Exception as error:  # noqa: BLE001 - every tower is reported
                    failed += 1
                    print(f"| {name} | {tower} | FAILED: {str(error).splitlines()[0][:120]} | |", flush=True)
                    continue
                want = arrays[wanted][:1].astype(np.float64)
                error = np.abs(got - want).max() / np.sqrt((want**2).mean())
                cosine = float((got * want).sum() / np.linalg.norm(got) / np.linalg.norm(want))
                failed += not cosine >= LEAST
                print(f"| {name} | {tower} | {error:.0e} | {cosine:.6f} |", flush=True)
    print(f"{2 * len(args.fixtures) - failed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
