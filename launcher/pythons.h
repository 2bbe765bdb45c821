struct host;
struct archive;

/*
 * Interpreters of the system's directories that the slices could use. Scripts, copies inside a venv and conda prefixes are no interpreters; a venv's
 * link leads to the interpreter it was made of. None is run unless a slice depends on a micro version that its
 * file does not tell.
 */
void pythonsfind(struct host *, const struct archive *);

/* the same for the directories of PATH and, behind a directory of shims, the versions they stand for */
void pythonsfindonpath(struct host *, const struct archive *);

/* Python ABI tag and PY_VERSION_HEX of an interpreter's file or its libpython; -1: it is no CPython that is known */
struct elf;
int pythonidentify(const struct elf *, char tag[16], uint32_t *version);
