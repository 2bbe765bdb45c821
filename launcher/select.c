#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "fatpar.h"
#include "archive.h"
#include "host.h"
#include "select.h"

_Static_assert(MAX_SLICES == 256 && MAX_REASONS == 32, "struct selection has room for every slice");

static enum libc_family
familyof(const char *name)
{
	if (strcmp(name, "glibc") == 0)
		return LIBC_GLIBC;
	return strcmp(name, "musl") == 0 ? LIBC_MUSL : LIBC_UNKNOWN;
}

static int
hasnode(const struct libc *c, const char *library, const char *name)
{
	uint32_t i;

	for (i = 0; i < c->node_count; i++)
		if (strcmp(c->nodes[i].name, name) == 0 && strcmp(c->nodes[i].library, library) == 0)
			return 1;
	return 0;
}

static int
lacks(const struct python *py, const char *module)
{
	uint32_t i;

	for (i = 0; i < py->lack_count; i++)
		if (strcmp(py->lacks[i], module) == 0)
			return 1;
	return 0;
}

static enum mismatch
judgelibc(const struct libc *c, const char *family, uint64_t least)
{
	if (!c || c->family != familyof(family))
		return OTHER_LIBC;
	return c->version < least ? LIBC_TOO_OLD : MET;
}

static enum mismatch
judgepython(const struct python *py, const char *abi, uint64_t least)
{
	if (!py || strcmp(py->abi, abi) != 0)
		return NO_PYTHON;
	return py->version < least ? PYTHON_TOO_OLD : MET;
}

/* one need against a host, a C library and an interpreter, each of which may be missing */
static enum mismatch
judge(const struct archive *ar, const struct need *n, const struct host *host, const struct libc *c, const struct python *py)
{
	const char *name = archivestring(ar, n->name), *value = archivestring(ar, n->value);

	switch (n->kind) {
	case NEED_MACHINE:
		return host->machine == n->number ? MET : OTHER_MACHINE;
	case NEED_CPU:
		return host->cpu >= n->number ? MET : CPU_TOO_OLD;
	case NEED_KERNEL:
		return host->kernel >= n->number ? MET : KERNEL_TOO_OLD;
	case NEED_LIBC:
		return judgelibc(c, name, n->number);
	case NEED_NODE:
		return c && hasnode(c, name, value) ? MET : NODE_MISSING;
	case NEED_LIBRARY:
		return c && libchas(c, name) ? MET : LIBRARY_MISSING;
	case NEED_PYTHON:
		return judgepython(py, name, n->number);
	case NEED_PYTHON_NOT:
		return py && (py->version ^ n->number) >> 8 == 0 ? PYTHON_EXCLUDED : MET;
	case NEED_STDLIB:
		return py && lacks(py, name) ? STDLIB_MISSING : MET;
	default:
		return NEED_UNKNOWN;
	}
}

/* whether a slice asks for a library as such, too: then that the host lacks it is said once, not for each node */
static int
needslibrary(const struct archive *ar, const struct slice *s, uint32_t name)
{
	const struct need *n;
	uint32_t i;

	for (i = 0; i < s->need_count; i++) {
		n = &ar->needs[s->first_need + i];
		if (n->kind == NEED_LIBRARY && strcmp(archivestring(ar, n->name), archivestring(ar, name)) == 0)
			return 1;
	}
	return 0;
}

/* judge a slice with one interpreter, or with none */
static void
judgewith(struct verdict *v, const struct archive *ar, const struct slice *s, const struct host *host, uint32_t python)
{
	const struct python *py = python == NONE ? NULL : &host->pythons[python];
	const struct libc *c;
	const struct need *n;
	enum mismatch why;
	uint32_t i, other = 0;

	memset(v, 0, sizeof(*v));
	v->python = python;
	/* libraries are loaded into the interpreter, so its C library counts; a carried one runs on the host's first */
	v->libc = py ? py->libc : 0;
	if (v->libc >= host->libc_count)
		v->libc = NONE;
	c = v->libc == NONE ? NULL : &host->libcs[v->libc];
	for (i = 0; i < s->need_count; i++) {
		n = &ar->needs[s->first_need + i];
		why = judge(ar, n, host, c, py);
		other |= why == OTHER_LIBC;
		/* what another family, or a library that is not there, has not of nodes would only say the same again */
		if (why == NODE_MISSING &&
		    (other || (c && !libchas(c, archivestring(ar, n->name)) && needslibrary(ar, s, n->name))))
			continue;
		if (why != MET && v->reason_count < MAX_REASONS)
			v->reasons[v->reason_count++] = (struct reason){why, s->first_need + i};
	}
}

static void
judgeslice(struct verdict *best, const struct archive *ar, const struct slice *s, const struct host *host)
{
	struct verdict v;
	uint32_t i;

	judgewith(best, ar, s, host, NONE);
	if (s->interpreter != NONE)
		return;
	for (i = 0; i < host->python_count; i++) {
		if (strcmp(host->pythons[i].abi, archivestring(ar, s->python)) != 0)
			continue;
		judgewith(&v, ar, s, host, i);
		/* the first that fits, or else the one with the least against it */
		if (best->python == NONE || v.reason_count < best->reason_count)
			*best = v;
		if (best->reason_count == 0)
			return;
	}
}

void
selectslice(struct selection *sel, const struct archive *ar, const struct host *host)
{
	uint32_t i;

	sel->slice = NONE;
	sel->verdict_count = ar->slice_count;
	for (i = 0; i < ar->slice_count; i++) {
		judgeslice(&sel->verdicts[i], ar, &ar->slices[i], host);
		if (sel->slice == NONE && sel->verdicts[i].reason_count == 0)
			sel->slice = i;
	}
}
