/*
 * Selection: which slice runs on a host. Reads nothing but its arguments, so that a host described in a file is
 * judged by the very code that judges the machine.
 */

/* why a need is not met; each has a sentence in explain.c */
enum mismatch {
	MET = 0,
	OTHER_MACHINE,
	CPU_TOO_OLD,
	KERNEL_TOO_OLD,
	OTHER_LIBC,
	LIBC_TOO_OLD,
	NODE_MISSING,
	LIBRARY_MISSING,
	NO_PYTHON,              /* no interpreter of this ABI */
	PYTHON_TOO_OLD,
	PYTHON_EXCLUDED,
	STDLIB_MISSING,
	NEED_UNKNOWN            /* a kind of need that this launcher does not know */
};

#define MAX_REASONS 32

struct reason {
	enum mismatch why;
	uint32_t need;          /* index into the archive's needs */
};

/* what selection says of one slice */
struct verdict {
	uint32_t python;        /* the host's interpreter it was judged with, or NONE */
	uint32_t libc;          /* the C library it was judged with, or NONE */
	uint32_t reason_count;  /* 0: it fits */
	struct reason reasons[32];
};

struct selection {
	uint32_t slice;         /* the first that fits, or NONE */
	uint32_t verdict_count; /* one verdict per slice, in the archive's order */
	struct verdict verdicts[256];
};

struct archive;
struct host;

/* judge every slice and choose the first that fits */
void selectslice(struct selection *, const struct archive *, const struct host *);
