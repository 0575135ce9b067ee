"""What an export costs: ours beside `cp` of the same bytes and beside what Python offers.

    pip install torch open_clip_torch timm transformers onnx onnxscript numpy safetensors
    pip install mobius-onnx                                     (for --mobius)
    cargo build --release
    python scripts/bench_export.py ViT-B-16-SigLIP --torch --mobius
    python scripts/bench_export.py ViT-SO400M-14-SigLIP-384 ViT-gopt-16-SigLIP2-384   (no torch: cp and ours)
    python scripts/bench_export.py ViT-B-16-SigLIP --compressed                        (deflated members)

Every row is a whole process, from its start to its end, both towers: CPU time (user and system), wall
time, peak resident memory and peak anonymous memory, which is what a process holds beyond the files it
maps (RssAnon, looked at every 2 ms). Rows are interleaved; the figures are least and median. Before each
row the checkpoint is copied and the copy removed, so that all write into pages the system has at hand.

torch's rows load the same weights by open_clip.create_model and export them by torch.onnx.export, for a
FastViT reparameterized first. mobius builds the image tower of transformers' SiglipVisionModel or
CLIPVisionModel alone, up to last_hidden_state: it has no other part of these models.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SCRIPTS = pathlib.Path(__file__).resolve().parent
BINARY = SCRIPTS.parent / "target/release/clip-onnx"

TORCH = """
import sys, torch, open_clip, timm
name, weights, out, exporter = sys.argv[1:]
model = open_clip.create_model(name, pretrained=weights).eval()
trunk = getattr(model.visual, "trunk", None)
if trunk is not None and "MobileCLIP" in name:
    model.visual.trunk = timm.utils.reparameterize_model(trunk)
class Tower(torch.nn.Module):
    def __init__(self, tower):
        super().__init__()
        self.model, self.encode = model, getattr(model, "encode_" + tower)
    def forward(self, x):
        return self.encode(x, normalize=True)
side = model.visual.image_size
side = side if isinstance(side, int) else side[0]
length = getattr(model, "context_length", None) or model.text.context_length
for tower, x in (("image", torch.rand(2, 3, side, side)), ("text", torch.ones(2, length, dtype=torch.long))):
    how = dict(dynamo=True, dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}}) if exporter == "dynamo" else \
        dict(dynamo=False, opset_version=17, dynamic_axes={"x": {0: "batch"}})
    torch.onnx.export(Tower(tower).eval(), (x,), f"{out}/{tower}.onnx", input_names=["x"], output_names=["y"],
                      verbose=False, **how)
"""

TRANSFORMERS = """
import sys, transformers
kind = getattr(transformers, sys.argv[1])
config = kind.config_class(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                           image_size=224, patch_size=int(sys.argv[2]))
kind(config).save_pretrained(sys.argv[3])
"""

MOBIUS = """
import sys, mobius
mobius.build(sys.argv[1], load_weights=True).save(sys.argv[2])
"""


def random_checkpoint(name, scratch, args):
    """The published form, and the weights as open_clip and transformers load them (None without --torch)."""
    published = scratch / "checkpoint.npz"
    if "SigLIP" in name:
        flags = [flag for flag in ("--compressed", "--stacked") if getattr(args, flag[2:])]
        subprocess.run([sys.executable, SCRIPTS / "make_big_vision.py", name, "-o", published, *flags], check=True)
    else:
        published = scratch / "checkpoint.pt"
        subprocess.run([sys.executable, SCRIPTS / "make_open_clip.py", name, "-o", published], check=True)
    weights = None
    if args.torch:
        weights = scratch / "weights.safetensors"
        subprocess.run([BINARY, "convert", published, "--model", name, "-o", weights], check=True, capture_output=True)
    folder = None
    if args.mobius:
        folder = scratch / "transformers"
        kind = "SiglipVisionModel" if "SigLIP" in name else "CLIPVisionModel"
        # In a process of its own: what this one holds would count as its children's peak.
        subprocess.run([sys.executable, "-c", TRANSFORMERS, kind, "16" if "16" in name else "32", folder], check=True)
    return published, weights, folder


def anonymous(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def run(command):
    """CPU s, wall s, peak resident and peak anonymous bytes."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.002)
    wall = time.monotonic() - start
    if status:
        sys.exit(f"{command} failed: {process.stderr.read().decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch", action="store_true", help="time torch's two exporters too")
    parser.add_argument("--mobius", action="store_true", help="time mobius too (a B/16- or B/32-sized image tower)")
    parser.add_argument("--compressed", action="store_true", help="deflate the .npz")
    parser.add_argument("--stacked", action="store_true", help="stack the .npz's blocks")
    parser.add_argument("--scratch", type=pathlib.Path, help="where to put checkpoints and outputs")
    args = parser.parse_args()
    for name in args.models:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            scratch = pathlib.Path(scratch)
            published, weights, folder = random_checkpoint(name, scratch, args)
            out, copy = scratch / "out", scratch / "copy"
            ours = [BINARY, "export", published, "--model", name, "--no-verify", "--out", out]
            rows = {"cp": ["cp", published, copy], "export": ours, "export --no-hash": [*ours, "--no-hash"],
                    "export --target onnxruntime": [*ours, "--target", "onnxruntime"]}
            if args.torch:
                for exporter in ("torchscript", "dynamo"):
                    rows[f"torch, {exporter}"] = [sys.executable, "-c", TORCH, name, weights, out, exporter]
            if args.mobius:
                rows["mobius, image tower alone"] = [sys.executable, "-c", MOBIUS, folder, out]
            seen = {row: [] for row in rows}
            for _ in range(args.rounds):
                for row, command in rows.items():
                    shutil.copyfile(published, copy)
                    copy.unlink()
                    if command[0] == sys.executable:
                        out.mkdir()
                    seen[row].append(run(command))
                    shutil.rmtree(out, ignore_errors=True)
                    copy.unlink(missing_ok=True)
            size = published.stat().st_size
            print(f"{name}{', deflated' if args.compressed else ''}{', stacked' if args.stacked else ''}: {size / 1e6:.0f} MB")
            for row, figures in seen.items():
                cpu, wall, resident, anon = zip(*figures)
                times = [statistics.median(a[0] / b[0] for a, b in zip(figures, seen["cp"])),
                         statistics.median(a[0] / b[0] for a, b in zip(figures, seen["export"])),
                         statistics.median(a[1] / b[1] for a, b in zip(figures, seen["export"]))]
                print(f"  {row:28} CPU {min(cpu):7.2f} / {statistics.median(cpu):7.2f} s   wall {min(wall):7.2f} / "
                      f"{statistics.median(wall):7.2f} s   peak {max(resident) / 1e6:6.0f} MB, anonymous {max(anon) / 1e6:6.1f} MB"
                      f"   {times[0]:6.2f} x cp's CPU   {times[1]:6.2f} x export's CPU, {times[2]:6.2f} x its wall")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
