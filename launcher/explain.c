#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <elf.h>
#include "fatpar.h"
#include "archive.h"
#include "host.h"
#include "select.h"
#include "explain.h"
#include "printable.h"
#include "util.h"

struct text {
	char *s;
	size_t size;
};

static void add(struct text *, const char *, ...) PRINTFLIKE(2, 3);

static void
add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	t->s = xrealloc(t->s, t->size + (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(t->s + t->size, (size_t)n + 1, fmt, ap);
	va_end(ap);
	t->size += (size_t)n;
}

/* a name of the archive's */
static void
addname(struct text *t, const struct archive *ar, uint32_t ref)
{
	char *name CLEANUP(freemem) = printable(archivestring(ar, ref), '\0');

	add(t, "%s", name);
}

static const char *
machinename(uint64_t machine)
{
	switch (machine) {
	case EM_X86_64:
		return "x86_64";
	case EM_AARCH64:
		return "aarch64";
	default:
		return "another machine";
	}
}

/* "x86-64-v3", "ARMv8.1" */
static void
addcpu(struct text *t, uint64_t level)
{
	if (level >= 80)
		add(t, "ARMv8.%u", (unsigned)(level - 80));
	else
		add(t, "x86-64-v%u", (unsigned)level);
}

static void
addversion(struct text *t, uint64_t v)
{
	add(t, "%u.%u", (unsigned)(v >> 16), (unsigned)(v >> 8 & 255));
	if (v & 255)
		add(t, ".%u", (unsigned)(v & 255));
}

/* PY_VERSION_HEX as 3.9.2, or 3.9 where no more is known */
static void
addpython(struct text *t, uint64_t v)
{
	add(t, "%u.%u", (unsigned)(v >> 24), (unsigned)(v >> 16 & 255));
	if (v & 0xffff)
		add(t, ".%u", (unsigned)(v >> 8 & 255));
}

static void
addlibc(struct text *t, const struct host *host, uint32_t index)
{
	const struct libc *c;

	if (index == NONE || index >= host->libc_count) {
		add(t, "no C library");
		return;
	}
	c = &host->libcs[index];
	add(t, "%s", c->family == LIBC_GLIBC ? "glibc" : "musl");
	if (c->version) {
		add(t, " ");
		addversion(t, c->version);
	}
}

static void
addpythons(struct text *t, const struct host *host)
{
	uint32_t i;

	if (!host->python_count)
		add(t, "no Python at all");
	for (i = 0; i < host->python_count; i++)
		add(t, "%s%s (%s)", i ? ", " : "", host->pythons[i].abi, host->pythons[i].path);
}

static void
addreason(struct text *t, const struct archive *ar, const struct host *host, const struct verdict *v, uint32_t index)
{
	const struct reason *r = &v->reasons[index];
	const struct need *n = &ar->needs[r->need];
	char *name CLEANUP(freemem) = printable(archivestring(ar, n->name), '\0');
	char *value CLEANUP(freemem) = printable(archivestring(ar, n->value), '\0');
	const struct python *py = v->python == NONE ? NULL : &host->pythons[v->python];

	switch (r->why) {
	case MET:
		break;
	case OTHER_MACHINE:
		add(t, "needs machine %s, found %s", name, machinename(host->machine));
		break;
	case CPU_TOO_OLD:
		add(t, "needs CPU level ");
		addcpu(t, n->number);
		add(t, ", found ");
		addcpu(t, host->cpu);
		break;
	case KERNEL_TOO_OLD:
		add(t, "needs Linux ");
		addversion(t, n->number);
		add(t, ", found %s", host->release);
		break;
	case OTHER_LIBC:
	case LIBC_TOO_OLD:
		add(t, "needs %s", name);
		if (n->number) {
			add(t, " ");
			addversion(t, n->number);
		}
		add(t, ", found ");
		addlibc(t, host, v->libc);
		break;
	case NODE_MISSING:
		add(t, "needs %s in %s, found ", value, name);
		addlibc(t, host, v->libc);
		break;
	case LIBRARY_MISSING:
		add(t, "needs library %s, found none", name);
		break;
	case NO_PYTHON:
		add(t, "needs CPython %s, found ", name);
		addpythons(t, host);
		break;
	case PYTHON_TOO_OLD:
	case PYTHON_EXCLUDED:
		add(t, r->why == PYTHON_TOO_OLD ? "needs Python " : "needs another Python than ");
		addpython(t, n->number);
		add(t, ", found ");
		addpython(t, py ? py->version : 0);
		add(t, " (%s)", py ? py->path : "");
		break;
	case STDLIB_MISSING:
		add(t, "needs standard library module %s, not found in %s", name, py ? py->stdlib : "");
		break;
	case NEED_UNKNOWN:
		add(t, "needs something this launcher does not know (%u)", (unsigned)n->kind);
		break;
	}
}

char *
reasontext(const struct archive *ar, const struct host *host, const struct verdict *v, uint32_t index)
{
	struct text t = {0};

	addreason(&t, ar, host, v, index);
	return t.s;
}

static void
addhost(struct text *t, const struct host *host)
{
	uint32_t i;

	add(t, "host\n  machine  %s, ", machinename(host->machine));
	addcpu(t, host->cpu);
	add(t, "\n  kernel   %s\n", host->release);
	if (!host->libc_count)
		add(t, "  libc     none found\n");
	for (i = 0; i < host->libc_count; i++) {
		add(t, "  libc     ");
		addlibc(t, host, i);
		add(t, " (%s)\n", host->libcs[i].path);
	}
	if (!host->python_count)
		add(t, "  python   none found\n");
	for (i = 0; i < host->python_count; i++) {
		add(t, "  python   %s ", host->pythons[i].abi);
		addpython(t, host->pythons[i].version);
		add(t, " (%s)\n", host->pythons[i].path);
	}
	if (host->path_consulted)
		add(t, "  PATH was searched, since no slice fits the system's interpreters\n");
}

/* how far a host is from a slice: another machine or C library is never to be had, an interpreter seldom */
static uint32_t
distance(const struct verdict *v)
{
	uint32_t n = v->reason_count, i;

	for (i = 0; i < v->reason_count; i++)
		if (v->reasons[i].why == OTHER_MACHINE || v->reasons[i].why == OTHER_LIBC)
			n += 2 * MAX_REASONS;
		else if (v->reasons[i].why == NO_PYTHON)
			n += MAX_REASONS;
	return n;
}

char *
refusaltext(const struct archive *ar, const struct host *host, const struct selection *sel)
{
	struct text t = {0};
	const struct verdict *best = &sel->verdicts[0];
	uint32_t i;

	/* the nearest slice says the most; with one slice it is the whole story */
	for (i = 1; i < sel->verdict_count; i++)
		if (distance(&sel->verdicts[i]) < distance(best))
			best = &sel->verdicts[i];
	add(&t, "this machine cannot run it: ");
	addreason(&t, ar, host, best, 0);
	add(&t, " (");
	addname(&t, ar, ar->slices[best - sel->verdicts].name);
	add(&t, " of %u)\nfound %s, ", (unsigned)sel->verdict_count, machinename(host->machine));
	addcpu(&t, host->cpu);
	add(&t, ", Linux %s, ", host->release);
	addlibc(&t, host, host->libc_count ? 0 : NONE);
	add(&t, ", ");
	addpythons(&t, host);
	return t.s;
}

static void
addslice(struct text *t, const struct archive *ar, const struct host *host, const struct selection *sel, uint32_t i)
{
	const struct verdict *v = &sel->verdicts[i];
	uint32_t k;

	add(t, "  ");
	addname(t, ar, ar->slices[i].name);
	add(t, ": ");
	if (!v->reason_count) {
		add(t, "fits");
		if (v->python != NONE)
			add(t, " %s", host->pythons[v->python].path);
		add(t, "%s\n", sel->slice == i ? " (chosen)" : "");
		return;
	}
	for (k = 0; k < v->reason_count; k++) {
		add(t, k ? "; " : "");
		addreason(t, ar, host, v, k);
	}
	add(t, "\n");
}

char *
explaintext(const struct archive *ar, const struct host *host, const struct selection *sel)
{
	struct text t = {0};
	uint32_t i;

	addhost(&t, host);
	add(&t, "slices, most preferred first\n");
	for (i = 0; i < sel->verdict_count; i++)
		addslice(&t, ar, host, sel, i);
	add(&t, "choice\n  ");
	if (sel->slice == NONE)
		add(&t, "none: this machine cannot run it");
	else
		addname(&t, ar, ar->slices[sel->slice].name);
	add(&t, "\n");
	return t.s;
}
