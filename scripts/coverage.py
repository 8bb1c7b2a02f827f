#!/usr/bin/env python3
"""How much of the log's pure files the engine's tests reach; fails below the bound.

The files are those that engram-core/tests/tidy_tests.rs calls pure, below storage/wal. Test modules are
left out: a test reaches itself; so are blocks that only the simulator's planted bugs enter. A region or line counts as reached when any copy of it is: the engine is
compiled with its unit tests and again without, and llvm-cov would take the better one of the two.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from glob import glob

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOUND_PERCENT = 98.0
CODE = 0  # the kind of a region that is code: gaps, expansions and branches are others


def pure_files():
    text = (ROOT / "engram-core/tests/tidy_tests.rs").read_text()
    table = re.search(r"const PURE: .*?\];", text, re.S).group(0)
    names = re.findall(r'"(storage/wal/[^"]+)"', table)
    for name in sorted(names):
        path = ROOT / "engram-core/src" / name
        yield from sorted(path.rglob("*.rs")) if path.is_dir() else [path]


def tools():
    """The environment in which cargo-llvm-cov finds LLVM's tools; ends where something is missing."""
    cargo = os.environ.get("CARGO", "cargo")
    if subprocess.run([cargo, "llvm-cov", "--version"], capture_output=True).returncode != 0:
        sys.exit("cargo-llvm-cov is missing: cargo install --locked cargo-llvm-cov")
    env = dict(os.environ)
    if "LLVM_COV" in env and "LLVM_PROFDATA" in env:
        return cargo, env
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True).stdout.strip()
    if glob(f"{sysroot}/lib/rustlib/*/bin/llvm-cov"):
        return cargo, env  # rustup's, found by cargo-llvm-cov itself
    versions = [int(re.search(r"(\d+)/bin", path).group(1)) for path in glob("/usr/lib/llvm-*/bin/llvm-cov")]
    if max(versions, default=0) < 19:
        sys.exit("LLVM's tools, 19 or newer, are missing: rustup component add llvm-tools, or apt-get install"
                 " llvm-19 (elsewhere, name them: LLVM_COV=… LLVM_PROFDATA=…)")
    env["LLVM_COV"] = f"/usr/lib/llvm-{max(versions)}/bin/llvm-cov"
    env["LLVM_PROFDATA"] = f"/usr/lib/llvm-{max(versions)}/bin/llvm-profdata"
    return cargo, env


def measure(target):
    cargo, env = tools()
    runner = ["nextest"] if shutil.which("cargo-nextest") else []
    command = [cargo, "llvm-cov", *runner, "-p", "engram-core", "--locked", "--json", "--output-path", str(target)]
    done = subprocess.run(command, env=env, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(done.returncode)


def regions(data, name, last):
    """(line, column, end line, end column) → how often it was reached."""
    found = {}
    for function in data["functions"]:
        if name not in function["filenames"]:
            continue
        for line, column, end, end_column, count, file, _, kind in function["regions"]:
            if kind == CODE and function["filenames"][file] == name and line < last:
                place = (line, column, end, end_column)
                found[place] = found.get(place, 0) + count
    return found


def lines(segments, last):
    """line → how often it was reached, by the rules of llvm-cov's own reports."""
    found, wrapped, at = {}, None, 0
    for line in range(1, last):
        here = []
        while at < len(segments) and segments[at][0] == line:
            here.append(segments[at])
            at += 1
        starts = [s[2] for s in here if s[3] and s[4] and not s[5]]
        skipped = here and not here[0][3] and here[0][4]
        mapped = not skipped and (starts or wrapped and wrapped[3])
        if mapped or any(s[3] and s[4] for s in here):
            found[line] = max([wrapped[2] if wrapped else 0, *starts])
        wrapped = here[-1] if here else wrapped
    return found


def planted(text):
    """Lines of blocks that only a promise broken on purpose enters: no build but the simulator's can."""
    found, ends = set(), None
    for number, line in enumerate(text, 1):
        if line.strip().startswith("if broken("):
            ends = line[: len(line) - len(line.lstrip())] + "}"
        if ends is not None:
            found.add(number)
        if line == ends:
            ends = None
    return found


def share(found):
    return 100.0 * sum(1 for count in found.values() if count) / max(len(found), 1)


def row(name, by_line, by_region):
    cells = [f"{sum(1 for n in found.values() if n)} of {len(found)} | {share(found):.2f} %"
             for found in (by_line, by_region)]
    return f"| {name} | {cells[0]} | {cells[1]} |"


def main():
    target = pathlib.Path(os.environ.get("ENGRAM_COVERAGE_JSON", ROOT / "target/coverage.json"))
    if "ENGRAM_COVERAGE_JSON" not in os.environ:
        target.parent.mkdir(exist_ok=True)
        measure(target)
    data = json.loads(target.read_text())["data"][0]
    segments = {file["filename"]: file["segments"] for file in data["files"]}
    all_lines, all_regions, missed, low = {}, {}, [], []
    print("| file | lines | | regions | |\n| --- | ---: | ---: | ---: | ---: |")
    for path in pure_files():
        text = path.read_text().splitlines()
        last = next((n for n, line in enumerate(text, 1) if line.startswith("#[cfg(test)]")), len(text) + 1)
        by_line, by_region = lines(segments.get(str(path), []), last), regions(data, str(path), last)
        skipped = planted(text)
        by_line = {line: count for line, count in by_line.items() if line not in skipped}
        by_region = {place: count for place, count in by_region.items() if place[0] not in skipped}
        name = path.relative_to(ROOT / "engram-core/src/storage/wal")
        print(row(name, by_line, by_region))
        all_lines.update({(path, line): count for line, count in by_line.items()})
        all_regions.update({(path, place): count for place, count in by_region.items()})
        if by_region and min(share(by_line), share(by_region)) < BOUND_PERCENT:
            low.append(str(name))
        missed += [f"{name}:{line}:{column}: {text[line - 1].strip()}"
                   for (line, column, *_), count in sorted(by_region.items()) if not count]
    print(row("all", all_lines, all_regions))
    print("\nNot reached:", *(missed or ["nothing"]), sep="\n  ")
    if not all_regions:
        sys.exit("nothing was measured")
    if low:
        sys.exit(f"less than {BOUND_PERCENT:g} % of lines or regions: {', '.join(low)}")


if __name__ == "__main__":
    main()
