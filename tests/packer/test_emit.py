"""packer/emit.py: definitions of jobs are what the services' published schemas want, and their commands do it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.validators import validator_for

from packer import emit

SERVICES = ("github", "gitlab", "buildkite", "kubernetes")
SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci", "buildkite": "vendor.buildkite"}

ODD = ("--say", 'it\'s $HOME `x` "y" ${{ github.token }} $(id) $$', "\xfc\n- x: 1 \U0001f40d", "")


def wanted(*arguments: str, shards: int = 3, setup: tuple[str, ...] = emit.SETUP) -> emit.Wanted:
    return emit.Wanted("dist/http", "hosts.toml", arguments, shards, setup, ("bullseye",), 120.0)


def read(service: str, one: emit.Wanted) -> Any:
    """Read a definition as the older of YAML's versions has it, in which more words mean something."""
    return yaml.safe_load(emit.definition(service, one))


def schema(service: str) -> Any:
    described = get_builtin_schema(SCHEMAS[service])
    return validator_for(described)(described)


@pytest.mark.parametrize("arguments", [(), ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("service", SCHEMAS)
def test_the_published_schema_takes_it(service: str, arguments: tuple[str, ...]) -> None:
    content = read(service, wanted(*arguments))
    schema(service).validate(content)
    # and it is one that looks at what is in it
    jobs = {"github": "jobs", "gitlab": "part", "buildkite": "steps"}[service]
    assert not schema(service).is_valid({**content, jobs: "nothing"})


def test_kubernetes_takes_it() -> None:
    items = read("kubernetes", wanted(*ODD))["items"]
    assert [item["metadata"]["name"] for item in items] == ["fatpar-matrix-part", "fatpar-matrix"]
    for item in items:
        kubernetes_validate.validate(item, "1.33", strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**item, "spec": {}}, "1.33", strict=True)


@pytest.mark.parametrize("service", SERVICES)
def test_each_shard_is_run_once_and_all_are_merged(service: str) -> None:
    text = emit.definition(service, wanted())
    content = read(service, wanted())
    if service == "github":
        assert content["jobs"]["part"]["strategy"]["matrix"]["shard"] == ["1/3", "2/3", "3/3"]
    elif service == "gitlab":
        assert content["part"]["parallel"] == 3
    elif service == "buildkite":
        assert content["steps"][0]["parallelism"] == 3
    else:
        spec = content["items"][0]["spec"]
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert "packer matrix --merge matrix-parts/*.json --html " in text


# Their commands, run by a shell as the service would, with a packer that tells what it was asked --------------------

PACKER = """#!/bin/sh
{ for word; do printf '%s\\0' "$word"; done; } >> "$ASKED"
printf '\\n' >> "$ASKED"
echo '{}'
"""


def asked(script: str, place: Path, **env: str) -> list[list[str]]:
    """Run a script; what packer was asked."""
    tools = place / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "packer").write_text(PACKER)
    (tools / "packer").chmod(0o755)
    log = place / "asked"
    log.unlink(missing_ok=True)
    path = f"{tools}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", script], cwd=place, check=True, env={"PATH": path, "ASKED": str(log), **env})
    return [line.decode().split("\0") for line in log.read_bytes().removesuffix(b"\0\n").split(b"\0\n")]


def shell(service: str, text: str) -> str:
    """What a service makes of a text before a shell has it."""
    if service == "github":
        text = text.replace("${{ matrix.shard }}", "2/3").replace("${{ strategy.job-index }}", "1")
        return text.replace("${{ '${{' }}", "${{")
    return text.replace("$$", "$") if service in ("buildkite", "kubernetes") else text


def scripts(service: str, content: Any) -> tuple[str, str]:
    """The commands of a shard, and those that merge."""
    if service == "github":
        both = [[step["run"] for step in content["jobs"][job]["steps"] if "run" in step] for job in ("part", "matrix")]
    elif service == "gitlab":
        both = [content[job]["script"] for job in ("part", "matrix")]
    elif service == "buildkite":
        both = [[one for one in step["commands"] if "artifact" not in one] for step in content["steps"]]
    else:
        both = [item["spec"]["template"]["spec"]["containers"][0]["command"][2:] for item in content["items"]]
    part, whole = ("\n".join(shell(service, line) for line in lines) for lines in both)
    return part, whole


@pytest.mark.parametrize("service", SERVICES)
def test_a_shell_asks_for_what_was_meant(service: str, tmp_path: Path) -> None:
    part, whole = scripts(
        service, read(service, wanted(*ODD, shards=1 if service == "kubernetes" else 3, setup=("true",)))
    )
    indexes = {
        "CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "3", "BUILDKITE_PARALLEL_JOB": "1", "BUILDKITE_PARALLEL_JOB_COUNT": "3",
        "JOB_COMPLETION_INDEX": "0",
    }  # fmt: skip
    shard = "1/1" if service == "kubernetes" else "2/3"
    assert asked(part, tmp_path, **indexes) == [
        ["matrix", "dist/http", "--run", "hosts.toml", "--timeout", "120", "--required", "bullseye", "--shard", shard,
         "--json", "--", *ODD],
    ]  # fmt: skip
    (result,) = (tmp_path / "matrix-parts").iterdir()
    assert json.loads(result.read_text()) == {}
    assert asked(whole, tmp_path) == [
        ["matrix", "--merge", f"matrix-parts/{result.name}", "--html", "matrix/matrix.html", "--junit",
         "matrix/matrix.xml"],
    ]  # fmt: skip


VALUES = st.recursive(
    st.text() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=4) | st.lists(VALUES, max_size=4))
def test_yaml_is_read_back(value: Any) -> None:
    text = "\n".join(emit._yaml(value))
    assert yaml.safe_load(text) == value
