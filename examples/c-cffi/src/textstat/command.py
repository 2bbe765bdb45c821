"""The command line; for Python 2.7 and all later ones."""

import argparse
import os
import sys

from textstat._core import ffi, lib


def main():
    parser = argparse.ArgumentParser(prog="textstat", description="Count lines, words, and the most frequent words.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-n", type=int, default=3, help="how many of the most frequent words (default: 3)")
    parser.add_argument("--version", action="version", version="textstat 1.0 on Python %d.%d" % sys.version_info[:2])
    options = parser.parse_args()
    stat = ffi.gc(lib.textstat_new(), lib.textstat_free)
    for path in options.files:
        error = lib.textstat_add_file(stat, path if isinstance(path, bytes) else os.fsencode(path))
        if error:
            sys.exit("textstat: %s: %s" % (path, os.strerror(error)))
    print("%d lines, %d words, %d bytes" % (stat.lines, stat.words, stat.bytes))
    words = ffi.new("struct textstat_word[]", max(options.n, 0))
    for word in words[0 : lib.textstat_most(stat, words, len(words))]:
        print(
            "%7d %s" % (word.count, ffi.string(ffi.cast("char *", word.text), word.length).decode("utf-8", "replace"))
        )
    return 0
