"""The most frequent words of texts: a core in Rust behind cffi, for every Python from 2.7 on."""

from topwords._core import ffi, lib


class Counter(object):  # noqa: UP004 - Python 2.7 has two kinds of classes
    """Counts words that are fed to it in pieces."""

    def __init__(self):
        """Begin with none."""
        self._counter = ffi.gc(lib.topwords_new(), lib.topwords_free)

    def feed(self, data):
        """Count the words of some bytes; a word may go on in the next ones."""
        lib.topwords_feed(self._counter, ffi.from_buffer(data), len(data))

    def top(self, most):
        """Give the most frequent words and how often each was seen; of those that are as frequent the first in the alphabet."""
        size, count = ffi.new("uintptr_t *"), ffi.new("uint64_t *")
        found = []
        for index in range(lib.topwords_sort(self._counter, most)):
            word = lib.topwords_word(self._counter, index, size, count)
            found.append((ffi.buffer(word, size[0])[:].decode("utf-8", "replace"), int(count[0])))
        return found
