"""``packer install`` and ``packer store``: a store as people and programs see it from outside of launches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import archives, slices
from support.layers import SITE
from support.packing import Place

from packer import install as installing
from packer import signature
from packer.errors import PackError
from packer.model import Need, NeedKind
from packer.progress import Quiet

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.native

DAY = 24 * 3600
ABI = f"cp{sys.version_info[0]}{sys.version_info[1]}{'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''}"

MACHINES = ("x86_64", "aarch64")

COMMON: dict[str, str | bytes | None] = {f"{SITE}/common/__init__.py": "word = 'ran'\n"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With two archives for this Python that have a wheel in common."""
    made = Place(tmp_path)
    for name in ("one", "two"):
        app = {f"{SITE}/app.py": f"import common\n\n\ndef main():\n    print(common.word, {name!r})\n"}
        slices.write(made.work / name, [slices.Wanted({"common": COMMON, name: app}, ABI)])
    return made


def launch(place: Place, name: str) -> None:
    """With this test's interpreter in PATH, and a store of its own."""
    environment = {
        "FATPAR_STORE": str(place.root / "store"), "HOME": str(place.root / "home"),
        "PATH": str(Path(sys.executable).resolve().parent),
    }  # fmt: skip
    done = subprocess.run([place.work / name], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ran {name}\n", "")
    assert not (place.root / "home").exists()


def store(place: Place, *words: str) -> str:
    ended = place.run("store", *words, "--store", place.root / "store")
    assert (ended.status, ended.stderr) == (0, "")
    return ended.stdout


def listed(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store(place, "ls", "--json"))
    assert found["version"] == 1
    (one,) = found["stores"]
    assert one["store"] == str(place.root / "store")
    return dict(one)


def install(place: Place, name: str, umask: int = 0o022) -> str:
    env: dict[str, str | None] = {"PATH": str(Path(sys.executable).resolve().parent)}
    ended = place.run("install", name, "--store", place.root / "store", env=env, umask=umask)
    assert ended.status == 0
    assert [line for line in ended.stderr.splitlines() if not line.startswith(CLOSED)] == []
    return ended.stdout


CLOSED = "packer: warning: only its owner can run the interpreter that was found here: "


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_installed_is_ready_for_everybody(place: Place, umask: int) -> None:
    said = install(place, "one", umask)
    assert said == f"one: {ABI}-manylinux_2_17_x86_64 is ready in {place.root}/store, 3 layers\n"
    base = place.root / "store" / "v1"
    (view,) = (base / "views").iterdir()
    assert (os.readlink(view / "made"), os.readlink(view / "installed")) == ("durable", "1")
    for layer in (base / "layers").iterdir():
        assert os.readlink(layer / "made") == "durable"
        assert layer.stat().st_mode & 0o777 == 0o755
    for directory, _, files in os.walk(place.root / "store"):
        assert os.stat(directory).st_mode & 0o005 == 0o005, directory
        if not directory.endswith("/plans"):  # each user has their own
            assert all(os.lstat(f"{directory}/{name}").st_mode & 0o004 for name in files), directory
    compiled = [path.name.partition(".")[0] for path in base.glob("layers/*/pyc/**/*.pyc")]
    assert sorted(compiled) == ["__init__", "app", "one"]
    assert [path.name.partition(".")[0] for path in base.glob("views/*/pyc/**/*.pyc")] == ["app"]
    before = {path for path in base.rglob("*") if path.parent.name != "plans"}
    launch(place, "one")
    assert {path for path in base.rglob("*") if path.parent.name != "plans"} - before == set()
    install(place, "one")
    assert {path for path in base.rglob("*") if path.parent.name != "plans"} - before == set()


def test_an_interpreter_that_only_its_owner_can_run_is_told(tmp_path: Path) -> None:
    python = tmp_path / "a" / "python"
    python.parent.mkdir()
    python.touch()
    for path in (tmp_path, python.parent, python):
        path.chmod(0o755)
    (tmp_path / "link").symlink_to(python)
    above = installing._unreachable(tmp_path)
    for closed in (python, python.parent):
        closed.chmod(0o750)
        assert installing._unreachable(tmp_path / "link") == (above or closed)
        closed.chmod(0o755)
    assert installing._unreachable(tmp_path / "link") == above


def test_a_machine_that_no_slice_fits(place: Place) -> None:
    app = {f"{SITE}/app.py": "def main():\n    pass\n"}
    slices.write(place.work / "other", [slices.Wanted({"app": app}, ABI, [Need(NeedKind.KERNEL, number=99 << 16)])])
    ended = place.run("install", "other", "--store", place.root / "store")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith("packer: other: this machine cannot run it: needs Linux 99.0, found")
    assert "Traceback" not in ended.stderr


def test_ls_and_du_tell_what_is_there(place: Place) -> None:
    launch(place, "one")
    install(place, "two")
    found = listed(place)
    assert found["limits"] == {"size": 10 << 30, "days": 30}
    views = {view["tools"][0]: view for view in found["views"]}
    assert {name: view["installed"] for name, view in views.items()} == {"one": False, "two": True}
    layers = {layer["name"]: layer for layer in found["layers"] if layer["name"] != "app"}
    assert layers.keys() == {f"{name}-1.0-py3-none-any" for name in ("common", "one", "two")}
    assert len(layers["common-1.0-py3-none-any"]["views"]) == 2
    assert layers["one-1.0-py3-none-any"]["views"] == [views["one"]["name"]]
    assert layers["one-1.0-py3-none-any"]["digest"] in views["one"]["layers"]
    assert all(layer["size"] >= 4096 for layer in found["layers"])
    assert abs(views["one"]["used"] - time.time()) < 600
    text = store(place, "ls")
    assert text.startswith(f"{place.root}/store: 2 programs, 5 layers, ")
    assert sum(line.endswith(f"two  {ABI}-manylinux_2_17_x86_64  installed") for line in text.splitlines()) == 1
    assert " 2  common-1.0-py3-none-any\n" in store(place, "du")


def test_damage_is_found_and_repaired(place: Place) -> None:
    launch(place, "one")
    launch(place, "two")
    assert store(place, "verify") == f"{place.root}/store: all is as it was made; bytecode was not looked at\n"
    base = place.root / "store" / "v1"
    names = {layer["name"]: layer["digest"] for layer in listed(place)["layers"]}
    damaged = base / "layers" / names["one-1.0-py3-none-any"]
    (module,) = damaged.glob("tree/lib/python/site-packages/app.py")
    module.chmod(0o644)
    module.write_text("nonsense")
    words = ("store", "verify", "--store", place.root / "store")
    ended = place.run(*words)
    assert (ended.status, ended.stderr) == (1, "")
    view = next(view["name"] for view in listed(place)["views"] if view["tools"] == ["one"])
    assert ended.stdout.splitlines() == [
        f"{base}/layers/{damaged.name}: its files are not those that it was made of",
        f"{base}/views/{view}: it leads to layer {damaged.name[:16]}, which is damaged",
    ]
    assert [fault["name"] for fault in json.loads(place.run(*words, "--json").stdout)["faults"]] == [damaged.name, view]
    assert store(place, "repair").count(": removed\n") == 2
    assert store(place, "verify").endswith("all is as it was made; bytecode was not looked at\n")
    assert [one["tools"] for one in listed(place)["views"]] == [["two"]]
    launch(place, "one")
    launch(place, "two")
    assert store(place, "verify").endswith("all is as it was made; bytecode was not looked at\n")


def test_damaged_bytecode_is_removed_when_that_is_asked_for(place: Place) -> None:
    install(place, "one")
    compiled = list((place.root / "store/v1").glob("*/*/pyc/**/*.pyc"))
    assert len(compiled) == 4
    for path in compiled:
        path.write_bytes(path.read_bytes()[:40])
    assert store(place, "repair").endswith("bytecode was not looked at\n")
    assert store(place, "repair", "--bytecode").endswith("bytecode is removed\n")
    assert list((place.root / "store/v1").glob("*/*/pyc/**/*.pyc")) == []
    launch(place, "one")


def test_what_killed_launches_left_is_removed(place: Place) -> None:
    launch(place, "one")
    for verb in ("repair", "prune"):
        left = place.root / "store/v1/layers/.tmp-1-2"
        (left / "tree").mkdir(parents=True)
        os.utime(left, (0, time.time() - 120))
        store(place, verb)
        assert not left.exists()


def test_an_install_that_is_refused_leaves_nothing(place: Place) -> None:
    (place.work / "other").write_bytes(b"no archive")
    slices.write(place.work / "new", [slices.Wanted({"app": COMMON}, ABI, [Need(NeedKind.KERNEL, number=99 << 16)])])
    for name in ("other", "new", "nowhere"):
        assert place.run("install", name, "--store", place.root / "a" / "b").status == 1
        assert not (place.root / "a").exists()


def test_a_file_that_changes_while_its_signature_is_checked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed is what was checked."""

    def change(*_: object) -> None:
        (place.work / "one").write_bytes((place.work / "two").read_bytes())

    monkeypatch.setattr(signature, "checked", change)
    trust = installing.Trust(place.work / "signers", None)
    with pytest.raises(PackError, match="one has changed while it was checked"):
        installing.install(place.work / "one", place.root / "store", trust, Quiet())
    assert not (place.root / "store").exists()


def test_a_link_that_leads_nowhere_is_found(place: Place) -> None:
    launch(place, "one")
    (common,) = (place.root / "store/v1/layers").glob("*/tree/lib/python/site-packages/common")
    common.parent.chmod(0o755)
    common.rename(common.with_name("gone"))
    ended = place.run("store", "verify", "--store", place.root / "store")
    assert ended.status == 1
    assert "site-packages/common leads nowhere\n" in ended.stdout


NOTHING = "{}/store: removed 0 programs and 0 layers, 0 bytes\n"


def test_prune_removes_what_is_beyond_limits(place: Place) -> None:
    launch(place, "one")
    install(place, "two")
    base = place.root / "store" / "v1"
    assert store(place, "prune", "--days", "0", "--size", "0") == NOTHING.format(place.root)
    for path in (*(base / "views").iterdir(), *(base / "layers").iterdir()):
        os.utime(path, (0, time.time() - 3 * DAY))
    assert store(place, "prune") == NOTHING.format(place.root)
    said = f"{place.root}/store: 5,368,709,120 bytes, 2 days without use\n"
    assert store(place, "limits", "--days", "2", "--size", "5G") == said
    assert store(place, "limits") == said
    assert "would remove 1 program and 2 layers, " in store(place, "prune", "--dry-run")
    assert len(listed(place)["views"]) == 2
    (pruned,) = json.loads(store(place, "prune", "--json"))["stores"]
    assert (len(pruned["views"]), len(pruned["layers"])) == (1, 2)
    assert pruned["size"] > 0
    assert [one["tools"] for one in listed(place)["views"]] == [["two"]]
    store(place, "prune", "--installed")
    assert (listed(place)["views"], listed(place)["layers"]) == ([], [])


@pytest.fixture
def launcher(place: Place) -> Path:
    """The one that is kept in the store, after an archive for two machines was launched."""
    app = "def main():\n    print('ran both')\n"
    archives.write(place.work / "both", place.root / "both", {"app.py": app}, tags=[ABI], machines=MACHINES)
    launch(place, "both")
    (kept,) = (path for path in (place.root / "store/v1/launchers").iterdir() if path.name != "time")
    return kept


def launchers(place: Place) -> list[str]:
    return [one["digest"] for one in listed(place)["launchers"]]


def test_launchers_are_listed_and_counted(place: Place, launcher: Path) -> None:
    (one,) = listed(place)["launchers"]
    assert (one["digest"], one["size"]) == (launcher.name, launcher.stat().st_blocks * 512)
    assert one["size"] >= 100_000
    assert abs(one["used"] - time.time()) < 600
    text = store(place, "du")
    assert text.endswith(f"  {one['size']:>13,}       launcher {launcher.name[:16]}\n")
    layers = sum(layer["size"] for layer in listed(place)["layers"])
    assert text.startswith(f"{place.root}/store: {layers + one['size']:,} bytes\n")


def become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("time")


LAUNCHER_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "written-to": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "launcher has the wrong digest"),
    "touched": (lambda path: os.utime(path), "its time is not that of the file time beside it"),
    "mode": (lambda path: path.chmod(0o755), "it is no file with mode 0555"),
    "link": (become_link, "open it: Too many levels of symbolic links"),
    "time": (lambda path: os.utime(path.with_name("time")), "the file time beside it is not as it was made"),
}


@pytest.mark.parametrize(("damage", "why"), LAUNCHER_FAULTS.values(), ids=LAUNCHER_FAULTS)
def test_a_launcher_that_is_not_as_it_was_made_is_found_and_repaired(
    place: Place, launcher: Path, damage: Callable[[Path], object], why: str
) -> None:
    before = launcher.stat().st_atime_ns
    assert store(place, "verify") == f"{place.root}/store: all is as it was made; bytecode was not looked at\n"
    assert launcher.stat().st_atime_ns == before
    damage(launcher)
    ended = place.run("store", "verify", "--store", place.root / "store")
    assert (ended.status, ended.stdout) == (1, f"{launcher}: {why}\n")
    assert store(place, "repair") == f"{launcher}: {why}: removed\n"
    assert launchers(place) == []


def test_a_launcher_goes_when_nobody_uses_it(place: Place, launcher: Path) -> None:
    def age(days: float) -> None:
        os.utime(launcher, (time.time() - days * DAY, launcher.stat().st_mtime))

    age(29)
    assert store(place, "prune", "--size", "0") == NOTHING.format(place.root)
    age(31)
    with subprocess.Popen([sys.executable, "-c", "input()", launcher, "run"], stdin=subprocess.PIPE) as user:
        assert store(place, "prune") == NOTHING.format(place.root)
        user.communicate(b"\n")
    size = launcher.stat().st_size
    said = f"0 programs and 0 layers and 1 launcher, {size:,} bytes\n"
    assert store(place, "prune", "--dry-run") == f"{place.root}/store: would remove {said}"
    assert launchers(place) == [launcher.name]
    launch(place, "both")
    assert store(place, "prune") == NOTHING.format(place.root)
    age(31)
    (pruned,) = json.loads(store(place, "prune", "--json"))["stores"]
    assert (pruned["launchers"], pruned["size"]) == ([launcher.name], size)
    assert launchers(place) == []
    launch(place, "both")
    age(-9)
    assert store(place, "prune") == NOTHING.format(place.root)
    assert abs(launcher.stat().st_atime - time.time()) < 600


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("ls", "--store", "nowhere"), 1, "packer: nowhere: not a store\npacker: hint: a store is"),
        (("prune", "--size", "big"), 2, "packer: not a size: 'big': write a number with K, M, G or T"),
        (("prune", "--days", "-1"), 2, "packer: not a number of days: -1\n"),
        (("limits", "--days", "4294967296"), 2, "packer: too many days: 4294967296\n"),
    ],
)
def test_mistakes(place: Place, words: tuple[str, ...], status: int, said: str) -> None:
    launch(place, "one")
    env: dict[str, str | None] = {"FATPAR_STORE": str(place.root / "store")}
    ended = place.run("store", *words, env=env)
    assert (ended.status, ended.stdout) == (status, "")
    assert ended.stderr.startswith(said)


def test_no_store_yet(place: Place) -> None:
    env = dict.fromkeys(("FATPAR_STORE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")) | {"HOME": str(place.root)}
    ended = place.run("store", "ls", "--store", place.root / "store")
    assert ended.status == 1
    for verb in ("ls", "du", "verify", "prune"):
        ended = place.run("store", verb, env=env)
        assert ended.status == 0
        assert "Traceback" not in ended.stderr


def test_only_what_was_signed_is_installed_where_that_is_asked(place: Place) -> None:
    for name in ("release", "other"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(place.work / name)]
        subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
    key = (place.work / "release.pub").read_text()
    (place.work / "signers").write_text(f'release@example.com namespaces="fatpar" {key}')
    words = ("install", "one", "--store", place.root / "store", "--allowed-signers", "signers")
    env: dict[str, str | None] = {"PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"}
    for signed, said in ((None, "one is not signed"), ("other", "")):
        if signed:
            assert place.run("sign", "one", "--key", signed, env=env).status == 0
        ended = place.run(*words, env=env)
        assert (ended.status, ended.stdout) == (1, "")
        assert ended.stderr.startswith(f"packer: {said}")
        assert not (place.root / "store/v1/views").exists()
    assert place.run("sign", "one", "--key", "release", "--replace", env=env).status == 0
    assert place.run(*words, "--identity", "other@example.com", env=env).status == 1
    assert place.run(*words, "--identity", "release@example.com", env=env).status == 0
    launch(place, "one")
    ended = place.run("install", "one", "--identity", "x", env=env)
    assert (ended.status, ended.stderr.splitlines()[0]) == (2, "packer: --identity needs --allowed-signers")
