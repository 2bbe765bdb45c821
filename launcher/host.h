/*
 * The facts of one machine: everything that selection reads. Probed from the running machine, or put together
 * from a description with the same hostadd functions.
 */

enum libc_family { LIBC_UNKNOWN = 0, LIBC_GLIBC = 1, LIBC_MUSL = 2 };

struct node {
	char *library;          /* "libc.so.6" */
	char *name;             /* "GLIBC_2.17" */
};

/* a C library, and what the libraries beside it and on the loader's path offer */
struct libc {
	enum libc_family family;
	uint32_t version;       /* a.b as a << 16 | b << 8; 0: not known */
	char *path;             /* of libc.so.6 or the musl loader */
	struct node *nodes;
	uint32_t node_count;
	char **libraries;       /* SONAMEs found, of those that were asked for */
	uint32_t library_count;
};

struct python {
	char *path;             /* as found: "/usr/bin/python3.11" */
	char *real;             /* links resolved */
	char *abi;              /* Python ABI tag: "cp311" */
	uint32_t version;       /* PY_VERSION_HEX; micro and lower are 0 where only the minor version is known */
	uint32_t libc;          /* index into libcs */
	char *stdlib;           /* directory of the standard library: "/usr/lib/python3.11" */
	char **lacks;           /* standard-library modules asked for and not there */
	uint32_t lack_count;
};

/* a path that the facts rest on, as it was when they were read */
struct watch {
	char *path;
	int present;
	uint64_t device;
	uint64_t inode;
	uint64_t size;
	int64_t mtime;          /* nanoseconds */
	int64_t ctime;          /* nanoseconds */
};

struct host {
	uint16_t machine;       /* e_machine */
	uint32_t kernel;        /* a.b.c as a << 16 | b << 8 | c, each at most 255 */
	char *release;          /* uname's release */
	uint32_t cpu;           /* x86-64 level 1 to 4, AArch64 80 or 81 */
	uint64_t cpu_features;  /* bits the level was read from */
	struct libc *libcs;     /* the first is the one of the host's own programs */
	uint32_t libc_count;
	struct python *pythons; /* in the order they are preferred */
	uint32_t python_count;
	struct watch *watches;
	uint32_t watch_count;
	int path_consulted;     /* whether PATH had a part in it */
};

struct archive;

/* the facts of this machine, as far as an archive's slices ask for them; runs no program where it can */
void hostprobe(struct host *, const struct archive *);

/* add the interpreters on PATH to a probed host */
void hostprobepath(struct host *, const struct archive *);

/* the cheap facts only: machine, kernel, CPU */
void hostbasics(struct host *);

/* the same facts of a host that is described; the others are added */
void hostset(struct host *, uint16_t machine, const char *release, uint32_t cpu);

void hostfree(struct host *);

/* each returns the index of what it added */
uint32_t hostaddlibc(struct host *, enum libc_family, uint32_t version, const char *path);
void hostaddnode(struct host *, uint32_t libc, const char *library, const char *name);
void hostaddlibrary(struct host *, uint32_t libc, const char *soname);
uint32_t hostaddpython(struct host *, const char *path, const char *abi, uint32_t version, uint32_t libc, const char *stdlib);
void hostaddlack(struct host *, uint32_t python, const char *module);

/* remember how a path looks now */
void hostwatch(struct host *, const char *path);

/* whether a path still looks as it did */
int watchholds(const struct watch *);

/* there is a library of this soname for the programs of a C library: one that the archive asks for */
int libchas(const struct libc *, const char *soname);
