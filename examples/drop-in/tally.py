"""tally [-k FIELD] [FILE...]: how often each value of a field is there, most frequent first."""

import collections
import getopt
import os
import signal
import sys

USAGE = b"usage: tally [-k FIELD] [FILE...]\n"

interrupted = False


def interrupt(_number, _frame):
    """Remember that it is to end: what was counted so far is still worth something."""
    global interrupted
    interrupted = True


def count_line(line, field, counts):
    """Count a line that has so many fields, which blanks and tabs separate."""
    fields = [word for word in line.replace(b"\t", b" ").split(b" ") if word]
    if len(fields) >= field:
        counts[fields[field - 1]] += 1


def read(fd):
    """Read what there is; nothing once it is to end."""
    while not interrupted:
        try:
            return os.read(fd, 1 << 16)
        except OSError as error:
            if error.errno != 4:  # EINTR, before Python 3.5
                raise
    return b""


def count_file(fd, field, counts):
    """Count the lines of a file."""
    rest = b""
    while True:
        data = read(fd)
        if not data:
            break
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            count_line(line, field, counts)
    if not interrupted:
        count_line(rest, field, counts)


def complain(name, error):
    """Say what went wrong."""
    sys.stderr.write("tally: %s: %s\n" % (name, os.strerror(error.errno)))
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
    status = 0
    for name in files or [None]:
        if interrupted:
            break
        try:
            fd = 0 if name is None else os.open(name, os.O_RDONLY)
            count_file(fd, field, counts)
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
