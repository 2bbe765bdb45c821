"""packer/resolve.py: each target gets the wheels its own Python would choose; what cannot be met is explained."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from support import index

from packer import facts, resolve
from packer.errors import PackError
from packer.model import Platform, Resolution, Target
from packer.requests import Requests


def target(tag: str, libc: str = "glibc", version: tuple[int, int] = (2, 17)) -> Target:
    return Target(facts.pythons()[tag].abi, Platform(libc, version, "x86_64"))


@pytest.fixture(autouse=True)
def own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    index.forget_pip_configuration(monkeypatch)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A directory of distributions, as for --find-links."""
    directory = tmp_path / "shelf"
    directory.mkdir()
    return directory


def run(
    shelf: Path,
    *requirements: str,
    targets: tuple[Target, ...] = (target("cp39"),),
    files: tuple[Path, ...] = (),
    constraints: tuple[Path, ...] = (),
) -> tuple[Resolution, ...]:
    requests = Requests(requirements, files, constraints, find_links=(str(shelf),), no_index=True)
    return resolve.resolve(requests, targets, cache=shelf.parent / "cache", progress=lambda line: None)


def names(resolution: Resolution) -> list[str]:
    return [f"{wheel.distribution}-{wheel.version}" for wheel in resolution.wheels]


def refusal(shelf: Path, *requirements: str, targets: tuple[Target, ...] = (target("cp39"),)) -> PackError:
    with pytest.raises(PackError) as caught:
        run(shelf, *requirements, targets=targets)
    assert list((shelf.parent / "cache" / "tmp").iterdir()) == []
    return caught.value


def test_markers_are_judged_for_the_target(shelf: Path) -> None:
    markers = {
        "old": "python_version < '3'",
        "micro": "python_full_version >= '3.9.1' and python_full_version < '3.10'",
        "linux": "sys_platform == 'linux'",
        "linux2": "sys_platform == 'linux2'",
        "arm": "platform_machine == 'aarch64'",
        "cpython": "platform_python_implementation == 'CPython' and os_name == 'posix'",
        "version": "implementation_version >= '3.9.1' and implementation_name == 'cpython'",
        "release": "platform_release != '' or platform_version != ''",
    }
    for name in markers:
        index.wheel(shelf, name, tag="py2.py3-none-any")
    index.wheel(
        shelf, "app", tag="py2.py3-none-any", requires=[f"{name} ; {marker}" for name, marker in markers.items()]
    )
    python2, python39 = run(shelf, "app", targets=(target("cp27mu"), target("cp39")))
    assert sorted(names(python2)) == ["app-1.0", "cpython-1.0", "linux2-1.0", "old-1.0"]
    assert sorted(names(python39)) == ["app-1.0", "cpython-1.0", "linux-1.0", "micro-1.0", "version-1.0"]


def test_markers_of_the_other_architecture(shelf: Path) -> None:
    index.wheel(shelf, "arm")
    index.wheel(shelf, "app", requires=["arm; platform_machine == 'aarch64'"])
    arm = Target(facts.pythons()["cp39"].abi, Platform("glibc", (2, 17), "aarch64"))
    assert [names(one) for one in run(shelf, "app", targets=(arm, target("cp39")))] == [
        ["arm-1.0", "app-1.0"],
        ["app-1.0"],
    ]


def test_requires_python_is_judged_at_the_newest_micro_version(shelf: Path) -> None:
    index.wheel(shelf, "app", "1.0", requires_python=">=3.6")
    index.wheel(shelf, "app", "2.0", requires_python=">=3.8,!=3.9.0,!=3.9.1")
    (found,) = run(shelf, "app")
    assert names(found) == ["app-2.0"]


def test_requires_python_of_an_index_page_is_heeded(shelf: Path, tmp_path: Path) -> None:
    index.wheel(shelf, "app", "1.0", requires_python=">=2.7", tag="py2.py3-none-any")
    index.wheel(shelf, "app", "2.0", requires_python=">=3.9.2", tag="py2.py3-none-any")
    with index.serve(shelf) as (url, _):
        requests = Requests(("app",), index_url=url)
        found = resolve.resolve(
            requests, [target("cp39"), target("cp27mu")], cache=tmp_path / "cache", progress=lambda line: None
        )
    assert [names(one) for one in found] == [["app-2.0"], ["app-1.0"]]


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        pytest.param("cp39-cp39-manylinux_2_17_x86_64", True, id="same"),
        pytest.param("cp39-cp39-manylinux1_x86_64", True, id="older-policy-under-its-old-name"),
        pytest.param("cp39-cp39-manylinux_2_5_x86_64", True, id="older-policy"),
        pytest.param("cp36-abi3-manylinux2010_x86_64", True, id="stable-abi-of-an-older-python"),
        pytest.param("py3-none-manylinux2014_x86_64", True, id="no-abi"),
        pytest.param("cp39-cp39-manylinux_2_28_x86_64", False, id="newer-policy"),
        pytest.param("cp39-cp39-linux_x86_64", False, id="no-policy"),
        pytest.param("cp39-cp39-musllinux_1_1_x86_64", False, id="musl"),
        pytest.param("cp39-cp39-manylinux2014_aarch64", False, id="other-architecture"),
        pytest.param("cp310-abi3-manylinux2014_x86_64", False, id="stable-abi-of-a-newer-python"),
        pytest.param("cp310-cp310-manylinux2014_x86_64", False, id="other-abi"),
        pytest.param("py2-none-any", False, id="python2"),
    ],
)
def test_a_wheel_is_taken_when_the_target_takes_its_tag(shelf: Path, tag: str, wanted: bool) -> None:
    index.wheel(shelf, "app", tag=tag)
    if wanted:
        assert names(run(shelf, "app")[0]) == ["app-1.0"]
    else:
        assert "no file fits app" in str(refusal(shelf, "app"))


def test_musl_targets_get_musl_wheels(shelf: Path) -> None:
    index.wheel(shelf, "app", "1.0", tag="cp39-cp39-musllinux_1_1_x86_64")
    index.wheel(shelf, "app", "2.0", tag="cp39-cp39-manylinux_2_17_x86_64")
    found = run(shelf, "app", targets=(target("cp39", "musl", (1, 2)), target("cp39")))
    assert [names(one) for one in found] == [["app-1.0"], ["app-2.0"]]


def test_dependencies_come_first_and_ties_never_change(shelf: Path) -> None:
    index.wheel(shelf, "base")
    for name in ("delta", "alpha", "gamma", "beta"):
        index.wheel(shelf, name, requires=["base", "ring-a"])
    index.wheel(shelf, "ring-a", requires=["ring-b", "base"])
    index.wheel(shelf, "ring-b", requires=["ring-c"])
    index.wheel(shelf, "ring-c", requires=["ring-a"])
    index.wheel(shelf, "app", requires=["gamma", "alpha", "delta", "beta"])
    orders = {tuple(names(run(shelf, "app")[0])) for _ in range(3)}
    (order,) = orders
    assert order[0] == "base-1.0"
    assert order[-1] == "app-1.0"
    assert {"ring-a-1.0", "ring-b-1.0", "ring-c-1.0"} == set(order[1:4])


def test_extras_bring_their_dependencies(shelf: Path) -> None:
    index.wheel(shelf, "colour")
    index.wheel(shelf, "app", requires=["colour; extra == 'tty'"], extras=["tty"])
    assert names(run(shelf, "app[tty]")[0]) == ["colour-1.0", "app-1.0"]
    assert names(run(shelf, "app")[0]) == ["app-1.0"]


def test_what_the_packer_itself_has_installed_does_not_count(shelf: Path) -> None:
    assert "no index or directory has a distribution called packaging" in str(refusal(shelf, "packaging"))


def test_requirement_files_and_constraints_are_pips(shelf: Path, tmp_path: Path) -> None:
    for version in ("1.0", "2.0", "3.0"):
        index.wheel(shelf, "app", version)
    (tmp_path / "need.txt").write_text("# a comment\napp >= 1 ; python_version >= '3'\n")
    (tmp_path / "limits.txt").write_text("app < 3\n")
    found = run(shelf, files=(tmp_path / "need.txt",), constraints=(tmp_path / "limits.txt",))
    assert names(found[0]) == ["app-2.0"]


def test_the_users_pip_configuration_applies(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.wheel(shelf, "app")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    found = resolve.resolve(Requests(("app",)), [target("cp39")], cache=tmp_path / "cache", progress=lambda line: None)
    assert names(found[0]) == ["app-1.0"]


def test_a_wheel_lies_in_the_cache_under_its_digest_once(shelf: Path) -> None:
    index.wheel(shelf, "app")
    first = run(shelf, "app", targets=(target("cp39"), target("cp311")))
    again = run(shelf, "app")
    paths = {wheel.path for one in (*first, *again) for wheel in one.wheels}
    (path,) = paths
    assert path.parent.name == first[0].wheels[0].sha256
    assert list((shelf.parent / "cache" / "tmp").iterdir()) == []


def test_progress_names_target_and_distribution(shelf: Path, tmp_path: Path) -> None:
    index.wheel(shelf, "app")
    told: list[str] = []
    requests = Requests(("app",), find_links=(str(shelf),), no_index=True)
    resolve.resolve(requests, [target("cp39")], cache=tmp_path / "cache", progress=told.append)
    assert told[0].startswith("cp39-manylinux_2_17_x86_64: Processing ")


class TestRefusals:
    def test_unknown_distribution(self, shelf: Path) -> None:
        error = refusal(shelf, "nothing-like-it")
        assert str(error) == (
            "cp39-manylinux_2_17_x86_64: no file fits nothing-like-it: "
            "no index or directory has a distribution called nothing-like-it"
        )

    def test_wheels_only_for_a_newer_platform(self, shelf: Path) -> None:
        index.wheel(shelf, "app", "2.0", tag="cp39-cp39-manylinux_2_28_x86_64")
        index.wheel(shelf, "app", "2.0", tag="cp39-cp39-win_amd64")
        index.wheel(shelf, "app", "2.0", tag="cp39-cp39-manylinux_2_28_aarch64")
        assert str(refusal(shelf, "app")) == (
            "cp39-manylinux_2_17_x86_64: no file fits app: app 2.0 has wheels for cp39 on manylinux_2_28_x86_64"
        )

    def test_wheels_only_for_other_pythons(self, shelf: Path) -> None:
        index.wheel(shelf, "app", "2.0", tag="cp311-cp311-manylinux_2_17_x86_64")
        index.wheel(shelf, "app", "2.0", tag="cp313-cp313t-manylinux_2_17_x86_64")
        index.wheel(shelf, "top", requires=["app>=1.5"])
        assert str(refusal(shelf, "top")) == (
            "cp39-manylinux_2_17_x86_64: no file fits app>=1.5, which top 1.0 needs: "
            "app 2.0 has wheels for cp311, cp313t"
        )

    def test_version_that_does_not_exist(self, shelf: Path) -> None:
        index.wheel(shelf, "app", "2.0")
        assert str(refusal(shelf, "app>=3")) == (
            "cp39-manylinux_2_17_x86_64: no file fits app>=3: "
            "the newest that has a file for cp39-manylinux_2_17_x86_64 is 2.0"
        )

    def test_requires_python(self, shelf: Path) -> None:
        index.wheel(shelf, "app", "2.0", requires_python=">=3.10")
        assert str(refusal(shelf, "app")) == (
            "cp39-manylinux_2_17_x86_64: app 2.0 needs Python >=3.10, "
            f"and this is {facts.pythons()['cp39'].abi.full_version}"
        )

    def test_conflict(self, shelf: Path) -> None:
        index.wheel(shelf, "base", "1.0")
        index.wheel(shelf, "base", "2.0")
        index.wheel(shelf, "left", requires=["base<2"])
        index.wheel(shelf, "right", requires=["base>=2"])
        error = str(refusal(shelf, "left", "right"))
        assert error.startswith("cp39-manylinux_2_17_x86_64: requirements contradict each other: ")
        assert set(error.split(": ", 2)[2].split("; ")) == {"left 1.0 needs base<2", "right 1.0 needs base>=2"}

    def test_requirements_of_the_user_contradict_each_other(self, shelf: Path) -> None:
        index.wheel(shelf, "app", "1.0")
        index.wheel(shelf, "app", "2.0")
        error = str(refusal(shelf, "app<2", "app>=2"))
        assert set(error.split(": ", 2)[2].split("; ")) == {"you ask for app<2", "you ask for app>=2"}

    def test_a_dependency_no_version_can_have(self, shelf: Path) -> None:
        index.wheel(shelf, "base", "2.0")
        index.wheel(shelf, "app", "1.0", requires=["lost"])
        index.wheel(shelf, "app", "2.0", requires=["base>=5"])
        assert str(refusal(shelf, "app==2.0")) == (
            "cp39-manylinux_2_17_x86_64: no file fits base>=5, which app 2.0 needs: "
            "the newest that has a file for cp39-manylinux_2_17_x86_64 is 2.0"
        )
        assert "no file fits lost, which app 1.0 needs" in str(refusal(shelf, "app==1.0"))

    def test_constraint_in_the_way(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "app", "2.0")
        (tmp_path / "limits.txt").write_text("app<2\n")
        with pytest.raises(PackError, match="no file fits app with the constraint app<2: the newest that has a file"):
            run(shelf, "app", constraints=(tmp_path / "limits.txt",))

    def test_every_target_that_fails_is_named(self, shelf: Path) -> None:
        index.wheel(shelf, "app", tag="cp39-cp39-manylinux1_x86_64")
        targets = (target("cp36m"), target("cp39"), target("cp311"))
        lines = str(refusal(shelf, "app", targets=targets)).splitlines()
        assert [line.split(":")[0] for line in lines] == ["cp36m-manylinux_2_17_x86_64", "cp311-manylinux_2_17_x86_64"]

    @pytest.mark.parametrize("text", ["git+https://127.0.0.1/x.git", "app @ git+https://127.0.0.1/x.git"])
    def test_version_control(self, shelf: Path, text: str) -> None:
        assert "a requirement from version control cannot be packed" in str(refusal(shelf, text))

    def test_editable(self, shelf: Path, tmp_path: Path) -> None:
        index.project(tmp_path / "project", "app")
        (tmp_path / "need.txt").write_text(f"-e {tmp_path / 'project'}\n")
        with pytest.raises(PackError, match="an editable requirement cannot be packed"):
            run(shelf, files=(tmp_path / "need.txt",))

    def test_nonsense(self, shelf: Path) -> None:
        assert re.match(r"cp39-\S+: pip: Invalid requirement: 'a b c'", str(refusal(shelf, "a b c")))

    def test_digest_that_is_not_the_files(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "app")
        (tmp_path / "need.txt").write_text(f"app==1.0 --hash=sha256:{'0' * 64}\n")
        with pytest.raises(PackError, match="DO NOT MATCH THE HASHES"):
            run(shelf, files=(tmp_path / "need.txt",))

    def test_index_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        monkeypatch.setenv("PIP_RETRIES", "0")
        requests = Requests(("app",), index_url=f"http://user:secret@127.0.0.1:{port}/simple")
        with pytest.raises(PackError) as caught:
            resolve.resolve(requests, [target("cp39")], cache=tmp_path, progress=lambda line: None)
        assert f"cannot read http://user:****@127.0.0.1:{port}/simple/app/: " in str(caught.value)
        assert "secret" not in str(caught.value)


def test_the_time_limit_ends_it_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        requests = Requests(("app",), index_url=f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        start = time.monotonic()
        with pytest.raises(PackError, match="took longer than 2 seconds"):
            resolve.resolve(requests, [target("cp39")], cache=tmp_path, progress=lambda line: None, limit=2)
    assert time.monotonic() - start < 10
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_ends_the_children_and_nothing_is_left(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from packer import resolve, targets
        from packer.requests import Requests
        chosen = targets.parse_abis("manylinux2014,cp39,cp311", arch=["x86_64"], running=None)
        requests = Requests(("app",), index_url=sys.argv[1])
        resolve.resolve(requests, chosen.targets, cache=Path(sys.argv[2]), progress=print)
        """
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        root = str(Path(resolve.__file__).parents[1])
        packing = subprocess.Popen(
            [sys.executable, "-c", program, url, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": root},
            stderr=subprocess.PIPE,
            text=True,
        )
        first, _ = silent.accept()  # both children are on the index
        second, _ = silent.accept()
        packing.send_signal(signal.SIGINT)
        _, errors = packing.communicate(timeout=20)
        for connection in (first, second):  # the children's ends are closed: they are gone
            connection.settimeout(5)
            while connection.recv(4096):
                pass
            connection.close()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_wheels_are_preferred_to_newer_source_distributions(shelf: Path, tmp_path: Path) -> None:
    index.wheel(shelf, "app", "1.0")
    index.sdist(shelf, index.project(tmp_path / "project", "app", "2.0"), "app", "2.0")
    assert names(run(shelf, "app")[0]) == ["app-1.0"]


NETWORK = {
    # what the index had for manylinux2014 in November 2026; of frozen lines the version, else the least
    "cp27mu": {"numpy": "1.16.6", "cryptography": "3.3.2", "markupsafe": "1.1.1", "pyyaml": "5.4.1"},
    "cp36m": {"numpy": "1.19.5", "cryptography": "40.0.2", "markupsafe": "2.0.1", "pyyaml": "6.0.1"},
    "cp38": {"numpy": "1.24.4", "cryptography": "47.0.0", "markupsafe": "2.1.5", "pyyaml": "6.0.3"},
}


@pytest.mark.network
@pytest.mark.parametrize("tag", NETWORK)
def test_real_distributions(tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests(tuple(NETWORK[tag]))
    (found,) = resolve.resolve(requests, [target(tag)], cache=tmp_path, progress=lambda line: None)
    versions = {wheel.distribution: wheel.version for wheel in found.wheels}
    assert NETWORK[tag].items() <= versions.items()
    assert ({"enum34", "ipaddress"} <= versions.keys()) == (tag == "cp27mu")


@pytest.mark.network
def test_a_real_distribution_without_a_wheel_for_the_policy(tmp_path: Path) -> None:
    requests = Requests(("numpy>=2.3",))
    with pytest.raises(PackError, match=r"no wheel fits numpy>=2.3, and no cp315 interpreter is here") as caught:
        resolve.resolve(requests, [target("cp315")], cache=tmp_path, progress=lambda line: None)
    assert re.search(r"numpy \S+ has wheels for cp315 on .*manylinux_2_28_x86_64", caught.value.hint)
