"""packer/hostread.py and packer/hostimage.py: hosts are described by the launcher's own code, wherever they are."""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import io
import json
import os
import re
import select
import shutil
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from support import archives
from support.elf import elf, library
from support.hosts import USER, give_up, require_host

from packer import explain, hostimage, hostread, hosts
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

pytestmark = pytest.mark.native

ROOT = os.geteuid() == 0


@pytest.fixture(scope="session")
def way_in(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why no root filesystem can be entered on this machine; empty: one can."""
    empty = tmp_path_factory.mktemp("empty")

    def enter() -> dict[str, Any]:
        hostread._enter(empty, owned=True)
        return {}

    try:
        hostread._in_child(enter)
    except PackError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def enterable(way_in: str) -> None:
    if way_in:
        give_up(way_in)


def read(text: str) -> hosts.Described:
    return hosts.read("host.toml", text)


# A root filesystem that is made ----------------------------------------------------------------------------------


def loader() -> Path:
    """The loader of this machine's own programs, and its C library beside it."""
    for place in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"):
        if Path(place).exists():
            return Path(place)
    pytest.fail("this machine's programs are not for glibc")


def make(root: Path) -> None:
    """A root filesystem with a C library, a library, kernels and no Python."""
    real = loader().resolve()
    inside = root / str(loader()).lstrip("/")
    inside.parent.mkdir(parents=True)
    shutil.copy(real, inside)
    shutil.copy(real.parent / "libc.so.6", inside.parent / "libc.so.6")
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/libz.so.1").write_bytes(
        library("libz.so.1", "ZLIB_1.2.9", "ZLIB_1.2.0.2", "ZLIB_1.2.12", machine=os.uname().machine)
    )
    for release in ("6.1.0-9-amd64", "6.1.0-21-amd64"):
        (root / "lib/modules" / release).mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('NAME="Made"\nPRETTY_NAME="Made up 1 (one)"\n')


@pytest.fixture
def made() -> Iterator[Path]:
    """It, where other users can look at it, too."""
    with tempfile.TemporaryDirectory(prefix="fatpar-") as name:
        Path(name).chmod(0o755)
        root = Path(name) / "made"
        root.mkdir()
        make(root)
        yield root


def check_made(host: hosts.Described) -> None:
    assert (host.title, host.kernel, host.family) == ("Made up 1 (one)", "6.1.0-21-amd64", "glibc")
    assert f"{host.libc[0]}.{host.libc[1]}" == os.confstr("CS_GNU_LIBC_VERSION").split()[1]  # type: ignore[union-attr]
    assert host.libraries["libz.so.1"] == ("ZLIB_1.2.12",)
    assert host.pythons == ()


def test_a_root_filesystem_is_read_as_the_launcher_would_in_it(made: Path) -> None:
    text = hostread.of_root("made", made)
    check_made(read(text))
    assert 'kernel = "6.1.0-21-amd64"  # of its modules\n' in text
    assert re.search(r"^cpu = \d+  # of the machine that read it$", text, re.MULTILINE)
    assert f'source = "packer hosts add, from {made}"\n' in text
    assert read(text).assumed == ("cpu",)


def test_kernel_and_cpu_are_what_the_user_says(made: Path) -> None:
    text = hostread.of_root("made", made, kernel="4.18.0", cpu=2)
    assert 'cpu = 2  # as given\nkernel = "4.18.0"  # as given\n' in text
    assert read(text).assumed == ()


def test_a_kernel_that_nothing_tells_is_this_machines_and_that_is_said(made: Path) -> None:
    shutil.rmtree(made / "lib/modules")
    text = hostread.of_root("made", made)
    assert f'kernel = "{os.uname().release}"  # of the machine that read it\n' in text
    assert read(text).assumed == ("cpu", "kernel")


def test_a_library_is_looked_for_that_no_policy_names(made: Path) -> None:
    (made / "usr/lib/libown.so.3").write_bytes(
        library("libown.so.3", "OWN_1.2", "OWN_1.10", "OWN_BETA", machine=os.uname().machine)
    )
    assert "libown.so.3" not in read(hostread.of_root("made", made)).libraries
    found = read(hostread.of_root("made", made, more=["libown.so.3", "libelse.so.1"])).libraries
    assert found["libown.so.3"] == ("OWN_1.10", "OWN_BETA")
    assert "libelse.so.1" not in found


def test_a_loader_elsewhere_is_none_for_programs_from_elsewhere(made: Path) -> None:
    """As NixOS has it: the shell's own loader and C library, and a stub where other programs look for theirs."""
    usual = made / str(loader()).lstrip("/")
    store = made / "nix/store/glibc/lib"
    store.mkdir(parents=True)
    for file in (usual, usual.parent / "libc.so.6"):
        file.rename(store / file.name)
    (made / "bin").mkdir()
    shell = elf("libc.so.6", machine=os.uname().machine, interpreter=f"/nix/store/glibc/lib/{usual.name}")
    (made / "bin/sh").write_bytes(shell)
    assert read(hostread.of_root("made", made)).family == "none"
    usual.write_bytes(elf(machine=os.uname().machine, exports=("refuse",)))
    assert read(hostread.of_root("made", made)).family == "none"
    (made / "bin/sh").write_bytes(elf("libc.so.6", machine=os.uname().machine, interpreter=str(loader())))
    for file in store.iterdir():
        file.replace(usual.parent / file.name)
    assert read(hostread.of_root("made", made)).family == "glibc"


def test_a_root_without_a_c_library_is_for_static_programs(tmp_path: Path) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    text = hostread.of_root("static", root, bare=True)
    assert 'libc = "none"\n' in text
    assert 'title = "static"\n' in text
    assert read(text).family == "none"


def test_what_shows_nothing_of_a_root_is_none_by_mistake(tmp_path: Path) -> None:
    place, image = tmp_path / "wheels", tmp_path / "wheels.tar"
    place.mkdir()
    (place / "some-1.0-py3-none-any.whl").write_bytes(b"wheel")
    pack(image, place)
    for given in (place, image):
        with pytest.raises(PackError) as caught:
            hostread.of_root("x", given)
        assert str(caught.value).startswith(f"cannot describe {given}: it seems to be no root filesystem: ")
        assert caught.value.hint.endswith("say --static")
    (place / "usr/lib").mkdir(parents=True)
    (place / "usr/lib/os-release").write_text("PRETTY_NAME=Distroless\n")
    assert read(hostread.of_root("x", place)).title == "Distroless"


def test_a_root_for_another_machine_is_refused(made: Path) -> None:
    for path in (made / "lib64", made / "lib"):
        shutil.rmtree(path, ignore_errors=True)
    (made / "bin").mkdir()
    other = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    (made / "bin/sh").write_bytes(elf(machine=other))
    with pytest.raises(
        PackError, match=r"^cannot read /.*/made: it is for (aarch64|x86_64), and this machine's launcher"
    ):
        hostread.of_root("made", made)


@pytest.mark.skipif(not ROOT, reason="optional: nothing is closed to root's child unless it becomes somebody else")
def test_a_root_that_nobody_may_look_into_is_told(made: Path) -> None:
    made.chmod(0o700)
    with pytest.raises(PackError, match=r"^cannot read .*made: /: Permission denied$"):
        hostread.of_root("made", made)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PackError) as caught:
        hostread.of_root("x", tmp_path / "nothing")
    assert str(caught.value) == f"cannot read {tmp_path}/nothing: No such file or directory"


# Entering ---------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], Any]) -> Any:
    """What some work gives in a child process."""
    return hostread._in_child(lambda: {"gave": work()})["gave"]


def as_user() -> None:
    """Become a user without rights, in a child."""
    if ROOT:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is the user's again, as after exec


def test_who_is_in_there_is_nobody_and_gains_nothing(made: Path) -> None:
    status = Path("/proc/thread-self/status")

    def work() -> list[str]:
        hostread._enter(made, owned=False)
        # its /proc is the outer one's no more: the call itself tells
        return [str(os.geteuid() if ROOT else 0), str(sorted(os.listdir("/"))), str(status.exists())]

    user, entries, outside = in_child(work)
    assert user == (str(hostread._NOBODY) if ROOT else "0")
    assert entries == str(sorted(path.name for path in made.iterdir()))
    assert outside == "False"


@pytest.mark.skipif(not ROOT, reason="optional: as a user it is what all other tests here do")
def test_a_user_enters_by_a_namespace_of_their_own(made: Path) -> None:
    limit = Path("/proc/sys/user/max_user_namespaces")
    if not limit.exists() or limit.read_text().strip() == "0":
        pytest.skip("optional: this machine gives users no namespaces")
    exported = made.with_name("made.tar")
    pack(exported, made)

    def work(place: Path) -> str:
        as_user()
        return hostread.of_root("made", place)

    for place in (made, exported):
        check_made(read(in_child(lambda place=place: work(place))))  # type: ignore[misc]


@pytest.mark.skipif(not ROOT, reason="optional: without root there is nothing to take away")
def test_where_there_is_neither_root_nor_namespace_that_is_said(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostread, "_NEW_USER_NAMESPACE", -1)  # no kernel has that

    def work() -> str:
        as_user()
        with pytest.raises(PackError) as caught:
            hostread.of_root("made", made)
        return f"{caught.value}\n{caught.value.hint}"

    message, hint = in_child(work).split("\n")
    assert message == (
        f"cannot read {made}: only root may enter a root filesystem here, and this machine gives users no namespace "
        "of their own"
    )
    assert hint.startswith("run it as root, or see the sysctls user.max_user_namespaces")


@pytest.mark.skipif(not ROOT, reason="optional: only root can mount")
def test_where_nothing_can_be_executed_that_is_told(tmp_path: Path) -> None:
    """There no file counts as a program, so that every host would seem to have no Python."""
    place, image = tmp_path / "mounted", tmp_path / "image.tar"
    place.mkdir()
    image.write_bytes(tar([("etc", None)]))

    def work() -> list[list[str]]:
        ctypes.CDLL(None).unshare(0x20000)  # CLONE_NEWNS
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "x", place], check=True)
        tempfile.tempdir = str(place)
        said = []
        for given in (place, image):
            with pytest.raises(PackError) as caught:
                hostread.of_root("x", given)
            said.append([str(caught.value), caught.value.hint])
        return said

    (mounted, no_hint), (unpacked_there, hint) = in_child(work)
    assert (mounted, no_hint) == (
        f"cannot read {place}: {place} lies on a filesystem that is mounted noexec", ""
    )  # fmt: skip
    assert re.fullmatch(rf"cannot read {image}: {place}/packer-\w+ lies on a .* mounted noexec", unpacked_there)
    assert hint == "set TMPDIR to a directory that is not"


def test_a_child_that_dies_is_told() -> None:
    with pytest.raises(PackError) as caught:
        hostread._in_child(lambda: os._exit(3), what="it")
    assert str(caught.value) == "cannot read it: the child process died"


@pytest.mark.skipif(not ROOT, reason="optional: only root can have a namespace of processes at once")
def test_nothing_outlives_the_child() -> None:
    """Not even what has left its session."""
    if subprocess.run(["unshare", "--pid", "true"], check=False).returncode != 0:
        give_up("root may have no namespace of processes here")
    reading, writing = os.pipe()

    def work() -> None:
        if os.fork() == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)

    in_child(work)
    os.close(writing)
    assert select.select([reading], [], [], 30)[0]  # its end is closed, too
    os.close(reading)


# This machine -----------------------------------------------------------------------------------------------------


def test_this_machine_is_described_as_the_launcher_sees_it(tmp_path: Path) -> None:
    """An archive that asks for nothing special chooses the same here and by the description."""
    (tmp_path / "host.toml").write_text(hostread.of_machine("here"))
    host = read((tmp_path / "host.toml").read_text())
    assert (host.machine, host.kernel) == (os.uname().machine, os.uname().release)
    (tmp_path / "work").mkdir()
    archive = archives.write(
        tmp_path / "app", tmp_path / "work", {"app.py": ""}, machine=host.machine,
        tags=[python.abi for python in host.pythons] or ["cp311"],
    )  # fmt: skip
    here, there = explain.judge(archive, None), explain.judge(archive, str(tmp_path / "host.toml"))
    assert here.json["choice"] == there.json["choice"]
    assert bool(host.pythons) == here.fits


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        (["GLIBCXX_3.4", "GLIBCXX_3.4.9", "GLIBCXX_3.4.10", "CXXABI_1.3"], ["CXXABI_1.3", "GLIBCXX_3.4.10"]),
        (["CXXABI_TM_1", "CXXABI_FLOAT128", "CXXABI_1.3.9"], ["CXXABI_1.3.9", "CXXABI_FLOAT128", "CXXABI_TM_1"]),
        (["GLIBC_PRIVATE", "GLIBC_2.17"], ["GLIBC_2.17"]),
        ([], []),
    ],
)
def test_the_newest_of_each_kind_is_kept(nodes: list[str], kept: list[str]) -> None:
    assert hostread.newest(nodes) == kept


FOUND: dict[str, Any] = {
    "machine": 62, "release": "6.1.0-9-amd64", "cpu": 3, "foreign": 0, "title": "", "kernels": [],
    "libcs": [{"family": 1, "version": 0x022400, "path": "/lib/libc.so.6", "nodes": {
        "libc.so.6": ["GLIBC_2.36", "GLIBC_PRIVATE", "GLIBC_OURS", "GLIBC_2.43"], "libm.so.6": ["GLIBC_2.29"],
        "libz.so.1": ["ZLIB_1.2.9", "ZLIB_1.2.12"],
    }}],
    "pythons": [],
}  # fmt: skip
"""What the child says."""


def python(**more: Any) -> dict[str, Any]:
    said = {"path": "/usr/bin/python3.11", "abi": "cp311", "version": 0x030B02F0, "libc": 0, "lacks": []}
    return {**said, "on_path": False, **more}


def described(**more: Any) -> str:
    return hostread._text("x", {**FOUND, **more}, "it", {})


def test_of_the_c_library_only_that_is_written_which_its_release_does_not_tell() -> None:
    host = read(described())
    assert host.libraries == {"libc.so.6": ("GLIBC_OURS", "GLIBC_2.43"), "libz.so.1": ("ZLIB_1.2.12",)}
    assert (host.title, host.kernel, host.cpu, host.libc) == ("x", "6.1.0-9-amd64", 3, (2, 36))


def test_pythons_that_no_slice_can_use_are_left_out_and_named() -> None:
    text = described(
        pythons=[
            python(abi="cp34m", path="/usr/bin/python3.4", version=0x030402F0),
            python(libc=1, path="/opt/musl/python3"),
            python(lacks=["idlelib", "Queue"], on_path=True),
        ]
    )
    assert "# left out: '/usr/bin/python3.4', cp34m: no slice can be for it\n" in text
    assert "# left out: '/opt/musl/python3', cp311: of another C library\n" in text
    assert "[[python]]  # on PATH\n" in text
    # what 3.11 does not have it cannot lack
    assert read(text).pythons == (hosts.Python("/usr/bin/python3.11", "cp311", (3, 11, 2), ("idlelib",)),)


def test_names_that_would_be_no_toml_are_written_out() -> None:
    strange = '/opt/"a"\\b\n\x07\udcff\x7f/python3.11'
    host = read(described(pythons=[python(path=strange)], title='A "host"\n[[python]]'))
    assert host.pythons[0].path == '/opt/"a"\\b\n\x07\\udcff\ufffd/python3.11'
    assert host.title == 'A "host"\n[[python]]'


def test_what_cannot_be_told_is_an_error() -> None:
    libc = {**FOUND["libcs"][0], "version": 0}
    with pytest.raises(PackError, match=r"^cannot tell the release of /lib/libc\.so\.6$"):
        described(libcs=[libc])
    with pytest.raises(PackError, match=r"^cannot describe it: kernel must be like '5\.10\.0', is 'own'$"):
        described(release="own")


# Images -----------------------------------------------------------------------------------------------------------

Member = tuple[str, bytes | str | None]
"""Name -> content, ``-> TARGET`` of a link, ``=> TARGET`` of a hard link, or None for a directory."""


def tar(members: Sequence[Member]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        for name, content in members:
            one = tarfile.TarInfo(name)
            one.mode = 0o755
            if content is None:
                one.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                one.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                one.linkname = content[3:]
            else:
                one.size = len(content)
            file.addfile(one, io.BytesIO(content) if isinstance(content, bytes) else None)
    return made.getvalue()


def pack(path: Path, root: Path) -> None:
    """As ``docker export`` does it."""
    with tarfile.open(path, "w") as file:
        file.add(root, ".")


def saved(layers: Sequence[bytes]) -> bytes:
    """As ``docker save`` did it until 24: a directory for each layer."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "x.json", "RepoTags": ["made:1"], "Layers": names}]
    listed = [("manifest.json", json.dumps(manifest).encode()), *zip(names, layers, strict=True)]
    return tar(listed)


def oci(layers: Sequence[bytes], *, machine: str | None = None, nested: bool = False) -> bytes:
    """As skopeo and buildah write it."""
    blobs: dict[str, bytes] = {}

    def put(content: bytes, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content), **more}

    manifest = put(json.dumps({"layers": [put(layer) for layer in layers]}).encode())
    ours = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    manifest["platform"] = {"architecture": machine or ours, "os": "linux"}
    other = put(b"{}", platform={"architecture": "unknown", "os": "unknown"})
    index = json.dumps({"manifests": [manifest, other]}).encode()
    if nested:
        index = json.dumps({"manifests": [put(index)]}).encode()
    return tar([("oci-layout", b"{}"), ("index.json", index), *blobs.items()])


def unpacked(image: bytes, tmp_path: Path, before: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is in a directory after an image was unpacked into it: path -> content, ``-> TARGET``, or ``/``."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "image").write_bytes(image)

    def work() -> dict[str, str]:
        with (tmp_path / "image").open("rb") as file:
            hostread._enter(root, owned=True)
            hostimage.unpack(file)
        return {}

    hostread._in_child(work, what="image")
    return dict(listed(root))


def listed(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            yield name, f"-> {path.readlink()}"
        elif path.is_dir():
            yield name, "/"
        else:
            yield name, path.read_text()


LOWER = tar(
    [("a", None), ("a/old", b"old"), ("a/gone", b"gone"), ("b", None), ("b/x", b"x"), ("link", "-> a"), ("d", None)]
)
UPPER = tar([
    ("a/.wh.gone", b""), ("a/new", b"new"), ("b/y", b"y"), ("b/.wh..wh..opq", b""), ("link", b"a file now"),
    ("d", b"a file, too"), ("hard", "=> a/old"),
])  # fmt: skip
LAID = {
    "a": "/", "a/old": "old", "a/new": "new", "b": "/", "b/y": "y", "link": "a file now", "d": "a file, too",
    "hard": "old",
}  # fmt: skip

FORMS = {
    "docker-save": saved([LOWER, UPPER]),
    "docker-save-gzip": gzip.compress(saved([LOWER, UPPER])),
    "docker-save-zstd": zstandard.compress(saved([LOWER, UPPER])),
    "docker-save-of-compressed-layers": saved([gzip.compress(LOWER), zstandard.compress(UPPER)]),
    "oci": oci([gzip.compress(LOWER), gzip.compress(UPPER)]),
    "oci-zstd": oci([zstandard.compress(LOWER), zstandard.compress(UPPER)]),
    "oci-of-an-index": oci([LOWER, UPPER], nested=True),
}


@pytest.mark.parametrize("image", FORMS.values(), ids=FORMS)
def test_layers_are_laid_over_each_other(image: bytes, tmp_path: Path) -> None:
    assert unpacked(image, tmp_path) == LAID


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_a_tar_file_of_a_root_is_unpacked(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    image = tar([("./etc", None), ("./etc/x", b"x"), ("./bin", "-> usr/bin"), ("./usr/bin/sh", b"sh")])
    assert unpacked(compress(image), tmp_path) == {
        "etc": "/", "etc/x": "x", "bin": "-> usr/bin", "usr": "/", "usr/bin": "/", "usr/bin/sh": "sh",
    }  # fmt: skip


def test_files_of_which_only_names_are_looked_at_stay_empty(tmp_path: Path) -> None:
    image = tar([("usr/share/x", b"x"), ("boot/vmlinuz-6.1.0", b"kernel"), ("lib/modules/6.1.0/m.ko", b"m")])
    found = unpacked(image, tmp_path)
    assert (found["usr/share/x"], found["boot/vmlinuz-6.1.0"], found["lib/modules/6.1.0/m.ko"]) == ("", "", "")


def test_what_is_too_large_to_be_a_program_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostimage, "_LARGEST", 3)
    assert unpacked(tar([("small", b"abc"), ("model", b"abcd")]), tmp_path) == {"small": "abc", "model": ""}


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_an_image_fills_no_disk(
    compress: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files, and what it is decompressed to."""
    image = compress(tar([("a", bytes(50_000)), ("b", bytes(50_000))]))
    monkeypatch.setattr(hostimage, "_MOST", 90_000)
    with pytest.raises(PackError, match=r"^cannot read image: it unpacks to more than 0 GiB$"):
        unpacked(image, tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "root").iterdir()) <= 90_000


def test_many_empty_files_cost_something_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostimage, "_MOST", 20 * 4096)
    with pytest.raises(PackError, match="it unpacks to more than"):
        unpacked(tar([(f"{number}", b"") for number in range(21)]), tmp_path)


HOSTILE = {
    "dots": [("../../../../../{out}/evil", b"evil")],
    "absolute": [("/{out}/evil", b"evil")],
    "link-and-file-behind-it": [("x", "-> /{out}"), ("x/evil", b"evil")],
    "link-of-dots": [("x", "-> ../../../../../../../../{out}"), ("x/evil", b"evil")],
    "link-to-a-link": [("y", "-> /{out}"), ("x", "-> y"), ("x/evil", b"evil")],
    "hard-link": [("x", "=> /{out}/secret"), ("x", b"evil")],
    "hard-link-of-dots": [("x", "=> ../../../../../../{out}/secret")],
    "whiteout": [("x", "-> /{out}"), ("x/.wh.secret", b"")],
    "opaque": [("x", "-> /{out}"), ("x/.wh..wh..opq", b"")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_nothing_leads_out_of_the_root(members: list[Member], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    (out / "secret").write_text("secret")
    where = str(out).lstrip("/")
    filled = [
        (name.format(out=where), content.format(out=where) if isinstance(content, str) else content)
        for name, content in members
    ]
    image = saved([tar(filled[:1]), tar(filled[1:])])
    try:
        found = unpacked(image, tmp_path)
    except PackError:  # a link to what is not there
        found = {}
    assert [path.name for path in out.iterdir()] == ["secret"]
    assert (out / "secret").read_text() == "secret"
    assert "secret" not in found.values()


NO_IMAGE = {
    "no-tar": b"text" * 200,
    "empty": b"",
    "cut": saved([LOWER, UPPER])[:5000],
    "cut-gzip": gzip.compress(os.urandom(3000) + saved([LOWER]))[:2500],
    "cut-zstd": zstandard.compress(tar([("x", os.urandom(5000))]))[:3000],
    "no-layer": tar([("manifest.json", json.dumps([{"Layers": ["missing"]}]).encode())]),
    "layers-are-no-list": tar([("manifest.json", json.dumps([{"Layers": 3}]).encode())]),
    "manifest-without-layers": tar([("oci-layout", b"{}"), ("index.json", b'{"schemaVersion": 2}')]),
    "index-is-no-json": tar([("oci-layout", b"{}"), ("index.json", b"{")]),
}


@pytest.mark.parametrize("image", NO_IMAGE.values(), ids=NO_IMAGE)
def test_what_is_no_image_is_told(image: bytes, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"^cannot read image: it is neither a directory nor a whole tar file or image"):
        unpacked(image, tmp_path)


def test_an_image_must_be_one_and_for_this_machine(tmp_path: Path) -> None:
    several = [{"RepoTags": ["a:1"], "Layers": []}, {"RepoTags": ["b:2"], "Layers": []}]
    with pytest.raises(PackError, match="it has several images: a:1, b:2"):
        unpacked(tar([("manifest.json", json.dumps(several).encode())]), tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(PackError, match=r"it has 0 images for (amd64|arm64)"):
        unpacked(oci([LOWER], machine="riscv64"), tmp_path / "other")


def test_an_image_is_described_like_its_root(made: Path, tmp_path: Path) -> None:
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as file:
        file.add(made, ".")
    path = tmp_path / "made.tar.gz"
    path.write_bytes(gzip.compress(saved([image.getvalue(), tar([("usr/lib/.wh.libz.so.1", b"")])])))
    host = read(hostread.of_root("made", path))
    assert "libz.so.1" not in host.libraries
    assert (host.title, host.kernel) == ("Made up 1 (one)", "6.1.0-21-amd64")


# Debian's, against what was written by hand ------------------------------------------------------------------------


@dataclass(frozen=True)
class Meant:
    """In what a root differs from the description, and why."""

    libraries: Mapping[str, str | None]
    """What the description says; ``None``: nothing."""
    pythons: Sequence[str]
    """ABIs that the root has besides."""
    why: str


# Kernel and CPU are not compared: a root filesystem has none, the descriptions have the suite's and the lowest.
MEANT = {
    "bullseye": Meant({}, ["cp27mu"], "python2.7 is installed in the root for tests"),
    "bookworm": Meant({}, [], ""),
    "trixie": Meant({}, [], ""),
    "forky": Meant(
        {"libstdc++.so.6": "GLIBCXX_3.4.36 CXXABI_1.3.17 CXXABI_FLOAT128 CXXABI_TM_1"}, [],
        "the root is minimal; every Debian with apt has libstdc++6",
    ),
    "sid": Meant(
        {"libstdc++.so.6": "GLIBCXX_3.4.36 CXXABI_1.3.17 CXXABI_FLOAT128 CXXABI_TM_1"}, [],
        "the root is minimal; every Debian with apt has libstdc++6",
    ),
}  # fmt: skip


RELEASED = ("bullseye", "bookworm", "trixie")
"""The other suites move on, so a description of them may be behind."""


@pytest.mark.hosts
@pytest.mark.parametrize("name", MEANT)
def test_descriptions_by_hand_are_what_their_roots_tell(name: str) -> None:
    real = read(hostread.of_root(name, require_host(name).root))
    written, meant = hosts.find(str(hosts.shipped()[name])), MEANT[name]
    assert (real.machine, real.family) == (written.machine, written.family)
    assert set(written.libraries) - set(real.libraries) == set(meant.libraries), meant.why
    for soname, nodes in meant.libraries.items():
        assert set(written.libraries[soname]) == set((nodes or "").split())
    assert {one.abi for one in real.pythons} == {*(one.abi for one in written.pythons), *meant.pythons}, meant.why
    pythons = {one.abi: one for one in real.pythons}
    if name in RELEASED:
        assert real.libc == written.libc
        found = {soname: set(nodes) for soname, nodes in real.libraries.items()}
        said = {soname: set(nodes) for soname, nodes in written.libraries.items() if soname not in meant.libraries}
        assert found == said
        assert [pythons[one.abi] for one in written.pythons] == list(written.pythons)
    else:
        assert real.libc >= written.libc
        assert [pythons[one.abi].version >= one.version for one in written.pythons] == [True] * len(written.pythons)
        for soname in set(written.libraries) & set(real.libraries):
            assert [node for node in written.libraries[soname] if not hosts.offers(real, soname, node)] == []
