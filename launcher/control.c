#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "control.h"
#include "decide.h"
#include "explain.h"
#include "fault.h"
#include "host.h"
#include "object.h"
#include "printable.h"
#include "select.h"
#include "sha256.h"
#include "tables.h"
#include "unpack.h"
#include "util.h"

/*
 * Layers that are extracted at once, each with a descriptor: a blob that they share is decoded once. Where few may be
 * open, fewer: these are for the rest.
 */
enum { EXTRACTED = 128, OTHER_DESCRIPTORS = 32 };

static int
help(const char *name)
{
	printf("%s is a Python program in one file, packed by fatpar. Its arguments are all its own.\n"
	       "What is around it is told by environment variables:\n"
	       "  FATPAR=explain %s        which slice runs on this machine, and why\n"
	       "  FATPAR=list %s           what is in the file\n"
	       "  FATPAR=verify %s         check every byte of it\n"
	       "  FATPAR=time %s           run it, and say on standard error how long its start takes\n"
	       "  FATPAR=extract %s DIR    unpack it for people to look at\n"
	       "  FATPAR_STORE=DIR        unpack to this directory instead of the cache\n"
	       "Exit status: the program's own; or 125 it could not be launched, 126 it does not fit this machine,\n"
	       "127 the interpreter could not be executed.\n",
	       name, name, name, name, name, name);
	return 0;
}

static int
explain(struct archive *ar)
{
	struct selection *sel = xcalloc(1, sizeof(*sel));
	struct host host;
	char *text;
	int fits;

	decide(&host, sel, ar);
	text = explaintext(ar, &host, sel);
	fputs(text, stdout);
	fits = sel->slice != NONE;
	free(text);
	free(sel);
	hostfree(&host);
	return fits ? 0 : STATUS_UNFIT;
}

static const char *
layerkind(uint32_t kind)
{
	static const char *const names[] = {
		[LAYER_WHEEL] = "wheel", [LAYER_APP] = "app", [LAYER_INTERPRETER] = "interpreter", [LAYER_BYTECODE] = "bytecode",
	};

	return kind < COUNTOF(names) && names[kind] ? names[kind] : "other";
}

/* a line that ends in a name of the archive's */
static void
listname(const struct archive *ar, const char *before, uint32_t ref)
{
	char *name CLEANUP(freemem) = printable(archivestring(ar, ref), '\0');

	printf("%s%s\n", before, name);
}

static void
listabout(const char *line, size_t size)
{
	char *raw CLEANUP(freemem) = xasprintf("%.*s", (int)size, line);
	char *text CLEANUP(freemem) = printable(raw, '\0');

	printf("about %s\n", text);
}

/* what the manifest says of the archive as a whole: each line behind a word, so that it cannot pass for one of ours */
static void
listsummary(const struct archive *ar)
{
	const char *line, *end;
	uint32_t at, size;

	for (at = 0; at < ar->summary_size; at += size + 1) {
		line = ar->summary + at;
		end = memchr(line, '\n', ar->summary_size - at);
		size = end ? (uint32_t)(end - line) : ar->summary_size - at;
		listabout(line, size);
	}
}

static int
list(const struct archive *ar)
{
	char id[2 * DIGEST_SIZE + 1];
	const struct slice *s;
	uint32_t i, k;

	hexof(ar->trailer.id, DIGEST_SIZE, id);
	printf("archive %s, %llu bytes\n", id, (unsigned long long)ar->file_size);
	listsummary(ar);
	for (i = 0; i < ar->tool_count; i++)
		listname(ar, "tool ", ar->tools[i].name);
	for (i = 0; i < ar->slice_count; i++) {
		s = &ar->slices[i];
		listname(ar, "slice ", s->name);
		for (k = 0; k < s->layer_count; k++) {
			const struct layer *l = &ar->layers[ar->refs[s->first_layer + k]];

			printf("  %-11s %10llu", layerkind(l->kind), (unsigned long long)l->size);
			listname(ar, "  ", l->name);
		}
	}
	return 0;
}

int
controlverify(struct archive *ar, struct fault *fault)
{
	uint8_t *stored CLEANUP(freemem) = NULL;
	struct target *targets CLEANUP(freemem) = xcalloc(ar->layer_count, sizeof(*targets));
	uint8_t digest[DIGEST_SIZE];
	enum archive_status status;
	uint32_t i;

	status = archivefront(ar);
	if (status)
		return fail(fault, STATUS_LAUNCHER, "%s", archivedescribe(ar, status));
	for (i = 0; i < ar->blob_count; i++) {
		stored = xrealloc(stored, ar->blobs[i].stored_size);
		status = archiveblob(ar, i, stored);
		if (status)
			return fail(fault, STATUS_LAUNCHER, "%s", archivedescribe(ar, status));
		sha256(stored, ar->blobs[i].stored_size, digest);
		if (memcmp(digest, ar->blobs[i].digest, sizeof(digest)) != 0)
			return fail(fault, STATUS_LAUNCHER, "archive is damaged: blob %u has the wrong digest", (unsigned)i);
	}
	for (i = 0; i < ar->layer_count; i++)
		targets[i] = (struct target){.layer = i, .dir = -1};
	return unpack(ar, targets, ar->layer_count, fault);
}

/* the directory that a layer is extracted to: a descriptor, or -1 with the fault */
static int
layerdirectory(const struct archive *ar, uint32_t layer, int dir, struct fault *fault)
{
	const char *name = archivestring(ar, ar->layers[layer].name);
	int fd;

	if (!pathissafe(name) || strchr(name, '/'))
		return fail(fault, STATUS_LAUNCHER, "archive is damaged: layer %u has no proper name", (unsigned)layer);
	if (mkdirat(dir, name, 0755) < 0)
		return fail(fault, STATUS_LAUNCHER, "make directory %s:", name);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? fail(fault, STATUS_LAUNCHER, "open directory %s:", name) : fd;
}

/* some layers, from the first one on */
static int
extractlayers(struct archive *ar, uint32_t first, uint32_t count, int dir, struct fault *fault)
{
	struct target targets[EXTRACTED];
	int failed = 0;
	uint32_t i;

	for (i = 0; i < count && !failed; i++) {
		targets[i] = (struct target){.layer = first + i, .dir = layerdirectory(ar, first + i, dir, fault)};
		failed = targets[i].dir < 0;
	}
	if (failed || unpack(ar, targets, count, fault) < 0)
		failed = -1;
	while (i-- > 0)
		closefd(&targets[i].dir);
	return failed;
}

static int
extractmanifest(const struct archive *ar, int dir, struct fault *fault)
{
	int fd CLEANUP(closefd) = openat(dir, "manifest.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0 || writeall(fd, ar->manifest, ar->manifest_size) < 0)
		return fail(fault, STATUS_LAUNCHER, "write manifest.json:");
	return 0;
}

static int
extractinto(struct archive *ar, int dir, struct fault *fault)
{
	long most = sysconf(_SC_OPEN_MAX);
	uint32_t size = EXTRACTED, i, n;

	if (most >= 0 && most < EXTRACTED + OTHER_DESCRIPTORS)
		size = most <= OTHER_DESCRIPTORS ? 1 : (uint32_t)(most - OTHER_DESCRIPTORS);
	for (i = 0; i < ar->layer_count; i += n) {
		n = ar->layer_count - i < size ? ar->layer_count - i : size;
		if (extractlayers(ar, i, n, dir, fault) < 0)
			return -1;
	}
	return extractmanifest(ar, dir, fault);
}

int
controlextract(struct archive *ar, const char *dir, struct fault *fault)
{
	size_t length = strlen(dir);
	char *temporary CLEANUP(freemem) = NULL;
	int fd CLEANUP(closefd) = -1;
	struct stat st;

	while (length > 1 && dir[length - 1] == '/')
		length--;
	temporary = xasprintf("%.*s.tmp-%ld", (int)length, dir, (long)getpid());
	if (lstat(dir, &st) == 0)
		return fail(fault, STATUS_LAUNCHER, "extract to %s: it exists already", dir);
	if (mkdir(temporary, 0755) < 0)
		return fail(fault, STATUS_LAUNCHER, "make directory %s:", temporary);
	fd = open(temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		rmdir(temporary);
		return fail(fault, STATUS_LAUNCHER, "open directory %s:", temporary);
	}
	if (extractinto(ar, fd, fault) < 0 || (rename(temporary, dir) < 0 && fail(fault, STATUS_LAUNCHER, "rename to %s:", dir))) {
		removetree(AT_FDCWD, temporary);
		return -1;
	}
	return 0;
}

int
control(const char *word, const char *name, struct archive *ar, int argc, char *argv[], struct fault *fault)
{
	enum archive_status status;

	if (strcmp(word, "help") == 0)
		return help(name);
	status = archiveindex(ar);
	if (status)
		return fail(fault, STATUS_LAUNCHER, "%s", archivedescribe(ar, status));
	if (strcmp(word, "explain") == 0)
		return explain(ar);
	if (strcmp(word, "list") == 0)
		return list(ar);
	if (strcmp(word, "verify") == 0) {
		if (controlverify(ar, fault) < 0)
			return -1;
		printf("%u blobs and %u layers are as they were packed\n", (unsigned)ar->blob_count, (unsigned)ar->layer_count);
		return 0;
	}
	if (strcmp(word, "extract") == 0) {
		if (argc != 2)
			return fail(fault, STATUS_LAUNCHER, "FATPAR=extract takes one argument, the directory to extract to");
		return controlextract(ar, argv[1], fault);
	}
	return fail(fault, STATUS_LAUNCHER, "FATPAR=%s is not known: explain, list, verify, extract, time and help are", word);
}
