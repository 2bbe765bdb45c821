"""The command line: ``topwords [-n N] [FILE...]``."""

import argparse
import io
import sys

from topwords import Counter


def main():
    """Print the most frequent words of files, or of what is read."""
    parser = argparse.ArgumentParser(prog="topwords", description="Print the most frequent words of texts.")
    parser.add_argument("-n", type=int, default=10, metavar="N", help="how many (default: 10)")
    parser.add_argument("files", nargs="*", metavar="FILE", help="default: standard input")
    options = parser.parse_args()
    counter = Counter()
    try:
        for name in options.files or [None]:
            with io.open(0 if name is None else name, "rb", closefd=name is not None) as file:
                while True:
                    data = file.read(1 << 16)
                    if not data:
                        break
                    counter.feed(data)
            counter.feed(b"\n")
    except EnvironmentError as error:
        sys.stderr.write("topwords: {}: {}\n".format(error.filename, error.strerror))
        return 1
    output = io.open(1, "w", encoding="utf-8", closefd=False)
    for word, count in counter.top(options.n):
        output.write(u"{:7d} {}\n".format(count, word))
    output.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
