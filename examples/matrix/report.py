"""A small program with compiled dependencies: reads YAML, packs it with msgpack, and lets C's strlen measure it."""

from __future__ import print_function

import sys

import cffi
import msgpack
import yaml


def main():
    said = yaml.load(sys.stdin, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    packed = msgpack.packb(said, use_bin_type=True)
    assert msgpack.unpackb(packed, raw=False) == said
    ffi = cffi.FFI()
    ffi.cdef("size_t strlen(const char *);")
    size = ffi.dlopen(None).strlen(str(said).encode("ascii"))
    print("%d bytes packed, %d as text, Python %d.%d" % ((len(packed), size) + sys.version_info[:2]))


if __name__ == "__main__":
    main()
