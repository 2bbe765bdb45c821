"""Which upstream projects are in an ELF file, and which version of them: read from its name and its read-only data.

A copy is known by its SONAME, or where it was linked statically by marks: texts that are in every build of the project
and in nothing that only uses it. Users of a library often hold its version, which its headers gave them: that alone is
no mark. A version that cannot be read is None; nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_HASH = re.compile(r"(-[0-9a-f]{8})+(?=\.so)")
"""What auditwheel, and we, put into the name of a library that is brought along."""


@dataclass(frozen=True)
class Detector:
    """How one project is known; of several for one project the first that knows a file counts."""

    project: str
    soname: str = ""
    """Regular expression for the whole SONAME, without what auditwheel puts in; of a file without one, its name. What
    auditwheel calls a library by goes on with the rest of the file's version."""
    marks: tuple[bytes, ...] = ()
    """All of these are in the data of a copy that bears another name; none: such a copy cannot be known."""
    version: bytes = b""
    """Regular expression; its group is the version, of several the numbers between its dots."""
    file: str = ""
    """The same for the file's name, where this tells the project's version and not only the interface's."""
    wheel: str = ""
    """The same for the name of a wheel, or an interpreter's layer, that is made from the project."""


_WHOLE = rb"(?<![ -~])(%s)(?=\0)"
"""A text that is nothing but the version; what compilers put before one need not end in NUL."""

DETECTORS = (
    Detector(
        "openssl", r"lib(crypto|ssl)\.so\.([0-4]|10|[0-3]\.[\d.]+)", (b"OPENSSLDIR: \"",),
        rb"OpenSSL (\d+\.\d+\.\d+[a-z]{0,2})(?:-[\w.]+)? +(?:FIPS +)?\d+ [A-Z][a-z]{2} \d{4}\0",
    ),
    Detector("boringssl", "", (b"/boringssl", b"/ssl/tls13_server.cc")),
    Detector(
        "zlib", r"libz\.so\.1", (b"flate ", b" Mark Adler "),
        rb"(?:de|in)flate (\d+\.\d+(?:\.\d+)*) Copyright 1995-\d{4} ", r"libz\.so\.(\d+(?:\.\d+)+)",
    ),
    Detector(
        "bzip2", r"libbz2\.so\.1(\.0)?", (b", 13-Jul-2019\0",),
        rb"(?<![ -~])(\d+\.\d+\.\d+), \d+-[A-Z][a-z]{2}-\d{4}\0",
    ),
    Detector("xz", r"liblzma\.so\.\d+", (), _WHOLE % rb"5\.\d+\.\d+(?:alpha|beta)?", r"liblzma\.so\.(\d+\.\d+\.\d+)"),
    Detector(
        "zstd", r"libzstd\.so\.1", (b"Unsupported frame parameter\0", b"Unknown frame descriptor\0"),
        _WHOLE % rb"1\.[0-9]\.\d+", r"libzstd\.so\.(\d+\.\d+\.\d+)",
    ),
    Detector(
        "lz4", r"liblz4\.so\.1", (b"ERROR_frameType_unknown\0", b"ERROR_maxBlockSize_invalid\0"),
        _WHOLE % rb"(?:1\.(?:[89]|1\d)\.\d+)", r"liblz4\.so\.(\d+\.\d+\.\d+)",
    ),
    Detector(
        "brotli", r"libbrotli(common|dec|enc)\.so\.1", (b"timedownlifeleftbackcodedatashowonly",),  # RFC 7932, A
        file=r"libbrotli(?:common|dec|enc)\.so\.(\d+\.\d+\.\d+)", wheel=r"[Bb]rotli-(\d+(?:\.\d+)+)-",
    ),
    Detector(
        "sqlite", r"libsqlite3\.so\.0", (b"SQLite format 3\0", b"sqlite_master\0"),
        _WHOLE % rb"3\.(?:[2-9]\d|\d{3})\.\d+(?:\.\d+)?",
    ),
    Detector(
        "expat", r"libexpatw?\.so\.1", (b"expat_2.", b"unclosed CDATA section\0"),
        rb"(?<![ -~])expat_(\d+\.\d+\.\d+)\0",
    ),
    # what it says of itself it says since 3.5; cffi holds Python's version, which looks like that
    Detector("libffi", r"libffi\.so\.\d+", (), _WHOLE % rb"3\.[5-9]\.\d+"),
    Detector("libffi", "", (b"LIBFFI_TMPDIR\0",)),
    Detector(
        "ncurses", r"lib(ncurses|form|menu|panel|tinfo)w?\.so\.\d+", (b"ncurses ", b"TERMINFO_DIRS\0"),
        rb"(?<![ -~])ncurses (\d+\.\d+)\.\d{8}\0", r"lib(?:ncurses|form|menu|panel|tinfo)w?\.so\.(\d+\.\d+)",
    ),
    # no marks: what is in bash calls itself by an older version
    Detector(
        "readline", r"lib(readline|history)\.so\.\d+", (), _WHOLE % rb"[678]\.\d",
        r"lib(?:readline|history)\.so\.(\d+\.\d+)",
    ),
    # no marks: its header holds what it says of itself
    Detector("berkeley-db", r"libdb-\d+\.\d+\.so", (), rb"(?<![ -~])Berkeley DB (\d+\.\d+\.\d+): \("),
    Detector(
        "krb5", r"lib(krb5|k5crypto|krb5support|gssapi_krb5)\.so\.\d+", (b"KRB5_BRAND: ",),
        rb"KRB5_BRAND: krb5-(\d+\.\d+(?:\.\d+)?)-",
    ),
    # the second number of its file's name is PostgreSQL's major version since 10
    Detector("postgresql", r"libpq\.so\.5", (), file=r"libpq\.so\.5\.(1\d|2\d)"),
    Detector(
        "curl", r"libcurl(-gnutls|-nss)?\.so\.4", (b"libcurl/", b"Could not resolve host"),
        rb"libcurl/(\d+\.\d+\.\d+)",
    ),
    Detector("nghttp2", r"libnghttp2\.so\.14", (), _WHOLE % rb"1\.\d+\.\d+"),
    Detector("libssh2", r"libssh2\.so\.1", (b"SSH-2.0-libssh2_",), rb"SSH-2\.0-libssh2_(\d+\.\d+\.\d+)"),
    Detector("pcre", r"libpcre\.so\.\d", (), rb"(?<![ -~])(8\.\d+) \d{4}-\d\d-\d\d\0"),
    Detector("pcre2", r"libpcre2-(8|16|32|posix)\.so\.\d", (), rb"(?<![ -~])(10\.\d+) \d{4}-\d\d-\d\d\0"),
    Detector("libsodium", r"libsodium\.so\.\d+", (), _WHOLE % rb"1\.0\.\d+"),
    Detector(
        "openblas", r"lib(scipy_)?openblas[\w-]*\.so(\.\d+)?", (b"OPENBLAS_NUM_THREADS\0", b"OpenBLAS "),
        rb"(?<![ -~])OpenBLAS (\d+\.\d+\.\d+(?:\.\d+)*)",
    ),
    Detector(
        "hdf5", r"libhdf5(_hl|_cpp)?(_serial)?\.so\.\d+", (b"HDF5 library version mismatched error",),
        rb"HDF5 library version: (\d+\.\d+\.\d+)",
    ),
    Detector(
        "libxml2", r"libxml2\.so\.\d+",
        (b"xmlParseStartTag: invalid element name", b"Extra content at the end of the document"),
        rb"(?<![ -~])(2)([01]\d)(\d\d)(?:-[^\0]*)?\0",
    ),
    Detector(
        "libxslt", r"libxslt\.so\.1", (b"xsltParseStylesheetProcess : document is not a stylesheet",),
        rb"(?<![ -~])(1)(0[12])(\d\d)(?:-[^\0]*)?\0",
    ),
    Detector(
        "libjpeg-turbo", r"lib(turbo)?jpeg\.so\.\d+", (b"libjpeg-turbo version ",),
        rb"libjpeg-turbo version (\d+\.\d+(?:\.\d+)?) ",
    ),
    Detector("libpng", r"libpng\d\d\.so\.\d+", (b"\nlibpng version ",), rb"\nlibpng version (\d+\.\d+\.\d+)\n"),
    Detector("libtiff", r"libtiff\.so\.\d+", (b"LIBTIFF, Version ",), rb"(?<![ -~])LIBTIFF, Version (\d+\.\d+\.\d+)\n"),
    Detector("freetype", r"libfreetype\.so\.6"),
    Detector("harfbuzz", r"libharfbuzz\.so\.0", (), _WHOLE % rb"\d+\.\d+\.\d+"),
    Detector("libwebp", r"lib(webp|webpdemux|webpmux|sharpyuv)\.so\.\d+"),
    Detector("openjpeg", r"libopenjp2\.so\.\d+", (), _WHOLE % rb"2\.\d+\.\d+", r"libopenjp2\.so\.(2\.\d+\.\d+)"),
    Detector("libyaml", r"libyaml-0\.so\.2", (b"did not find expected <document start>",), _WHOLE % rb"0\.\d+\.\d+"),
    Detector("libuv", r"libuv\.so\.1", (b"UV_THREADPOOL_SIZE\0",), _WHOLE % rb"1\.\d+\.\d+"),
    Detector(
        "protobuf", r"libproto(buf|buf-lite|c)\.so\.\d+(\.\d+\.\d+)?", (b"google._upb._message.",),
        # 25.1.0 is 25.1; before 22 interfaces were counted, until 32
        file=r"libproto(?:buf|buf-lite|c)\.so\.((?:2[2-9]|3[0-2])\.[1-9]\d*|(?:3[3-9]|[4-9]\d)\.\d+)\.0",
        wheel=r"protobuf-(\d+(?:\.\d+)+)-",
    ),
    Detector(
        "cpython", r"libpython\d\.\d+[a-z]*\.so\.1\.0", (b"Could not find platform dependent libraries <exec_prefix>",),
        _WHOLE % rb"(?:2\.7|3\.[5-9]|3\.1\d)\.\d+(?:(?:a|b|rc)\d+)?\+?",
        wheel=r"cpython-(\d+\.\d+\.\d+)-",  # linkers let the text be the end of a path that has it
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A project that is in a file."""

    project: str
    version: str | None
    static: bool
    """It was linked into something that bears another name."""


def plain(name: str) -> str:
    """Give the name that a library had before it was brought along: ``libssl.so.3`` for ``libssl-8bd944e8.so.3``."""
    return _HASH.sub("", name)


def projects(file: str, soname: str, data: bytes, origin: str = "") -> tuple[Found, ...]:
    """Find the projects that are in an ELF file.

    :param file: its name.
    :param data: what it has of read-only and initial data.
    :param origin: name of the wheel it came with.
    """
    data = b"\0" + data
    return tuple(_found(plain(file), plain(soname), data, origin))


def _found(file: str, soname: str, data: bytes, origin: str) -> Iterator[Found]:
    seen = set()
    for one in DETECTORS:
        if one.project in seen:
            continue
        named = bool(one.soname) and re.fullmatch(rf"(?:{one.soname})(\.\d+)*", soname or file) is not None
        if named or (one.marks and all(mark in data for mark in one.marks)):
            seen.add(one.project)
            yield Found(one.project, _version(one, file, data, origin), not named)


def _version(one: Detector, file: str, data: bytes, origin: str) -> str | None:
    said = {_joined(match.groups()) for match in re.finditer(one.version, data)} if one.version else set()
    named = re.fullmatch(one.file, file) if one.file else None
    if named and (not said or _joined(named.groups()) in said):
        return _joined(named.groups())
    if said:
        return said.pop() if len(said) == 1 else None
    made = re.match(one.wheel, origin) if one.wheel else None
    return _joined(made.groups()) if made else None


def _joined(groups: Collection[str | bytes]) -> str:
    """Write the groups of a match as one version: ``2``, ``14``, ``06`` is 2.14.6."""
    words = [group.decode("ascii") if isinstance(group, bytes) else group for group in groups]
    return words[0] if len(words) == 1 else ".".join(str(int(word)) for word in words)
