"""Faults while files are read and written: kills, signals, full disks, limits, changing checkpoints, races (Linux).

    python scripts/check_faults.py [--binary target/release/clip-onnx] [--rounds 12] [--only NAME] [--seed 0]

Needs Python's standard library alone. After each fault the output is the old one or the new one, whole, with the sums its
manifest lists; nothing of others is touched; and nothing is left behind after the next run. A full disk and a read-only
one are mounted, which needs root; where that is not allowed they are told as `not run`.
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/fixtures"
SENTENCE = b"clip-onnx: "


class Bench:
    def __init__(self, binary, folder, rounds, seed):
        self.binary, self.folder, self.rounds = binary, pathlib.Path(folder), rounds
        self.random = random.Random(seed)
        self.counts = {}

    def start(self, *args, cwd=None, before=None, env=None):
        command = [str(self.binary), "--no-settings", *map(str, args)]
        # Without a backtrace, as on a user's machine.
        env = {**os.environ, "RUST_BACKTRACE": "0", **(env or {})}
        return subprocess.Popen(
            command, cwd=cwd or self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before, env=env
        )

    def run(self, *args, **how):
        process = self.start(*args, **how)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def large(self):
        """A checkpoint of 170 MB: MobileCLIP-S1's names and shapes, in float16, its values made up."""
        path = self.folder / "large.safetensors"
        if path.exists():
            return path
        header, offset = {}, 0
        for line in (ROOT / "tests/keys/MobileCLIP-S1.apple.txt").read_text().splitlines():
            name, shape = line.split(" ")
            shape = [int(n) for n in shape.split(",") if n]
            size = 2
            for n in shape:
                size *= n
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(header).encode()
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.write(struct.pack("<e", 0.01) * (offset // 2))
        return path


def sums(folder):
    """Whether a folder is whole: all files its manifest lists, with the sums listed there, and no others."""
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {file["path"]: file for file in manifest["files"]}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    ours = {"manifest.json", "report.json", "report.html"}
    assert set(listed) <= found <= set(listed) | ours, f"{folder}: {sorted(found)} and listed {sorted(listed)}"
    for name, file in listed.items():
        data = (folder / name).read_bytes()
        assert len(data) == file["size"], f"{folder / name}: {len(data)} bytes, listed {file['size']}"
        assert hashlib.sha256(data).hexdigest() == file["sha256"], f"{folder / name} has another sum"
    return manifest["metadata"]["source_sha256"], tuple(sorted(listed))


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".clip-onnx-"))


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


def said(code, err, *parts):
    """One sentence, exit code 2."""
    # Where memory cannot be had, Rust says so itself, and adds a note.
    notes = (SENTENCE + b"note: ", b"note: run with `RUST_BACKTRACE")
    lines = [line for line in err.splitlines() if line and not line.startswith(notes)]
    expect(code == 2 and len(lines) == 1, f"exit code {code}: {err.decode(errors='replace')}")
    for part in parts:
        expect(part.encode() in lines[0], f"`{part}` is not in {lines[0].decode(errors='replace')}")


def took(bench, *args):
    started = time.monotonic()
    code, _, err = bench.run(*args)
    expect(code == 0, err.decode())
    return time.monotonic() - started


def killed_exports(bench):
    """kill -9 at any moment of an export that replaces another."""
    place = bench.folder / "killed"
    place.mkdir()
    out, checkpoint = place / "out", bench.large()
    old = ["export", checkpoint, "--out", out, "--force", "--no-verify"]
    new = [*old, "--precision", "fp16,fp32"]
    seconds = max(took(bench, *old), took(bench, *new))
    states = {}
    for name, command in (("old", old), ("new", new)):
        took(bench, *command)
        states[sums(out)] = name
    for turn in range(bench.rounds):
        took(bench, *old)
        process = bench.start(*new)
        # One half of them about the moment when the new folder takes the place of the old one.
        time.sleep(bench.random.uniform(0, 1.1 * seconds) if turn % 2 else bench.random.uniform(0.8, 1.2) * seconds)
        process.kill()
        process.communicate()
        bench.count("old whole" if states[sums(out)] == "old" else "new whole")
        bench.count(f"{'something' if leftovers(place) else 'nothing'} left by the kill")
    took(bench, *old)
    expect(not leftovers(place), f"left: {leftovers(place)}")


def killed_in_an_empty_folder(bench):
    """kill -9 of an export into an empty folder that is there, as a mount point is: the next run goes through."""
    place = bench.folder / "mounted"
    place.mkdir()
    command = ["export", bench.large(), "--out", place, "--no-verify"]
    seconds = took(bench, *command)
    for turn in range(bench.rounds):
        for path in list(place.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        process = bench.start(*command)
        time.sleep(bench.random.uniform(0, 1.05 * seconds))
        process.kill()
        process.communicate()
        done = (place / "manifest.json").exists()
        bench.count("whole" if done else "unfinished")
        if not done:
            took(bench, *command)
        sums(place)
        expect(not leftovers(place), f"left: {leftovers(place)}")


# What changes files, and what opens them.
OPERATIONS = (
    "openat,write,writev,pwrite64,ftruncate,fallocate,copy_file_range,fsync,fdatasync,flock,mkdir,mkdirat,chmod,fchmod,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir"
)


def every_operation(bench):
    """A kill at each single file operation, one after the other: what is there is whole, and the next run goes through."""
    sample, place = ROOT / "examples/sample", bench.folder / "operations"
    place.mkdir()
    took(bench, "export", sample, "--out", bench.folder / "model", "--no-verify")
    export = ["export", sample, "--no-verify", "--out"]
    embed = ["embed", bench.folder / "model", "--image", sample / "circle.png", "--engine", "tract", "--force", "--out"]

    def folder(out):
        if (out / "manifest.json").exists():
            sums(out)

    def file(out):
        expect(not out.exists() or out.read_bytes() == whole, f"{out} is not whole")

    def prepare(out, exists):
        if out.is_dir():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)
        if exists == "empty":
            out.mkdir()
        elif exists:
            took(bench, *export, out)

    kinds = [
        ("an export over another", [*export, place / "made", "--force", "--precision", "fp16"], "another", folder),
        ("an export into an empty folder", [*export, place / "empty"], "empty", folder),
        ("convert", ["convert", sample, "--force", "--out", place / "c.safetensors"], None, file),
        ("embed", [*embed, place / "e.npy"], None, file),
    ]
    for name, command, exists, check in kinds:
        out = next(part for part in command if isinstance(part, pathlib.Path) and part.parent == place)
        prepare(out, exists)
        took(bench, *command)
        whole = out.read_bytes() if out.is_file() else None
        for step in range(1, 1000):
            prepare(out, exists)
            inject = f"inject={OPERATIONS}:signal=KILL:when={step}"
            tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={OPERATIONS}", "-e", inject]
            process = subprocess.run([*tracer, bench.binary, "--no-settings", *command], capture_output=True)
            killed = process.returncode not in (0, 1, 2)
            if exists == "another":
                sums(out)
            check(out)
            over = ["--force"] if exists == "empty" and (out / "manifest.json").exists() else []
            code, _, err = bench.run(*command, *over)
            expect(code == 0, f"after a kill at operation {step} of {name}: {err.decode()}")
            check(out)
            left = [*leftovers(place), *(leftovers(out) if out.is_dir() else []), *place.glob("*.partial")]
            expect(not left, f"left after a kill at operation {step} of {name}: {left}")
            if not killed:
                break
            bench.count(name)


def signals(bench):
    """Ctrl-C, TERM and HUP: the old folder stays, and nothing is left."""
    place = bench.folder / "signals"
    place.mkdir()
    out = place / "out"
    command = ["export", bench.large(), "--out", out, "--force", "--no-verify"]
    seconds = took(bench, *command)
    def heed():
        # What runs in the background may have inherited that some are ignored.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for turn in range(bench.rounds):
            process = bench.start(*command, before=heed)
            time.sleep(bench.random.uniform(0.02, 0.9 * seconds))
            process.send_signal(number)
            process.communicate()
            bench.count(f"exit code {process.returncode}")
            sums(out)
            expect(not leftovers(place), f"left after signal {number}: {leftovers(place)}")


def signals_in_the_background(bench):
    """TERM where `nohup` or a shell has other signals ignored."""
    place = bench.folder / "background"
    place.mkdir()
    command = ["export", bench.large(), "--out", place / "out", "--force", "--no-verify"]
    seconds = took(bench, *command)

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    for turn in range(bench.rounds):
        process = bench.start(*command, before=ignore)
        time.sleep(bench.random.uniform(0.02, 0.9 * seconds))
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        bench.count(f"exit code {process.returncode}")
        sums(place / "out")
        expect(not leftovers(place), f"left: {leftovers(place)}")


def killed_converts(bench):
    place = bench.folder / "converts"
    place.mkdir()
    out = place / "out.safetensors"
    command = ["convert", bench.large(), "--out", out, "--force"]
    seconds = took(bench, *command)
    whole = hashlib.sha256(out.read_bytes()).hexdigest()
    for turn in range(bench.rounds):
        process = bench.start(*command)
        time.sleep(bench.random.uniform(0, 1.1 * seconds))
        process.kill()
        process.communicate()
        expect(hashlib.sha256(out.read_bytes()).hexdigest() == whole, "a file that is not whole")
        bench.count("whole")
    took(bench, *command)
    expect(not leftovers(place), f"left: {leftovers(place)}")


def killed_embeds(bench):
    """kill -9 of `embed`, gone on with until it is done: the bytes of a run that was not stopped."""
    place = bench.folder / "embeds"
    photos = place / "photos"
    photos.mkdir(parents=True)
    sample = ROOT / "examples/sample"
    for at in range(400):
        name = "circle" if at % 3 else "triangle"
        # Bytes behind a PNG's end are not read.
        (photos / f"{at:03}.png").write_bytes((sample / f"{name}.png").read_bytes() + bytes([at % 256, at // 256]))
        if at % 50 == 7:
            (photos / f"{at:03}.png").write_bytes(b"not an image")
    texts = place / "texts.txt"
    texts.write_text("".join(f"a photo of {at} circles\n" for at in range(300)))
    for precision in ("fp32", "int8"):
        out = place / precision
        took(bench, "export", sample, "--out", out, "--no-verify", "--precision", "fp32,int8")
        for kind in ("npy", "safetensors"):
            target = place / f"e.{kind}"
            command = ["embed", out, "--image", photos, "--precision", precision, "--out", target, "--force"]
            command += [] if kind == "npy" else ["--texts", texts]
            command += ["--engine", "tract"]
            started = time.monotonic()
            code, _, err = bench.run(*command)
            expect(code == 1, err.decode())
            seconds = time.monotonic() - started
            whole = target.read_bytes()
            for series in range(max(2, bench.rounds // 4)):
                target.unlink()
                for turn in range(6):
                    process = bench.start(*command)
                    time.sleep(bench.random.uniform(0, 0.7 * seconds))
                    process.kill()
                    process.communicate()
                    bench.count("kills")
                    if target.exists():
                        break
                partial = place / f"e.{kind}.partial"
                # A kill between the two leaves both: the file is whole, and the next run removes the partial one.
                if not target.exists() or partial.exists():
                    code, _, err = bench.run(*command)
                    expect(code == 1, err.decode())
                    bench.count("gone on with" if b"were done by an earlier run" in err else "begun again")
                expect(target.read_bytes() == whole, f"{target.name} {precision}: other bytes than of one run")
                expect(not partial.exists(), "the partial file is left")
            expect(not leftovers(place), f"left: {leftovers(place)}")


def other_models(bench):
    """Rows of one model are not gone on with by another."""
    place = bench.folder / "others"
    place.mkdir()
    sample, photos, out = ROOT / "examples/sample", place / "photos", place / "m"
    photos.mkdir()
    for at in range(30):
        shutil.copy(sample / "circle.png", photos / f"{at}.png")
    took(bench, "export", sample, "--out", out, "--no-verify", "--no-hash")
    target = place / "e.json"
    command = ["embed", out, "--image", photos, "--out", target, "--engine", "tract", "--batch", "1"]
    process = bench.start(*command)
    partial = place / "e.json.partial"
    while process.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") > 2):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    if target.exists():
        bench.count("too fast to be stopped")
        return
    model = out / "vision_model.onnx"
    data = bytearray(model.read_bytes())
    model.write_bytes(data)
    os.utime(model, (1, 1))
    code, _, err = bench.run(*command)
    said(code, err, "of another folder or of other options")
    bench.count("refused")


def changed_checkpoints(bench):
    """A checkpoint that is cut off, written to, replaced or removed while it is read."""
    for what in ("cut off", "written to", "replaced", "removed"):
        for command_name in ("export", "convert"):
            for turn in range(max(2, bench.rounds // 3)):
                place = bench.folder / f"changed-{what}-{command_name}-{turn}".replace(" ", "-")
                place.mkdir()
                checkpoint = place / "c.safetensors"
                shutil.copy(bench.large(), checkpoint)
                data = checkpoint.stat().st_size
                out = place / ("out" if command_name == "export" else "out.safetensors")
                command = [command_name, checkpoint, "--out", out]
                command += ["--no-verify", "--precision", "fp32,int8"] if command_name == "export" else []
                process = bench.start(*command)
                time.sleep(bench.random.uniform(0.01, 0.25))
                early = process.poll() is None
                if what == "cut off":
                    os.truncate(checkpoint, 1 << 20)
                elif what == "written to":
                    with open(checkpoint, "r+b") as file:
                        file.seek(data // 2)
                        file.write(b"\0" * 4096)
                elif what == "replaced":
                    shutil.copy(bench.large(), place / "other")
                    os.replace(place / "other", checkpoint)
                else:
                    checkpoint.unlink()
                _, err = process.communicate()
                code = process.returncode
                if code == 0:
                    expect(out.exists(), "nothing is there")
                    bench.count(f"{what}: done before" if not early else f"{what}: after the last look")
                    if command_name == "export":
                        source, _ = sums(out)
                        expect(source == digest(bench.large()), "a sum that is not the file's")
                else:
                    said(code, err)
                    expect(not out.exists(), "there is output all the same")
                    expect(not leftovers(place) or what == "cut off", f"left: {leftovers(place)}")
                    bench.count(f"{what}: one sentence")
                if what == "cut off" and leftovers(place):
                    bench.count("cut off: something left until the next run")
                shutil.rmtree(place)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def races(bench):
    """Exports and converts to one place at once, and things that appear there."""
    place = bench.folder / "races"
    place.mkdir()
    out, checkpoint = place / "out", bench.large()
    for turn in range(max(2, bench.rounds // 3)):
        shutil.rmtree(out, ignore_errors=True)
        runs = [bench.start("export", checkpoint, "--out", out, "--no-verify") for _ in range(3)]
        codes = sorted(run.wait() for run in runs)
        for run in runs:
            run.communicate()
        expect(codes == [0, 2, 2], f"exit codes of three exports to one new place: {codes}")
        sums(out)
        runs = [bench.start("export", checkpoint, "--out", out, "--no-verify", "--force") for _ in range(3)]
        codes = [run.wait() for run in runs]
        for run in runs:
            run.communicate()
        expect(codes == [0, 0, 0], f"exit codes with --force: {codes}")
        sums(out)
        expect(not leftovers(place), f"left: {leftovers(place)}")
        bench.count("three at once")
        for appears in ("folder", "file"):
            target = place / "mine"
            process = bench.start("export", checkpoint, "--out", target, "--no-verify", *(["--force"] * (turn % 2)))
            time.sleep(0.03)
            early = process.poll() is None
            if appears == "folder":
                target.mkdir()
                (target / "thesis.txt").write_text("mine")
            else:
                target.write_text("mine")
            _, err = process.communicate()
            expect(not early or process.returncode == 2, f"exit code {process.returncode}")
            kept = target / "thesis.txt" if appears == "folder" else target
            expect(kept.read_text() == "mine", "what appeared is gone")
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            bench.count(f"a {appears} that appears is kept")
        target = place / "mine.safetensors"
        process = bench.start("convert", checkpoint, "--out", target)
        time.sleep(0.03)
        early = process.poll() is None
        target.write_text("mine")
        _, err = process.communicate()
        expect(not early or (process.returncode == 2 and target.read_text() == "mine"), "what appeared is gone")
        target.unlink()
        bench.count("a file that appears is kept by convert")
        expect(not leftovers(place), f"left: {leftovers(place)}")


def limits(bench):
    """Limits of the operating system: one sentence, nothing left."""
    place = bench.folder / "limits"
    place.mkdir()
    out, checkpoint = place / "out", bench.large()

    def limited(kind, amount):
        def before():
            if kind == resource.RLIMIT_NPROC and os.geteuid() == 0:
                # The limit does not hold for root.
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(kind, (amount, amount))

        return before

    os.chmod(bench.folder, 0o755)
    os.chmod(place, 0o777)
    rows = [("file size", resource.RLIMIT_FSIZE, 1 << 20), ("file size", resource.RLIMIT_FSIZE, 40 << 20)]
    rows += [("memory", resource.RLIMIT_AS, 300 << 20), ("memory", resource.RLIMIT_AS, 150 << 20)]
    rows += [("open files", resource.RLIMIT_NOFILE, 4), ("open files", resource.RLIMIT_NOFILE, 12)]
    rows += [("threads", resource.RLIMIT_NPROC, 1), ("threads", resource.RLIMIT_NPROC, 3)]
    for what, kind, amount in rows:
        for command in (
            ["export", checkpoint, "--out", out, "--no-verify", "--precision", "fp32,int8,int4"],
            ["convert", checkpoint, "--out", place / "out.safetensors"],
            ["export", ROOT / "examples/sample", "--out", out],
        ):
            code, _, err = bench.run(*command, before=limited(kind, amount))
            if code != 0:
                said(code, err)
                expect(not out.exists(), f"{what}: there is output all the same")
            left = leftovers(place)
            expect(not left or what == "memory", f"{what} {amount}: left: {left}")
            bench.count(f"{what}: {'done' if code == 0 else 'one sentence'}")
            shutil.rmtree(out, ignore_errors=True)
            (place / "out.safetensors").unlink(missing_ok=True)
    took(bench, "export", ROOT / "examples/sample", "--out", out, "--no-verify")
    expect(not leftovers(place), f"left: {leftovers(place)}")


def disks(bench):
    """A disk that is full, and one that is read-only."""
    disk = bench.folder / "disk"
    disk.mkdir()
    mount = lambda options: subprocess.run(  # noqa: E731
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True
    ).returncode
    if os.geteuid() != 0 or mount("size=64k") != 0:
        bench.count("not run: needs the right to mount")
        return
    subprocess.run(["umount", disk], check=True)
    sample = ROOT / "examples/sample"
    whole = bench.folder / "whole"
    took(bench, "export", sample, "--out", whole)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    photos = [sample / "circle.png"] * 1
    for step in range(1, bench.rounds + 3):
        kilobytes = max(4, (size * step // (bench.rounds + 1)) // 1024)
        expect(mount(f"size={kilobytes}k") == 0, "no disk")
        try:
            for command in (
                ["export", sample, "--out", disk / "out"],
                ["convert", sample, "--out", disk / "out.safetensors"],
                ["embed", whole, "--image", *photos, "--out", disk / "e.npy", "--engine", "tract"],
            ):
                code, _, err = bench.run(*command)
                if code == 0:
                    bench.count(f"{command[0]}: room enough")
                else:
                    said(code, err)
                    expect(not leftovers(disk), f"left: {leftovers(disk)}")
                    expect(b".clip-onnx-" not in err, f"names a temporary folder: {err.decode()}")
                    bench.count(f"{command[0]}: one sentence")
                for path in disk.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            subprocess.run(["umount", disk], check=True)
    expect(mount("size=16m,ro") == 0, "no disk")
    try:
        code, _, err = bench.run("export", sample, "--out", disk / "out")
        said(code, err)
        bench.count("read-only: one sentence")
    finally:
        subprocess.run(["umount", disk], check=True)


CHECKS = [
    killed_exports,
    killed_in_an_empty_folder,
    every_operation,
    signals,
    signals_in_the_background,
    killed_converts,
    killed_embeds,
    other_models,
    changed_checkpoints,
    races,
    limits,
    disks,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failed = False
    for check in CHECKS:
        if args.only and args.only != check.__name__:
            continue
        if check is every_operation and not shutil.which("strace"):
            print(f"{check.__name__}: not run, strace is not installed", flush=True)
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            bench = Bench(args.binary.resolve(), folder, args.rounds, args.seed)
            try:
                check(bench)
                outcome = "passed"
            except (AssertionError, subprocess.TimeoutExpired) as error:
                outcome, failed = f"FAILED: {error}", True
        counts = ", ".join(f"{what} {count}" for what, count in sorted(bench.counts.items()))
        print(f"{check.__name__}: {outcome} ({counts}; {time.monotonic() - started:.0f} s)", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
