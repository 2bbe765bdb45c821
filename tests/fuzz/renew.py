"""Renews ``corpus/`` and ``coverage.toml``: ``PYTHONPATH=.:tests python -m fuzz.renew``.

What long runs (``make torture``) left in ``.cache/fuzz`` is looked through for inputs that reach what no other does;
then what all of them reach is measured and recorded, each figure rounded down to whole percents: compilers do not agree
on what a line is.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from fuzz import fuzzing, seeds

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECORD = Path(__file__).resolve().parent / "coverage.toml"
HEAD = """\
# Percents of lines and of branches of launcher/*.c that seeds and corpus reach, rounded down; a test fails where it is
# less. Written by tests/fuzz/renew.py.
"""


def recorded() -> dict[str, fuzzing.Coverage]:
    """The record: target -> file -> figures."""
    tables = tomllib.loads(RECORD.read_text("utf-8"))
    return {target: {name: (float(a), float(b)) for name, (a, b) in table.items()} for target, table in tables.items()}


def main() -> None:
    """Renew both."""
    text = HEAD
    for target in seeds.TARGETS:
        kept = fuzzing.KEPT / target
        new = fuzzing.new_inputs(target, kept) if kept.exists() else []
        with (seeds.CORPUS / f"{target}.txt").open("a", encoding="ascii") as file:
            file.writelines(f"{seeds.packed(content)}\n" for content in new)
        print(f"{target}: {len(new)} new inputs")
        text += f"\n[{target}]\n"
        for name, (lines, branches) in fuzzing.covered(target).items():
            text += f"{name} = [{math.floor(lines)}, {math.floor(branches)}]\n"
    RECORD.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
