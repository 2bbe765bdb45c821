"""Declares the C core to cffi, which writes and compiles the extension module textstat._core."""

from cffi import FFI

ffi = FFI()
ffi.cdef(
    """
    struct textstat { uint64_t bytes, lines, words, distinct; ...; };
    struct textstat_word { const char *text; uint64_t length, count; ...; };

    struct textstat *textstat_new(void);
    int textstat_add_file(struct textstat *, const char *path);
    size_t textstat_most(struct textstat *, struct textstat_word *, size_t);
    void textstat_free(struct textstat *);
    """
)
ffi.set_source(
    "textstat._core",
    '#include "textstat.h"',
    sources=["core/textstat.c"],
    include_dirs=["core"],
    extra_compile_args=["-std=c99"],
)
