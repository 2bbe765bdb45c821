#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <elf.h>
#include "fatpar.h"
#include "archive.h"
#include "control.h"
#include "fault.h"
#include "fuzz.h"
#include "host.h"
#include "object.h"
#include "select.h"
#include "sha256.h"
#include "store.h"
#include "tree.h"
#include "unpack.h"
#include "util.h"
#include "view.h"
#include "layers.h"

#define BOOT "00000000-boot"

/* where everything is unpacked: a store and what is extracted, and nothing may appear beside it */
static char *inside;
static int in = -1;

/* the host's interpreter and its standard library, which is a file alone */
static char *python, *stdlib;

static void
prepare(void)
{
	char *module;
	int fd;

	inside = xasprintf("%s/in", fuzzdirectory());
	python = xasprintf("%s/host/python", fuzzdirectory());
	stdlib = xasprintf("%s/host", fuzzdirectory());
	in = mkdir(inside, 0755) == 0 ? open(inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	fd = mkdir(stdlib, 0755) == 0 ? open(python, O_WRONLY | O_CREAT | O_CLOEXEC, 0755) : -1;
	PROMISE(in >= 0 && fd >= 0, "no directory %s or %s", inside, stdlib);
	close(fd);
	module = xasprintf("%s/os.py", stdlib);
	PROMISE(link(python, module) == 0, "no file %s", module);
	free(module);
}

/* how many names a directory has */
static size_t
count(const char *path)
{
	DIR *dir = opendir(path);
	size_t n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n - 2;
}

/* whether a layer has links of a name that a tree on disk is read without */
static int
hasbytecodelinks(const struct archive *ar, const struct layer *l)
{
	uint32_t i;

	for (i = l->first_entry; i < l->first_entry + l->entry_count; i++)
		if (ar->entries[i].kind == ENTRY_LINK && strstr(archivestring(ar, ar->entries[i].path), "__pycache__"))
			return 1;
	return 0;
}

/* what lies below a directory is the layer: read by the code that looks at stores, which shares nothing with unpacking */
static void
checktree(const struct archive *ar, uint32_t layer, int dir, const char *path)
{
	int fd CLEANUP(closefd) = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const struct layer *l = &ar->layers[layer];
	uint8_t digest[DIGEST_SIZE];
	struct fault fault;

	PROMISE(fd >= 0, "layer %u is not at %s", (unsigned)layer, path);
	if (hasbytecodelinks(ar, l))
		return;
	PROMISE(treeread(fd, digest, &fault) == 0, "%s", fault.what);
	PROMISE(memcmp(digest, l->digest, sizeof(digest)) == 0, "layer %u is another tree on disk", (unsigned)layer);
}

/* every layer without writing it, as FATPAR=verify does: whether they are as their digests say */
static int
unpacknowhere(struct archive *ar)
{
	struct target *targets CLEANUP(freemem) = xcalloc(ar->layer_count, sizeof(*targets));
	struct fault fault;
	uint32_t i;
	int sound;

	for (i = 0; i < ar->layer_count; i++)
		targets[i] = (struct target){.layer = i, .dir = -1};
	sound = unpack(ar, targets, ar->layer_count, &fault) == 0;
	PROMISE(controlverify(ar, &fault) < 0 || sound, "verify finds nothing where a layer is damaged");
	return sound;
}

static void
extract(struct archive *ar, int sound)
{
	char *there CLEANUP(freemem) = xasprintf("%s/there", inside);
	struct fault fault;
	uint32_t i;

	if (controlextract(ar, there, &fault) < 0) {
		PROMISE(count(inside) == 0, "what was not extracted is there: %s", fault.what);
		return;
	}
	PROMISE(sound, "a layer is extracted that is not sound");
	for (i = 0; i < ar->layer_count; i++) {
		char *path CLEANUP(freemem) = xasprintf("there/%s", archivestring(ar, ar->layers[i].name));

		checktree(ar, i, in, path);
	}
	removetree(in, "there");
}

static void
openstore(struct stores *stores)
{
	static const char *const parts[] = {"store", "store/v1", "store/v1/layers", "store/v1/views", "store/v1/plans"};
	struct store *s = &stores->list[0];
	size_t i;

	for (i = 0; i < COUNTOF(parts); i++)
		PROMISE(mkdirat(in, parts[i], 0755) == 0, "no directory %s: %s", parts[i], strerror(errno));
	*stores = (struct stores){.count = 1};
	s->base = xasprintf("%s/store", inside);
	s->fd = openat(in, "store/v1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->layers = openat(s->fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->views = openat(s->fd, "views", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->plans = openat(s->fd, "plans", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->writable = 1;
}

static void
closestore(struct stores *stores)
{
	struct store *s = &stores->list[0];

	close(s->fd);
	close(s->layers);
	close(s->views);
	close(s->plans);
	free(s->base);
	removetree(in, "store");
}

/* the slice's view, for an interpreter that is a small file */
static void
makeview(struct work *w, uint32_t slice)
{
	static struct selection sel;
	struct host *h = &w->host;
	struct verdict *v = &sel.verdicts[slice];
	struct store *s = &w->stores->list[0];
	struct fault fault;

	hostset(h, EM_X86_64, "6.1.0", 3);
	hostaddlibc(h, LIBC_GLIBC, 2 << 16 | 36 << 8, "/lib/libc.so.6");
	v->python = w->slice->interpreter == NONE ?
	                hostaddpython(h, python, archivestring(w->ar, w->slice->python), 0x030902f0, 0, stdlib) : NONE;
	sel.slice = slice;
	w->sel = &sel;
	w->verdict = v;
	if (viewname(w->ar, slice, h, v, w->view, &fault) == 0 &&
	    viewmake(w->ar, slice, h, v, &w->places, s, w->view, BOOT, &fault) == 0) {
		/* one with a copy of the host's interpreter is never taken for whole */
		PROMISE(viewholds(w->ar, slice, h, v, &w->places, s, w->view) == (w->slice->shape != VIEW_PREFIX), "the view of slice %u is another on disk", (unsigned)slice);
		viewleads(w->ar, slice, w->stores, s, w->view);
	}
	hostfree(h);
}

/* what a launch does with a slice: layers, with their bytecode, and the view */
static void
unpackslice(struct archive *ar, struct stores *stores, uint32_t slice)
{
	struct work w = {.ar = ar, .stores = stores, .boot = BOOT, .slice = &ar->slices[slice]};
	struct fault fault;
	uint32_t i;
	int readable = 1;

	w.places.layers = xcalloc(ar->layer_count, sizeof(*w.places.layers));
	findlayers(&w, 0);
	if (addlayers(&w, &stores->list[0], &fault) == 0) {
		PROMISE(findlayers(&w, 0) == 0, "a layer that was unpacked is missing");
		makeview(&w, slice);
		/* in another boot each is read, and must be what its name says */
		for (i = 0; i < ar->layer_count; i++)
			readable &= !hasbytecodelinks(ar, &ar->layers[i]);
		w.boot = "11111111-boot";
		PROMISE(findlayers(&w, 0) == 0 || !readable, "a layer of slice %u is another tree on disk", (unsigned)slice);
	}
	free(w.places.layers);
}

void
fuzzunpack(const uint8_t *data, size_t size)
{
	enum { SLICES = 4 };
	struct archive ar;
	struct stores stores;
	uint32_t i;

	if (in < 0)
		prepare();
	if (archiveopen(&ar, fuzzfile(data, size)) == ARCHIVE_OK && archiveindex(&ar) == ARCHIVE_OK && issmall(&ar)) {
		extract(&ar, unpacknowhere(&ar));
		openstore(&stores);
		for (i = 0; i < ar.slice_count && i < SLICES; i++)
			unpackslice(&ar, &stores, i);
		closestore(&stores);
		PROMISE(count(fuzzdirectory()) == 2 && count(stdlib) == 2 && count(inside) == 0, "something was written beside the place it belongs to");
	}
	archiveclose(&ar);
}
