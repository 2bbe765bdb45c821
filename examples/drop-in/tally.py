"""tally [-k FIELD] [FILE...]: how often each value of a field is there, most frequent first."""

import collections
import errno
import getopt
import os
import re
import signal
import sys

USAGE = b"usage: tally [-k FIELD] [FILE...]\n"

interrupted = False
waiting = False


def interrupt(_number, _frame):
    """Remember that it is to end: what was counted so far is still worth something."""
    global interrupted, waiting
    interrupted = True
    if waiting:
        # a call that returns with EINTR is made again since Python 3.5, unless the handler raises
        waiting = False
        raise OSError(errno.EINTR, os.strerror(errno.EINTR))


def wait(call, *arguments):
    """Make a call that may take long, and that a signal ends with EINTR, as in C."""
    global waiting
    try:
        waiting = True
        if interrupted:
            raise OSError(errno.EINTR, os.strerror(errno.EINTR))
        return call(*arguments)
    finally:
        waiting = False


def value_of(field):
    """Give the pattern of a line's field, as its group; fields are what blanks and tabs separate."""
    # no line has so many fields, and no pattern can have more
    return re.compile(br"^[ \t]*(?:[^ \t\n]+[ \t]+){%d}([^ \t\n]+)" % min(field - 1, 1 << 30), re.MULTILINE)


def read(fd):
    """Read what there is; nothing once it is to end."""
    try:
        return wait(os.read, fd, 1 << 16)
    except OSError as error:
        if error.errno != errno.EINTR:
            raise
        return b""


def count_file(fd, value, counts):
    """Count the lines of a file."""
    rest = b""
    while True:
        data = read(fd)
        if not data:
            break
        whole, end, begun = data.rpartition(b"\n")
        if end:
            counts.update(value.findall(rest + whole))  # all lines at once: loops of Python are slow
            rest = b""
        rest += begun
    if not interrupted:
        counts.update(value.findall(rest))


def complain(name, error):
    """Say what went wrong."""
    text = "tally: %s: %s\n" % (name, os.strerror(error.errno))
    os.write(2, text if str is bytes else os.fsencode(text))
    return 1


def options_of(arguments):
    """Give the number of the field and the files; None for what is wrong."""
    try:
        options, files = getopt.gnu_getopt(arguments, "k:")
        field = int(options[-1][1]) if options else 1
    except (getopt.GetoptError, ValueError):
        return None
    return (field, files) if field > 0 else None


def count(files, field, counts):
    """Count all files, or what is read."""
    value = value_of(field)
    status = 0
    for name in files or [None]:
        if interrupted:
            break
        try:
            fd = 0 if name is None else wait(os.open, name, os.O_RDONLY)
            count_file(fd, value, counts)
            if name is not None:
                os.close(fd)
        except OSError as error:
            status = complain("standard input" if name is None else name, error)
    return status


def write(data):
    """Write everything."""
    while data:
        data = data[os.write(1, data) :]


def main():
    """Run the tool; its exit status is returned."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.argv[1:] == ["--version"]:
        write(b"tally 1.4\n")
        return 0
    options = options_of(sys.argv[1:])
    if options is None:
        os.write(2, USAGE)
        return 2
    field, files = options
    signal.signal(signal.SIGINT, interrupt)
    counts = collections.Counter()
    status = count(files, field, counts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    try:
        write(b"".join(str(times).encode() + b"\t" + value + b"\n" for value, times in ordered))
    except OSError as error:
        return complain("standard output", error)
    return 130 if interrupted else status


if __name__ == "__main__":
    sys.exit(main())
