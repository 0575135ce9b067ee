"""Runs the commands and programs shown in README.md and docs/, and compares what they print.

    pip install numpy onnxruntime pillow tokenizers transformers fastembed
    python scripts/check_docs.py [--binary target/release/clip-onnx] [--only README.md] [--list]

- ```console: lines that begin with `$ ` are run by bash, one after another, in a folder that has `examples`, `scripts`
  and `tests`; what follows each is compared with its output. A line `...` stands for any lines, `…` in a line for any text.
  `# exit code N` behind a command is the exit code that is expected.
- ```python: the program is run; a ```text block behind it is compared with its output.
- ```toml named `clip-onnx.toml` by the line before it is written into the folder.
- ```sh: not run here. Each command must be in ELSEWHERE, with the place that runs it.

All blocks of a page share a folder. Numbers in scientific notation, times and versions of ONNX Runtime vary between
machines, and are compared as if they were equal.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?P<before>[^\n]*)\n*^```(?P<kind>[^\n]*)\n(?P<body>.*?)^```$", re.M | re.S)

# What begins a command of a ```sh block, and where it is run.
ELSEWHERE = {
    "cargo test --release": ".ci/run, tests",
    "cargo run --release": ".ci/run, examples",
    "cargo install": ".github/workflows/release.yml builds the same crate",
    "cargo build": ".ci/run, ONNX Runtime",
    "cargo bench": "by hand; its figures are dated",
    "cargo add": "not run: the library's crate is not published yet",
    "pip install": ".ci/run, wheel and the steps that install what they need",
    "npm ": ".ci/run, the web page",
    "cd web": ".ci/run, the web page",
    "python3 -m http.server": "the browser test serves the same folder",
    "python -m onnxruntime.tools": "scripts/check_tools.py",
    "python scripts/": "by hand, with torch; .ci/run runs the check_*.py that need none",
    "just ": "CONTRIBUTING.md's recipes; .ci/run has the same commands",
    "docker ": "not run: no container engine in CI",
    "git ": "not run: the repository's own commands",
    "mkdocs ": ".ci/run, documentation",
    "bash ": "tests/suite/cli.rs",
    "mkdir ": "not run: makes a folder of the user's",
    "man ": "tests/suite/cli.rs makes the pages",
    "clip-onnx ": "tests/suite: the same command on a fixture, with other paths",
}

MASKS = [
    (re.compile(r"\b\d\.\d+e-\d+"), "N"),
    (re.compile(r"ONNX Runtime \d+\.\d+\.\d+"), "ONNX Runtime N"),
    (re.compile(r"(\b[01]\.\d{3})\d+"), r"\1"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile("█+"), ""),
]


def masked(line):
    for pattern, replacement in MASKS:
        line = pattern.sub(replacement, line)
    return line.strip()


def agrees(expected, found):
    """Whether lines are as shown; `...` stands for any lines, `…` for any text."""
    if not expected:
        return not found
    if expected[0].strip() == "...":
        return agrees(expected[1:], found) or bool(found) and agrees(expected, found[1:])
    if not found:
        return False
    pattern = ".*".join(re.escape(masked(part)) for part in expected[0].split("…"))
    return re.fullmatch(pattern, masked(found[0])) is not None and agrees(expected[1:], found[1:])


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


class Page:
    """One file: its blocks run in one folder, in order."""

    def __init__(self, path, binary, rows):
        self.path, self.rows = path, rows
        self.folder = pathlib.Path(tempfile.mkdtemp())
        for name in ("examples", "scripts", "tests", "models"):
            (self.folder / name).symlink_to(ROOT / name)
        path_with_tool = f"{binary.parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path_with_tool, "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}
        self.env.pop("ORT_DYLIB_PATH", None)

    def check(self, run=True):
        text = self.path.read_text()
        blocks = list(BLOCK.finditer(text))
        for at, block in enumerate(blocks):
            kind, body = block["kind"].strip(), block["body"]
            line = text[: block.start("kind")].count("\n") + 1
            if kind == "console":
                self.console(line, body, run)
            elif kind == "python":
                after = blocks[at + 1] if at + 1 < len(blocks) and blocks[at + 1]["kind"].strip() == "text" else None
                self.program(line, body, after["body"] if after else "", run)
            elif kind == "toml" and "clip-onnx.toml" in block["before"]:
                (self.folder / "clip-onnx.toml").write_text(body)
            elif kind == "sh":
                self.elsewhere(line, body)
        shutil.rmtree(self.folder, ignore_errors=True)

    def row(self, line, command, outcome, shown=""):
        self.rows.append((f"{self.path.relative_to(ROOT)}:{line}", command, outcome, shown))

    def console(self, line, body, run):
        for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
            command, _, expected = part.partition("\n")
            while command.endswith("\\"):
                more, _, expected = expected.partition("\n")
                command = command[:-1] + more.removeprefix("> ")
            code = re.search(r"\s+# exit code (\d)$", command)
            command = command[: code.start()] if code else command
            if not run:
                self.row(line, command, "run here")
                continue
            ran = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.env, capture_output=True, text=True)
            found = ran.stdout + ran.stderr
            good = ran.returncode == int(code[1] if code else 0) and agrees(lines(expected), lines(found))
            self.row(line, command, "ok" if good else "DIFFERS", "" if good else f"exit code {ran.returncode}\n{found}")

    def program(self, line, body, expected, run):
        name = body.strip().splitlines()[0][:60]
        if not run:
            self.row(line, f"python: {name}", "run here")
            return
        ran = subprocess.run([sys.executable, "-c", body], cwd=self.folder, env=self.env, capture_output=True, text=True)
        good = ran.returncode == 0 and agrees(lines(expected), lines(ran.stdout))
        self.row(line, f"python: {name}", "ok" if good else "DIFFERS", "" if good else ran.stdout + ran.stderr[-2000:])

    def elsewhere(self, line, body):
        for command in re.sub(r"\\\n\s*", "", body).splitlines():
            command = command.split(" # ")[0].strip()
            if not command or command.startswith("#"):
                continue
            place = next((place for start, place in ELSEWHERE.items() if command.startswith(start)), None)
            self.row(line, command, place or "UNKNOWN: add its beginning to ELSEWHERE, or make it a console block")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/clip-onnx")
    parser.add_argument("--only", help="part of a file's path")
    parser.add_argument("--list", action="store_true", help="run nothing; print where each command is run")
    args = parser.parse_args()
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    rows = []
    for page in pages:
        if page.exists() and (not args.only or args.only in str(page)):
            Page(page, args.binary.resolve(), rows).check(run=not args.list)
    for place, command, outcome, shown in rows:
        print(f"{place}: {command}\n    {outcome}")
        if shown:
            print("    " + shown.replace("\n", "\n    "))
    for page in pages if not args.only else []:
        # Links of docs/ among each other are the site's to check.
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text() if page.exists() else ""):
            if "://" not in target and not (page.parent / target).exists():
                rows.append((str(page.relative_to(ROOT)), target, "DIFFERS: no such file", ""))
                print(f"{page.relative_to(ROOT)}: link to {target}, which is not there")
    failed = [row for row in rows if row[2].startswith(("DIFFERS", "UNKNOWN"))]
    print(f"{len(rows)} commands and programs, {len(failed)} differ or have no place")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
