"""Definitions of jobs that share the hosts of a matrix, each running its part, and merge what they have seen.

What is printed is YAML in the form that every service reads: block style, and every text quoted as in JSON.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SETUP = ("python3 -m pip install fatpar",)

_IMAGE = "python:3"
"""For services that run jobs in a container unless they are told otherwise."""

_PARTS, _WHOLE = "matrix-parts", "matrix"
"""Directories: what shards have seen, and the reports of all of it."""

_PLAIN = re.compile("[A-Za-z][A-Za-z0-9_-]*(?:/[A-Za-z0-9_-]+)?")
"""A key that means itself in YAML, unless it is one of these, which old readers take for a truth value."""
_TRUTHS = {"on", "off", "yes", "no", "y", "n", "true", "false", "null"}

Value = Union[str, int, bool, "list[Value]", "dict[str, Value]"]


@dataclass(frozen=True)
class Wanted:
    """What is run."""

    file: str
    hosts_file: str
    arguments: tuple[str, ...]
    """Of the program."""
    shards: int
    setup: tuple[str, ...]
    """Shell commands that a job begins with."""
    required: tuple[str, ...]
    timeout: float
    """Seconds for one launch."""


def definition(service: str, wanted: Wanted) -> str:
    """Give a definition.

    :param service: ``github``, ``gitlab``, ``buildkite`` or ``kubernetes``.
    """
    head, content = _SERVICES[service](wanted)
    return "".join(f"# {line}\n" for line in head) + "\n".join(_yaml(content)) + "\n"


def _run(wanted: Wanted, shard: str, result: str, escaped: Callable[[str], str] = str) -> str:
    """Give the command of one shard.

    :param shard: ``I/N``, as the service or the shell is to read it.
    :param result: the file to write, the same.
    :param escaped: makes what the user said fit for a service that reads it before the shell does.
    """
    required = ["--required", ",".join(wanted.required)] if wanted.required else []
    words = ["packer", "matrix", wanted.file, "--run", wanted.hosts_file, "--timeout", f"{wanted.timeout:g}", *required]
    own = [escaped(shlex.join(["--", *wanted.arguments]))] if wanted.arguments else []
    return " ".join([escaped(shlex.join(words)), "--shard", shard, "--json", *own, ">", result])


def _merge() -> str:
    reports = f"--html {_WHOLE}/matrix.html --junit {_WHOLE}/matrix.xml"
    return f"packer matrix --merge {_PARTS}/*.json {reports}"


# Services -------------------------------------------------------------------------------------------------------

_Definition = tuple[tuple[str, ...], dict[str, Value]]
"""Lines that tell people what to do with it, and its content."""


def _github(wanted: Wanted) -> _Definition:
    shards: list[Value] = [f"{number}/{wanted.shards}" for number in range(1, wanted.shards + 1)]
    setup: list[Value] = [{"uses": "actions/checkout@v4"}]
    setup += [{"run": command} for command in wanted.setup]
    part = f"{_PARTS}/${{{{ strategy.job-index }}}}.json"
    run: list[Value] = [
        {"run": f"mkdir -p {_PARTS}"},
        {"run": _run(wanted, "${{ matrix.shard }}", part, lambda said: said.replace("${{", "${{ '${{' }}"))},
        {
            "if": "always()", "uses": "actions/upload-artifact@v4",
            "with": {"name": f"{_PARTS}-${{{{ strategy.job-index }}}}", "path": _PARTS},
        },
    ]  # fmt: skip
    merge: list[Value] = [
        {
            "uses": "actions/download-artifact@v4",
            "with": {"pattern": f"{_PARTS}-*", "path": _PARTS, "merge-multiple": True},
        },
        {"run": f"mkdir -p {_WHOLE}"},
        {"run": _merge()},
        {"if": "always()", "uses": "actions/upload-artifact@v4", "with": {"name": _WHOLE, "path": _WHOLE}},
    ]  # fmt: skip
    content: dict[str, Value] = {
        "name": "matrix",
        "on": {"push": {}, "workflow_dispatch": {}},
        "jobs": {
            "part": {
                "runs-on": "ubuntu-latest",
                "strategy": {"fail-fast": False, "matrix": {"shard": shards}},
                "steps": [*setup, *run],
            },
            "matrix": {"needs": "part", "if": "always()", "runs-on": "ubuntu-latest", "steps": [*setup, *merge]},
        },
    }
    return ("For .github/workflows/matrix.yml; made by packer matrix --emit github.",), content


def _gitlab(wanted: Wanted) -> _Definition:
    part = f"{_PARTS}/$CI_NODE_INDEX.json"
    content: dict[str, Value] = {
        "stages": ["test", "report"],
        "part": {
            "stage": "test", "image": _IMAGE, "parallel": wanted.shards,
            "script": [*wanted.setup, f"mkdir -p {_PARTS}", _run(wanted, '"$CI_NODE_INDEX/$CI_NODE_TOTAL"', part)],
            "artifacts": {"when": "always", "paths": [_PARTS]},
        },
        "matrix": {
            "stage": "report", "image": _IMAGE, "when": "always", "needs": ["part"],
            "script": [*wanted.setup, f"mkdir -p {_WHOLE}", _merge()],
            "artifacts": {"when": "always", "paths": [_WHOLE], "reports": {"junit": f"{_WHOLE}/matrix.xml"}},
        },
    }  # fmt: skip
    return ("For .gitlab-ci.yml, by itself or included; made by packer matrix --emit gitlab.",), content


def _buildkite(wanted: Wanted) -> _Definition:
    # $$: what an agent's shell reads, not what uploads the pipeline
    part = f"{_PARTS}/$$BUILDKITE_PARALLEL_JOB.json"
    shard = '"$$((BUILDKITE_PARALLEL_JOB + 1))/$$BUILDKITE_PARALLEL_JOB_COUNT"'
    setup: list[Value] = [_doubled(command) for command in wanted.setup]
    content: dict[str, Value] = {
        "steps": [
            {
                "label": "matrix, part", "key": "part", "parallelism": wanted.shards,
                "commands": [*setup, f"mkdir -p {_PARTS}", _run(wanted, shard, part, _doubled)],
                "artifact_paths": [f"{_PARTS}/*.json"],
            },
            {
                "label": "matrix", "key": "matrix", "depends_on": "part", "allow_dependency_failure": True,
                "commands": [
                    *setup, f"mkdir -p {_WHOLE}", f"buildkite-agent artifact download '{_PARTS}/*.json' .",
                    _merge(),
                ],
                "artifact_paths": [f"{_WHOLE}/*"],
            },
        ]
    }  # fmt: skip
    head = "For .buildkite/matrix.yml: buildkite-agent pipeline upload; made by packer matrix --emit buildkite."
    return (head,), content


def _doubled(text: str) -> str:
    return text.replace("$", "$$")


def _kubernetes(wanted: Wanted) -> _Definition:
    claim = "fatpar-matrix"
    part = f"{_PARTS}/$JOB_COMPLETION_INDEX"
    run = _run(wanted, f'"$((JOB_COMPLETION_INDEX + 1))/{wanted.shards}"', f"{part}.part")
    # what a shard has seen appears whole; that something is wrong there, the one that merges says
    seen = f"{run} || test -s {part}.part\nmv {part}.part {part}.json"
    there = f'test "$(ls {_PARTS}/*.json 2>/dev/null | wc -l)" -eq {wanted.shards}'
    setup = "\n".join(wanted.setup)
    once: dict[str, Value] = {"completions": wanted.shards, "parallelism": wanted.shards, "backoffLimitPerIndex": 0}
    script = f"set -e\n{setup}\nmkdir -p {_PARTS}\n{seen}"
    shards = _job("fatpar-matrix-part", script, claim, {"completionMode": "Indexed", **once})
    whole = f"set -e\n{setup}\nmkdir -p {_WHOLE}\nuntil {there}; do sleep 5; done\n{_merge()}"
    merge = _job("fatpar-matrix", whole, claim, {"activeDeadlineSeconds": 24 * 3600, "backoffLimit": 0})
    head = (
        f"For kubectl create -f; made by packer matrix --emit kubernetes. The volume of the claim {claim} holds",
        f"{wanted.file} and {wanted.hosts_file}, no {_PARTS} of an earlier run, and in the end {_WHOLE}.",
    )
    return head, {"apiVersion": "v1", "kind": "List", "items": [shards, merge]}


def _job(name: str, script: str, claim: str, more: dict[str, Value]) -> Value:
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            **more,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            "name": "packer", "image": _IMAGE, "command": ["sh", "-c", _doubled(script)],
                            "workingDir": "/matrix",
                            "volumeMounts": [{"name": "matrix", "mountPath": "/matrix"}],
                        }
                    ],
                    "volumes": [{"name": "matrix", "persistentVolumeClaim": {"claimName": claim}}],
                }
            },
        },
    }  # fmt: skip


_SERVICES: Mapping[str, Callable[[Wanted], _Definition]] = {
    "github": _github, "gitlab": _gitlab, "buildkite": _buildkite, "kubernetes": _kubernetes,
}  # fmt: skip


# YAML -----------------------------------------------------------------------------------------------------------

_HALVED = "\U00010000"
"""The first letter that JSON writes as two halves."""
_BY_HALVED = re.compile(f"([{_HALVED}-\U0010ffff])")


def _yaml(value: Value) -> Iterator[str]:
    """Write a value as lines in block style."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            lines = list(_yaml(one))
            name = key if _PLAIN.fullmatch(key) and key.lower() not in _TRUTHS else _quoted(key)
            if isinstance(one, dict | list) and one:
                yield f"{name}:"
                yield from (f"  {line}" for line in lines)
            else:
                yield f"{name}: {lines[0]}"
    elif isinstance(value, list) and value:
        for one in value:
            first, *others = _yaml(one)
            yield f"- {first}"
            yield from (f"  {line}" for line in others)
    else:
        yield _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Quote a text as in JSON, but for what JSON writes as two halves, and YAML as one."""
    quoted = (json.dumps(one)[1:-1] if one < _HALVED else rf"\U{ord(one):08x}" for one in _BY_HALVED.split(text))
    return '"' + "".join(quoted) + '"'
