"""How a program can be started and end, and programs that report what they see of it: to compare two starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

REPORT = '''\
import json, os, sys


def links(directory):
    """Descriptor -> what it is and how it was opened; the one that lists them is gone by then."""
    found = {}
    for name in os.listdir(directory):
        try:
            with open("/proc/self/fdinfo/" + name) as info:
                found[name] = [os.readlink(directory + "/" + name).split("[")[0], info.read().split("mnt_id")[0]]
        except (IOError, OSError):
            pass
    return found


def children():
    found = []
    for name in os.listdir("/proc"):
        try:
            with open("/proc/" + name + "/stat") as status:
                fields = status.read().rpartition(")")[2].split()
            if fields[1] == str(os.getpid()):
                found.append(name)
        except (IOError, OSError):
            pass
    return found


def text(path):
    with open(path, "rb") as file:
        return file.read().decode("latin-1")


def directory():
    try:
        return os.getcwd()
    except OSError as error:
        return error.errno


def main():
    descriptors = links("/proc/self/fd")
    encode = getattr(os, "fsencode", lambda word: word)
    # SigQ counts the signals of all processes of the user, whoever tests beside; its limit is among the others
    varies = ("Name", "Pid", "PPid", "Tgid", "NS", "Vm", "Hug", "Rss", "SigQ", "voluntary", "nonvoluntary")
    report = {
        "descriptors": descriptors,
        "children": children(),
        "argv": [encode(word).decode("latin-1") for word in sys.argv],
        "environ": text("/proc/self/environ"),
        "cmdline": text("/proc/self/cmdline"),
        "comm": text("/proc/self/comm"),
        "os.environ": dict((encode(k).decode("latin-1"), encode(v).decode("latin-1")) for k, v in os.environ.items()),
        "directory": directory(),
        "status": [line for line in text("/proc/self/status").splitlines() if not line.startswith(varies)],
        "limits": text("/proc/self/limits"),
        "oom": text("/proc/self/oom_score_adj"),
        "cgroup": text("/proc/self/cgroup"),
        "nice": os.nice(0),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "leads": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
        "encodings": [sys.getfilesystemencoding()] + [
            [getattr(stream, "encoding", None), getattr(stream, "errors", None)]
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "input": os.read(0, 100).decode("latin-1") if "0" in descriptors else None,
    }
    with open("/home/u/report.json", "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main()
'''


@dataclass(frozen=True)
class Condition:
    """How a program is started."""

    arguments: tuple[str | bytes, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def before(*statements: str) -> Condition:
    return Condition(options={"before": "\n".join(statements)})


def env(**variables: str | bytes | None) -> Condition:
    return Condition(options={"env": variables})


CONDITIONS = {
    "plain": Condition(),
    "empty-argument": Condition(("", "a", "")),
    "options-of-python": Condition(("-c", "--", "-V", "-", "-m")),
    "arguments-that-are-no-text": Condition((b"\xff\xfe", "\u20ac", b" \n\t'\"$")),
    "many-arguments": Condition((b"x" * 500,) * 3000),
    "environment-that-is-no-text": env(A=b"\xff\xfe", B="", C="=", LD_PRELOAD=""),
    "environment-of-a-terminal": env(TERM="xterm", LC_ALL="C.UTF-8", COLUMNS="80", VIRTUAL_ENV="/none"),
    "latin-1-locale": env(LC_ALL="POSIX", LANG="de_DE"),
    "no-home": env(HOME=None),
    "no-path": env(PATH=None),
    "no-environment": env(HOME=None, PATH=None),
    "control-word-is-empty": env(FATPAR=""),
    "input": Condition(options={"input": b"\x00\xffall of it"}),
    "working-directory": Condition(options={"cwd": "/usr/share"}),
    "working-directory-is-gone": before("os.mkdir('/tmp/gone')", "os.chdir('/tmp/gone')", "os.rmdir('/tmp/gone')"),
    "input-is-closed": before("os.close(0)"),
    "output-is-closed": before("os.close(1)"),
    "errors-are-closed": before("os.close(2)"),
    "all-three-are-closed": before("os.closerange(0, 3)"),
    "descriptors-3-to-9": before(
        "for number in range(3, 10):",
        "    file = os.open('/etc/passwd', os.O_RDONLY | (os.O_APPEND if number == 5 else 0))",
        "    os.lseek(file, number, 0)",
        "    os.dup2(file, number)",
        "    os.close(file)",
    ),
    "descriptors-5-and-200": before("for number in (5, 200): os.dup2(1, number)"),
    "signals-are-blocked": before("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, 40})"),
    "signals-are-ignored": before(
        "for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ):",
        "    signal.signal(number, signal.SIG_IGN)",
    ),
    "limits": before(
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 99))",
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 2 << 30))",
        "resource.setrlimit(resource.RLIMIT_NPROC, (500, 500))",
    ),
    "nice": before("os.nice(7)", "os.sched_setaffinity(0, {0})"),
    "no-new-privileges": before("ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)"),
}

BEHAVE = """\
import os, signal, sys, time


def main():
    what = sys.argv[1]
    if what == "status":
        sys.exit(int(sys.argv[2]))
    elif what == "return":
        return 7
    elif what == "text":
        sys.exit("it is over")
    elif what == "error":
        raise ValueError("never caught")
    elif what == "abort":
        os.abort()
    elif what == "sleep":
        sys.stdout.write("ready\\n")
        sys.stdout.flush()
        time.sleep(60)
    elif what == "handle":
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(99))
        sys.stdout.write("ready\\n")
        sys.stdout.flush()
        time.sleep(60)
    elif what == "count":
        sys.stdout.write(str(sum(len(line) for line in sys.stdin)))
    elif what == "pipe":
        for _ in range(100000):
            sys.stdout.write("y\\n")
    elif what == "listen":
        import socket
        mine = os.environ["LISTEN_PID"] == str(os.getpid())
        sys.stdout.write("%s %s\\n" % (mine, os.readlink("/proc/self/fd/3").split("[")[0]))


if __name__ == "__main__":
    sys.exit(main())
"""
