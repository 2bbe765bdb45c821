"""Every difference between a packed program and the same wheels in a venv, with the reason why it is so.

Patterns are for the names of :data:`comparing.Seen`. What differs and is not here fails the test, and so does an
entry that explains nothing any more.
"""

from __future__ import annotations

import re
from typing import Any

from packer import boot

from .comparing import NOTHING, Difference

BIN = "PREFIX/bin"
NEW = (3, 4)
"""The first Python that has -I."""


def without_bin(plain: Any) -> Any:
    """Leave the directory of console scripts out of a list."""
    return [one for one in plain if one != BIN]


def named_boot(plain: Any) -> Any:
    """The boot file in the place of the console script."""
    return "PREFIX/boot/differ.py" if plain == "PROGRAM" else plain


OPTIONS = "the launcher gives -I: variables and the user's site-packages are not the program's (docs/environment.md)"
SCRIPT = "a console script's directory, bin, is on sys.path[0] of a plain one; with -I no directory of a script is"
BOOT = "what runs as __main__ is the boot file of the view, since the program is no Python"
LINKS = "directories of a view are links to layers of the store"
TIDY = "a view has what packer puts there, and not what venv adds for shells"

INSTALLED = "packer writes who installed, and nothing of where a wheel came from, or that the user named it"
RE = "console scripts of the last pip for these Pythons import re"


def without_pips(plain: Any) -> Any:
    """What packer does not write, as it is in lists of files, and in what was read of them."""
    if plain[0] == "pip\n":
        return ["fatpar\n", plain[1], None, None]
    return [one for one in plain if not re.fullmatch(r"[^/]+\.dist-info/(REQUESTED|direct_url\.json)", one)]


PROCESSES = ("process", "thread", "process fork", "process spawn", "process forkserver")


def _of_processes() -> tuple[Difference, ...]:
    found = []
    for one in PROCESSES:
        found += [
            Difference(f"{one} > flags > {name}", OPTIONS, since=since, becomes=lambda _: 1)
            for name, since in (("ignore_environment", (2, 7)), ("isolated", NEW), ("no_user_site", (2, 7)))
        ]
        found += [
            Difference(f"{one} > flags > safe_path", OPTIONS, since=(3, 11), becomes=lambda _: True),
            Difference(f"{one} > sys > orig_argv", OPTIONS, since=(3, 10)),
            Difference(
                f"{one} > sys > __interactivehook__", "-I: site sets none", since=NEW, becomes=lambda _: NOTHING
            ),
            Difference(f"{one} > sys > path", SCRIPT, becomes=without_bin),
            Difference(f"{one} > path_importer_cache > {BIN}", SCRIPT, becomes=lambda _: NOTHING),
            Difference(f"{one} > modules > __*main__ > __file__", BOOT, becomes=named_boot),
        ]
    for one in PROCESSES[:3]:
        found += [
            Difference(f"{one} > path_importer_cache > PREFIX/boot/differ.py", BOOT),
            Difference(f"{one} > path_importer_cache > PROGRAM", BOOT, becomes=lambda _: NOTHING),
        ]
    shown = "the launcher's library shows what the user typed; a plain one shows its interpreter, spawn its options"
    found += [Difference(f"{one} > os > proc cmdline", shown) for one in PROCESSES]
    found += [
        Difference(f"{one} > stack > 0", BOOT, becomes=lambda plain: [named_boot(plain[0]), *plain[1:]])
        for one in ("process", "process fork")
    ]
    found += [
        Difference(f"{one} > path_importer_cache > WORK", "-I is inherited: the working directory is not on sys.path")
        for one in PROCESSES[3:]
    ]
    return tuple(found)


def by_table(plain: Any) -> Any:
    """The finder that knows what is in a directory, in the place of the one that looks."""
    if isinstance(plain, list):
        return [by_table(one) for one in plain]
    return plain.replace("_frozen_importlib_external.FileFinder", "fatpar._Finder") if isinstance(plain, str) else plain


TABLE = "packed modules are found by a table (packer/hostimport.py)"


def _of_the_table() -> tuple[Difference, ...]:
    since = (3, 5)
    found = [
        Difference(where, TABLE, since=since, becomes=by_table)
        for where in ("awkward.asked_directly > 2", "packages > importers of *", "packages > iter_modules > *")
    ]
    for one in PROCESSES[:3]:
        found.append(Difference(f"{one} > path_importer_cache > PREFIX/*", TABLE, since=since))
        found.append(Difference(f"{one} > path_importer_cache > /*", TABLE, since=since, becomes=by_table))
    found += [
        Difference(
            f"{one} > sys > path_hooks", TABLE, since=since,
            becomes=lambda plain: ["fatpar.install.<locals>.hook", *plain],
        )
        for one in PROCESSES[:3]
    ]  # fmt: skip
    return (
        *found,
        Difference("awkward.import_replaced", "nothing is imported to look for what the table has", since=since),
        Difference(
            "awkward.traced_lines > *", "no zip file is looked for where the table knows a directory", since=since
        ),
        Difference("packages > tracebacks > import odd.recursive", "an import takes one frame more", since=since),
    )


DIFFERENCES: tuple[Difference, ...] = (
    *_of_processes(),
    *_of_the_table(),
    Difference("at_import > path", SCRIPT, becomes=without_bin),
    Difference("awkward.importer_cache_emptied > 2", SCRIPT, becomes=without_bin),
    Difference("awkward.path_with_odd_entries > 1", SCRIPT),
    Difference("awkward.run_by_path > 2", SCRIPT),
    Difference("packages > importers", SCRIPT),
    Difference("packages > pkg_resources > entries", SCRIPT, becomes=without_bin),
    Difference("packages > inspect > main", BOOT),
    Difference("packages > inspect > stack > *", BOOT),
    Difference("pool * > 1 > 1 > __file__", BOOT, becomes=named_boot),
    *(
        Difference(f"packages > metadata > * > {name}", INSTALLED, since=(3, 8), becomes=without_pips)
        for name in ("files", "RECORD", "others")
    ),
    *(
        Difference(f"{one} > interpreter > __main__ > re", RE, until=(3, 8), becomes=lambda _: NOTHING)
        for one in PROCESSES
    ),
    Difference("process forkserver > stack > 0", SCRIPT, since=(3, 13)),
    Difference("pool * > 1 > 0", RE, until=(3, 8), becomes=lambda plain: [name for name in plain if name != "re"]),
    Difference("packages > files > bin", TIDY, becomes=lambda plain: [one for one in plain if "ctivate" not in one]),
    Difference("packages > files > prefix", TIDY),
    Difference("packages > files > exists", LINKS, becomes=lambda _: [True, True]),
    Difference("packages > files > real", LINKS),
    Difference("packages > files > walked", "__pycache__ of a layer is a link, which os.walk does not follow"),
    Difference("packages > pkg_resources > distributions", "pkg_resources resolves links in what it adds itself"),
    Difference(
        "packages > resources > of a namespace", "the link to bytecode is there before any",
        becomes=lambda plain: ["__pycache__", *plain],
    ),
)  # fmt: skip

SECOND = tuple(
    Difference(
        f"{one} > interpreter > atexit", "what is compiled is written down at the end of a second launch", since=(3, 7),
        becomes=lambda plain: plain + 1,
    )
    for one in PROCESSES[:3]
)  # fmt: skip
"""Of the second launch alone."""

_BOOT_FILE = boot.boot_source(boot.Function("differ.cli", "main"), table=True)
CALLED = f'File "PREFIX/boot/differ.py", line {1 + _BOOT_FILE.splitlines().index("    sys.exit(main())")}'
"""Where the boot file calls the program."""

ENDINGS: tuple[Difference, ...] = (
    Difference(
        "* > stderr", "a traceback begins in the boot file",
        becomes=lambda plain: re.sub(r'File "PROGRAM", line \d+', CALLED, plain),
    ),
)  # fmt: skip
