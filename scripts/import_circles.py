"""Circles among the files of src: sets of files of which each imports each other, directly or through others.

    python scripts/import_circles.py [--parents] [src]

A file imports another where a `use` or a path in its code names something that the other defines. `mod` lines are no
imports, and neither is a `use` that only passes a name on: importing that name is importing from the file that defines
it. Unit tests, comments and strings do not count. A module and the modules inside it belong together, so imports
between the two are left out, unless `--parents` asks for them. Each circle is printed with the imports that make it.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

TOKEN = re.compile(
    r"""
      //[^\n]* | /\*.*?\*/                                   # comments
    | b?r(?P<hashes>\#*)".*?"(?P=hashes) | b?"(?:\\.|[^"\\])*"   # strings
    | b?'(?:\\(?:x..|u\{\w+\}|.)|[^'\\])' | '\w+             # characters, lifetimes
    | (?P<token> \w+ | :: | \S )
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> list[str]:
    found = [match["token"] for match in TOKEN.finditer(text) if match["token"]]
    out, at = [], 0
    while at < len(found):
        if found[at : at + 7] == ["#", "[", "cfg", "(", "test", ")", "]"]:
            at = after_item(found, at + 7)
        else:
            out.append(found[at])
            at += 1
    return out


def after_item(found: list[str], at: int) -> int:
    """The position after an item: after its semicolon, or after its outermost braces."""
    depth = 0
    while at < len(found):
        depth += (found[at] == "{") - (found[at] == "}")
        at += 1
        if depth == 0 and found[at - 1] in ";}":
            break
    return at


def tree(found: list[str], at: int, prefix: tuple[str, ...]) -> tuple[list[tuple[tuple[str, ...], str]], int]:
    """The paths of a use tree, or of a plain path, that starts at `at`, each with the name it binds."""
    path = prefix
    while at < len(found):
        if found[at] == "{":
            out, at = [], at + 1
            while found[at] != "}":
                more, at = tree(found, at, path)
                out += more
                at += found[at] == ","
            return out, at + 1
        path, at = (*path, found[at]), at + 1
        if found[at : at + 1] == ["::"] and re.match(r"\w|\{|\*", found[at + 1]):
            at += 1
            continue
        break
    if path[-1] == "self":
        path = path[:-1] or path
    bound = path[-1] if path else ""
    if found[at : at + 1] == ["as"]:
        bound, at = found[at + 1], at + 2
    return [(path, bound)], at


class Sources:
    def __init__(self, root: Path):
        self.files: dict[tuple[str, ...], Path] = {}  # by module; the binary's modules lie below "main"
        self.paths: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        self.names: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = defaultdict(dict)
        main = re.findall(r"^(?:pub )?mod (\w+);", (root / "main.rs").read_text(), re.MULTILINE)
        for file in sorted(root.rglob("*.rs")):
            parts = file.relative_to(root).with_suffix("").parts
            module = {("lib",): (), ("main",): ("main",)}.get(parts, parts)
            self.files[("main", *module) if module and module[0] in main else module] = file
        for module, file in self.files.items():
            self.read(module, tokens(file.read_text()))

    def read(self, module: tuple[str, ...], found: list[str]):
        at = 0
        while at < len(found):
            word, before = found[at], found[at - 1] if at else ""
            if word == "use":
                paths, at = tree(found, at + 1, ())
                for path, name in paths:
                    if target := self.absolute(module, path):
                        self.names[module][name] = target
                        if path[-1] == "*":
                            self.paths[module].append(target[:-1])
                continue
            if before != "::" and before != "." and re.match(r"[A-Za-z_]", word):
                paths, end = tree(found, at, ())
                if len(paths[0][0]) > 1 and (target := self.absolute(module, paths[0][0])):
                    self.paths[module].append(target)
                    at = end
                    continue
                if word in self.names[module]:
                    self.paths[module].append((*module, word))
            at += 1

    def absolute(self, module: tuple[str, ...], path: tuple[str, ...]) -> tuple[str, ...] | None:
        """From the root of the library; none for other crates' paths and local names."""
        crate = ("main",) if module[:1] == ("main",) else ()
        first, rest = path[0], path[1:]
        if first == "crate":
            return (*crate, *rest)
        if first == "clip_onnx":
            return rest
        if first in ("super", "self"):
            here = module
            while path and path[0] in ("super", "self"):
                here, path = (here[:-1] if path[0] == "super" else here), path[1:]
            return (*here, *path)
        if (*module, first) in self.files or first in self.names[module]:
            return (*module, *path)
        return None

    def defining(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """The module with the code that a path leads to, through names that modules pass on."""
        module, rest, seen = (), path, set()
        while rest and (module, rest) not in seen:
            seen.add((module, rest))
            if (*module, rest[0]) in self.files:
                module, rest = (*module, rest[0]), rest[1:]
            elif rest[0] in self.names[module]:
                module, rest = (), (*self.names[module][rest[0]], *rest[1:])
            else:
                break
        return module if module in self.files else None

    def imports(self) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
        out = {module: set() for module in self.files}
        for module, paths in self.paths.items():
            for path in paths:
                target = self.defining(path)
                if target is not None and target != module:
                    out[module].add(target)
        return out


def circles(graph: dict) -> list[list]:
    """Strongly connected components of two and more (Tarjan's algorithm)."""
    index, low, stack, out = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            component, stack[at:] = stack[at:], []
            if len(component) > 1:
                out.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(out, key=len, reverse=True)


def related(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one module is inside the other."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parents", action="store_true", help="count imports between a module and those inside it")
    parser.add_argument("src", nargs="?", type=Path, default=Path(__file__).parent.parent / "src")
    args = parser.parse_args()
    root, sources = args.src, Sources(args.src)
    graph = sources.imports()
    if not args.parents:
        graph = {one: {other for other in others if not related(one, other)} for one, others in graph.items()}
    shown = {module: str(file.relative_to(root)) for module, file in sources.files.items()}
    found = circles(graph)
    for circle in found:
        print(f"{len(circle)} files")
        for module in circle:
            inside = sorted(shown[other] for other in graph[module] if other in circle)
            print(f"    {shown[module]} -> {', '.join(inside)}")
    print(f"{len(found)} circles of {sum(map(len, found))} files, of {len(graph)} files in all")


if __name__ == "__main__":
    main()
