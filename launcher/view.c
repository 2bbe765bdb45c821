#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fatpar.h"
#include "about.h"
#include "archive.h"
#include "elffile.h"
#include "fault.h"
#include "host.h"
#include "identity.h"
#include "object.h"
#include "select.h"
#include "sha256.h"
#include "store.h"
#include "tables.h"
#include "util.h"
#include "view.h"

/* everything a view depends on, so that each function below takes one argument instead of five */
struct context {
	const struct archive *ar;
	const struct slice *slice;
	const struct python *python;    /* the host's, or NULL: the slice carries its own */
	const struct places *places;
	const struct store *store;
};

static struct context
contextof(const struct archive *ar, uint32_t slice, const struct host *host, const struct verdict *v,
          const struct places *places, const struct store *store)
{
	return (struct context){
		.ar = ar, .slice = &ar->slices[slice], .python = v->python == NONE ? NULL : &host->pythons[v->python],
		.places = places, .store = store,
	};
}

int
viewname(const struct archive *ar, uint32_t slice, const struct host *host, const struct verdict *v, char name[33], struct fault *fault)
{
	const char *python = v->python == NONE ? "" : host->pythons[v->python].real;
	uint32_t version = v->python == NONE ? 0 : host->pythons[v->python].version, store_version = STORE_VERSION;
	struct sha256 sum;
	struct stat st;
	uint64_t identity[3];
	uint8_t digest[32];

	sha256start(&sum);
	sha256add(&sum, &store_version, sizeof(store_version));
	sha256add(&sum, ar->trailer.id, sizeof(ar->trailer.id));
	sha256add(&sum, &slice, sizeof(slice));
	sha256add(&sum, python, strlen(python) + 1);
	sha256add(&sum, &version, sizeof(version));
	/* a copied interpreter is another one after every change of the original */
	if (ar->slices[slice].shape == VIEW_PREFIX) {
		/* a name without it would be that of a view for every later interpreter of this path, too */
		if (stat(python, &st) < 0)
			return fail(fault, STATUS_LAUNCHER, "look at the interpreter %s:", python);
		identity[0] = (uint64_t)st.st_size;
		identity[1] = (uint64_t)st.st_mtim.tv_sec;
		identity[2] = st.st_ino;
		sha256add(&sum, identity, sizeof(identity));
	}
	sha256end(&sum, digest);
	hexof(digest, 16, name);
	return 0;
}

/* the text of the link at a path of the view's tree or pyc to a path of the same part of a layer; the caller frees it */
static char *
linktext(const struct context *c, const char *path, uint32_t layer, const char *part, const char *target)
{
	const struct store *place = c->places->layers[layer];
	char id[2 * DIGEST_SIZE + 1], up[3 * MAX_PATH / 2 + 4] = "", *end = up;
	const char *slash = *target ? "/" : "";

	hexof(c->ar->layers[layer].digest, DIGEST_SIZE, id);
	if (place != c->store)
		return xasprintf("%s/v1/layers/%s/%s%s%s", place->base, id, part, slash, target);
	for (; *path; path++)
		if (*path == '/') {
			memcpy(end, "../", 4);
			end += 3;
		}
	/* the part, the view, views */
	return xasprintf("%s../../../layers/%s/%s%s%s", up, id, part, slash, target);
}

static int
makelink(struct object *o, const char *text, const char *path, struct fault *fault)
{
	return symlinkat(text, o->tree, path) == 0 ? 0 : fail(fault, STATUS_LAUNCHER, "make link %s in store:", path);
}

static int
ismodule(const char *path)
{
	size_t n = strlen(path);

	return n > 3 && strcmp(path + n - 3, ".py") == 0;
}

/* whether a layer has an entry of this path; they are in order */
static int
hasfile(const struct archive *ar, const struct layer *l, const char *path)
{
	uint32_t low = 0, high = l->entry_count, middle;
	int order;

	while (low < high) {
		middle = low + (high - low) / 2;
		order = strcmp(archivestring(ar, ar->entries[l->first_entry + middle].path), path);
		if (order == 0)
			return 1;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return 0;
}

/* lead from a view's pyc to the bytecode that lies beside a layer, for the module at a link, if it is there */
static void
linkmodule(const struct context *c, int object, const struct link *k, const struct layer *l)
{
	const char *path = archivestring(c->ar, k->path), *target = archivestring(c->ar, k->target);
	const char *tag = archivestring(c->ar, l->tag);
	char *at CLEANUP(freemem) = xasprintf("pyc/%.*s.%s.pyc", (int)strlen(path) - 3, path, tag);
	char *from CLEANUP(freemem) = NULL;
	char *there CLEANUP(freemem) = NULL;
	char *text CLEANUP(freemem) = NULL;
	char id[2 * DIGEST_SIZE + 1];

	if (!ismodule(target) || strchr(tag, '/'))
		return;
	from = xasprintf("%.*s.%s.pyc", (int)strlen(target) - 3, target, tag);
	hexof(c->ar->layers[k->layer].digest, DIGEST_SIZE, id);
	there = xasprintf("%s/pyc/%s", id, from);
	if (!hasfile(c->ar, l, from) || faccessat(c->places->layers[k->layer]->layers, there, R_OK, 0) < 0)
		return;
	text = linktext(c, path, k->layer, "pyc", from);
	/* what cannot be led to is compiled */
	if (symlinkat(text, object, at) < 0)
		return;
}

/*
 * Modules that stand in the view's own directories have their bytecode in the view: of what an archive brought, links
 * to where it lies beside the layer. An interpreter that it does not suit replaces the link.
 */
static void
linkbytecode(const struct context *c, int object)
{
	uint32_t *bytecode CLEANUP(freemem) = xcalloc(c->ar->layer_count, sizeof(*bytecode));
	const struct link *k;
	const struct layer *l;
	uint32_t i, layer;

	/* of each layer, plus one */
	for (i = 0; i < c->slice->layer_count; i++) {
		layer = c->ar->refs[c->slice->first_layer + i];
		l = &c->ar->layers[layer];
		if (l->kind == LAYER_BYTECODE)
			bytecode[l->of] = layer + 1;
	}
	for (i = 0; i < c->slice->link_count && c->slice->shape != VIEW_PREFIX; i++) {
		k = &c->ar->links[c->slice->first_link + i];
		if (bytecode[k->layer] && ismodule(archivestring(c->ar, k->path)))
			linkmodule(c, object, k, &c->ar->layers[bytecode[k->layer] - 1]);
	}
}

void
viewbytecode(const struct archive *ar, uint32_t slice, const struct places *places, struct store *store, const char *name)
{
	struct context c = {.ar = ar, .slice = &ar->slices[slice], .places = places, .store = store};
	int object CLEANUP(closefd) = openat(store->views, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (object >= 0)
		linkbytecode(&c, object);
}

static int
makelayerlinks(const struct context *c, struct object *o, struct fault *fault)
{
	const char *before = "", *path, *slash;
	const struct link *k;
	uint32_t i;

	for (i = 0; i < c->slice->link_count; i++, before = path) {
		char *text CLEANUP(freemem) = NULL;
		char *dir CLEANUP(freemem) = NULL;

		k = &c->ar->links[c->slice->first_link + i];
		path = archivestring(c->ar, k->path);
		text = linktext(c, path, k->layer, "tree", archivestring(c->ar, k->target));
		if (makeparents(o->tree, path, before, fault) < 0 || makelink(o, text, path, fault) < 0)
			return -1;
		/* modules that stand in the view's own directories keep their bytecode in the view (2.7: beside them) */
		if (c->slice->shape == VIEW_PREFIX || !ismodule(path))
			continue;
		slash = strrchr(path, '/');
		dir = xasprintf("%.*s", slash ? (int)(slash - path) : 0, path);
		if (objectbytecode(o, dir, fault) < 0)
			return -1;
	}
	linkbytecode(c, o->fd);
	return 0;
}

/* PY_VERSION_HEX as text: 3.11.2, or 3.9 where the micro version is not known */
static char *
versiontext(uint32_t v)
{
	if (v & 0xffff)
		return xasprintf("%u.%u.%u", v >> 24, v >> 16 & 255, v >> 8 & 255);
	return xasprintf("%u.%u", v >> 24, v >> 16 & 255);
}

/* where the files of a layer lie; the caller frees it */
static char *
layerpath(const struct context *c, uint32_t layer)
{
	char id[2 * DIGEST_SIZE + 1];

	hexof(c->ar->layers[layer].digest, DIGEST_SIZE, id);
	return xasprintf("%s/v1/layers/%s/tree", c->places->layers[layer]->base, id);
}

/* the interpreter behind bin/python: the host's, or the one in a layer; the caller frees it */
static char *
interpreterpath(const struct context *c)
{
	char *root CLEANUP(freemem) = NULL;

	if (c->python)
		return xstrdup(c->python->real);
	root = layerpath(c, c->slice->interpreter);
	return xasprintf("%s/%s", root, archivestring(c->ar, c->slice->executable));
}

/* what bin/python is a link to; the caller frees it */
static char *
interpretertext(const struct context *c)
{
	if (c->python)
		return xstrdup(c->python->real);
	return linktext(c, "bin/python", c->slice->interpreter, "tree", archivestring(c->ar, c->slice->executable));
}

/* pyvenv.cfg, as the venv module writes it */
static char *
configtext(const struct context *c)
{
	char *dir CLEANUP(freemem) = interpreterpath(c);
	/* "python3.9" says as much as is known of a carried one */
	char *version CLEANUP(freemem) = c->python ? versiontext(c->python->version) :
	                                             xstrdup(archivestring(c->ar, c->slice->python_dir) + strlen("python"));

	return xasprintf("home = %s\ninclude-system-site-packages = false\nversion = %s\n", dirname(dir), version);
}

static int
makefile(int dir, const char *path, const char *text, struct fault *fault)
{
	int fd CLEANUP(closefd) = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);

	if (fd >= 0 && writeall(fd, text, strlen(text)) == 0)
		return 0;
	return fail(fault, STATUS_LAUNCHER, "write %s to store:", path);
}

/* the names of the interpreter that a venv has, other than bin/python */
static int
makealiases(const struct context *c, struct object *o, struct fault *fault)
{
	char *versioned CLEANUP(freemem) = xasprintf("bin/%s", archivestring(c->ar, c->slice->python_dir));
	char major[] = "bin/python3";

	major[sizeof(major) - 2] = c->slice->shape == VIEW_PREFIX ? '2' : '3';
	if (makelink(o, "python", versioned, fault) < 0)
		return -1;
	return makelink(o, "python", major, fault);
}

/* copy a file; the descriptor of the copy, which nobody can open for writing again, or -1 */
static int
copyfile(const char *from, int dir, const char *path, struct fault *fault)
{
	int in CLEANUP(closefd) = open(from, O_RDONLY | O_CLOEXEC);
	int out = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0555);
	ssize_t n = -1;

	if (in >= 0 && out >= 0)
		while ((n = sendfile(out, in, NULL, 1 << 20)) > 0)
			;
	if (n < 0) {
		fail(fault, STATUS_LAUNCHER, "copy %s to store:", from);
		closefd(&out);
	}
	return out;
}

/* the path of a program's loader in its layer */
static const char *
loaderof(const struct elf *e)
{
	return e->interp + strspn(e->interp, "/");
}

/*
 * The kernel takes the path of a program's loader from the program's file, and it is absolute there. In a layer that
 * brings its C library it counts from the layer's root, with room behind it for where that lies in the store.
 */
static int
setloader(const char *from, const char *root, int out, struct fault *fault)
{
	char *loader CLEANUP(freemem) = NULL;
	char *text CLEANUP(freemem) = NULL;
	struct elf e;
	int failed = 0;

	if (elfopen(&e, from) != ELF_OK || !pathissafe(loaderof(&e))) {
		failed = fail(fault, STATUS_LAUNCHER, "archive is damaged: %s has no loader", from);
	} else {
		loader = xasprintf("%s/%s", root, loaderof(&e));
		text = xcalloc(e.interp_size, 1);
		if (strlen(loader) >= e.interp_size)
			failed = fail(fault, STATUS_LAUNCHER, "the path of the store is too long for a loader: %s", root);
		else if (pwrite(out, strcpy(text, loader), e.interp_size, e.interp - (const char *)e.data) !=
		         (ssize_t)e.interp_size)
			failed = fail(fault, STATUS_LAUNCHER, "write bin/python to store:");
	}
	elfclose(&e);
	return failed;
}

/* the interpreter as a file of the view, told where its loader is */
static int
copywithloader(const struct context *c, struct object *o, struct fault *fault)
{
	char *from CLEANUP(freemem) = interpreterpath(c);
	char *root CLEANUP(freemem) = layerpath(c, c->slice->interpreter);
	int out CLEANUP(closefd) = copyfile(from, o->tree, "bin/python", fault);

	return out < 0 ? -1 : setloader(from, root, out, fault);
}

static int
makevenv(const struct context *c, struct object *o, struct fault *fault)
{
	char *config CLEANUP(freemem) = configtext(c);
	char *python CLEANUP(freemem) = interpretertext(c);

	if (makefile(o->tree, "pyvenv.cfg", config, fault) < 0 || makelink(o, "lib", "lib64", fault) < 0)
		return -1;
	if (c->slice->shape == VIEW_LIBC)
		return copywithloader(c, o, fault);
	return makelink(o, python, "bin/python", fault);
}

/*
 * Python 2.7 knows no pyvenv.cfg and takes its prefix from where its executable lies, links resolved: the view gets a
 * copy of the executable and a link to each part of the standard library, as virtualenv did it.
 */
static int
makeprefix(const struct context *c, struct object *o, struct fault *fault)
{
	const char *name = archivestring(c->ar, c->slice->python_dir);
	char *lib CLEANUP(freemem) = xasprintf("lib/%s", name);
	struct dirent **names = NULL;
	int n, i, failed, copy CLEANUP(closefd) = copyfile(c->python->real, o->tree, "bin/python", fault);

	failed = copy < 0 ? -1 : 0;
	n = scandir(c->python->stdlib, &names, NULL, alphasort);
	if (n < 0)
		return fail(fault, STATUS_LAUNCHER, "read %s:", c->python->stdlib);
	for (i = 0; i < n; i++) {
		const char *part = names[i]->d_name;
		char *path CLEANUP(freemem) = xasprintf("%s/%s", lib, part);
		char *target CLEANUP(freemem) = xasprintf("%s/%s", c->python->stdlib, part);

		if (!failed && part[0] != '.' && strcmp(part, "site-packages") != 0 && strcmp(part, "dist-packages") != 0)
			failed = makelink(o, target, path, fault);
		free(names[i]);
	}
	free(names);
	if (!failed) {
		/* Debian's site.py looks here */
		char *path CLEANUP(freemem) = xasprintf("%s/dist-packages", lib);

		failed = makelink(o, "site-packages", path, fault);
	}
	return failed;
}

static int
makeinterpreter(const struct context *c, struct object *o, struct fault *fault)
{
	char *site CLEANUP(freemem) = xasprintf("lib/%s/site-packages/", archivestring(c->ar, c->slice->python_dir));
	char *python CLEANUP(freemem) = interpreterpath(c);

	if (makeparents(o->tree, "bin/", "", fault) < 0 || makeparents(o->tree, site, "", fault) < 0)
		return -1;
	if ((c->slice->shape == VIEW_PREFIX ? makeprefix : makevenv)(c, o, fault) < 0)
		return -1;
	return makealiases(c, o, fault) < 0 ? -1 : identitymake(o, python, fault);
}

int
viewmake(const struct archive *ar, uint32_t slice, const struct host *host, const struct verdict *v,
         const struct places *places, struct store *store, const char *name, const char *boot, struct fault *fault)
{
	struct context c = contextof(ar, slice, host, v, places, store);
	struct object o;

	if (objectstart(&o, store->views, fault) < 0 || makelayerlinks(&c, &o, fault) < 0 ||
	    makeinterpreter(&c, &o, fault) < 0 || aboutmake(&o, ar, slice, fault) < 0 ||
	    objectpublish(&o, name, boot, c.slice->shape == VIEW_PREFIX, fault) < 0) {
		objectdiscard(&o);
		return -1;
	}
	return 0;
}

static int
isthere(const struct store *store, const char *name, const char *path, int mode)
{
	char *full CLEANUP(freemem) = xasprintf("%s/tree/%s", name, path);

	return faccessat(store->views, full, mode, AT_EACCESS) == 0;
}

static int
linkis(const struct store *store, const char *name, const char *path, const char *wanted)
{
	char *full CLEANUP(freemem) = xasprintf("%s/tree/%s", name, path);
	char text[4 * MAX_PATH];
	ssize_t n = readlinkat(store->views, full, text, sizeof(text) - 1);

	if (n < 0)
		return 0;
	text[n] = '\0';
	return strcmp(text, wanted) == 0;
}

static int
configis(const struct store *store, const char *name, const char *wanted)
{
	char *full CLEANUP(freemem) = xasprintf("%s/tree/pyvenv.cfg", name);
	int fd CLEANUP(closefd) = openat(store->views, full, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	size_t size = strlen(wanted);
	char *text CLEANUP(freemem) = xmalloc(size + 1);

	return fd >= 0 && read(fd, text, size + 1) == (ssize_t)size && memcmp(text, wanted, size) == 0;
}

/* whether a view's copy of the interpreter is the one in the layer, and its loader the one there */
static int
copyis(const struct context *c, const struct store *store, const char *name)
{
	char *from CLEANUP(freemem) = interpreterpath(c);
	char *root CLEANUP(freemem) = layerpath(c, c->slice->interpreter);
	char *copy CLEANUP(freemem) = xasprintf("%s/v1/views/%s/tree/bin/python", store->base, name);
	char *loader CLEANUP(freemem) = NULL;
	struct elf a = {0}, b = {0};
	size_t at, end;
	int same = 0;

	if (elfopen(&a, from) == ELF_OK && elfopen(&b, copy) == ELF_OK && a.size == b.size && pathissafe(loaderof(&a))) {
		at = (size_t)(a.interp - (const char *)a.data);
		end = at + a.interp_size;
		loader = xasprintf("%s/%s", root, loaderof(&a));
		same = memcmp(a.data, b.data, at) == 0 && memcmp(a.data + end, b.data + end, a.size - end) == 0 &&
		       strcmp(b.interp, loader) == 0;
	}
	elfclose(&a);
	elfclose(&b);
	return same;
}

static int
carriedis(const struct context *c, const struct store *store, const char *name)
{
	char *config CLEANUP(freemem) = configtext(c);

	return configis(store, name, config) && (c->slice->shape != VIEW_LIBC || copyis(c, store, name));
}

/*
 * Whether a view leads to its carried interpreter by paths in one of our stores: a store that was moved or copied still
 * names the place where it was, and what is there now may be another user's.
 */
static int
carriedisours(const struct archive *ar, const struct slice *s, struct stores *stores, const struct store *store,
              const char *name)
{
	struct places places = {.layers = xcalloc(ar->layer_count, sizeof(*places.layers))};
	const struct context c = {.ar = ar, .slice = s, .places = &places, .store = store};
	uint32_t i;
	int ours = 0;

	for (i = 0; i < stores->count && !ours; i++) {
		places.layers[s->interpreter] = &stores->list[i];
		ours = stores->list[i].fd >= 0 && carriedis(&c, store, name);
	}
	free(places.layers);
	return ours;
}

int
viewleads(const struct archive *ar, uint32_t slice, struct stores *stores, const struct store *store, const char *name)
{
	const struct slice *s = &ar->slices[slice];
	uint32_t i;

	if (!isthere(store, name, "bin/python", X_OK) || (s->interpreter != NONE && !carriedisours(ar, s, stores, store, name)))
		return 0;
	for (i = 0; i < ar->tool_count; i++)
		if (!isthere(store, name, archivestring(ar, ar->tools[i].target), F_OK))
			return 0;
	for (i = 0; i < s->link_count; i++)
		if (!isthere(store, name, archivestring(ar, ar->links[s->first_link + i].path), F_OK))
			return 0;
	return 1;
}

int
viewholds(const struct archive *ar, uint32_t slice, const struct host *host, const struct verdict *v,
          const struct places *places, struct store *store, const char *name)
{
	struct context c = contextof(ar, slice, host, v, places, store);
	char *python CLEANUP(freemem) = interpreterpath(&c);
	char *leads CLEANUP(freemem) = interpretertext(&c);
	const struct link *k;
	const char *path;
	uint32_t i;

	/* a copy of the host's interpreter is not worth the reading: made anew */
	if (c.slice->shape == VIEW_PREFIX || !carriedis(&c, store, name) || !identityholds(store->views, name, python))
		return 0;
	if (c.slice->shape == VIEW_VENV && !linkis(store, name, "bin/python", leads))
		return 0;
	for (i = 0; i < c.slice->link_count; i++) {
		char *text CLEANUP(freemem) = NULL;

		k = &ar->links[c.slice->first_link + i];
		path = archivestring(ar, k->path);
		text = linktext(&c, path, k->layer, "tree", archivestring(ar, k->target));
		if (!linkis(store, name, path, text))
			return 0;
	}
	return 1;
}
