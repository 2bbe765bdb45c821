#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fatpar.h"
#include "archive.h"
#include "tables.h"
#include "util.h"

int
pathissafe(const char *path)
{
	const char *p = path, *slash;
	size_t n;

	if (!*path || strlen(path) > MAX_PATH)
		return 0;
	for (;;) {
		slash = strchr(p, '/');
		n = slash ? (size_t)(slash - p) : strlen(p);
		if (n == 0 || n > MAX_NAME || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return 0;
		if (!slash)
			return 1;
		p = slash + 1;
	}
}

/* whether a relative link at path, read as text, stays inside the tree */
static int
linkissafe(const char *path, const char *target)
{
	const char *p;
	size_t n;
	int depth = 0;

	if (!*target || *target == '/' || strlen(target) > MAX_PATH)
		return 0;
	for (p = path; *p; p++)
		depth += *p == '/';
	for (p = target; *p; p += n + (p[n] == '/')) {
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (--depth < 0)
				return 0;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			depth++;
		}
	}
	return 1;
}

/* what breaks a rule of one table, for a person */
enum archive_status
indexdamaged(struct archive *ar, const char *table, uint32_t i, const char *what)
{
	snprintf(ar->detail, sizeof(ar->detail), "index: %s %u: %s", table, (unsigned)i, what);
	return ARCHIVE_DAMAGED;
}

static enum archive_status
damaged(struct archive *ar, const char *what)
{
	snprintf(ar->detail, sizeof(ar->detail), "index: %s", what);
	return ARCHIVE_DAMAGED;
}

static int
isstring(const struct archive *ar, uint32_t ref)
{
	return ref < ar->strings_size;
}

static int
inrange(uint32_t first, uint32_t count, uint32_t total)
{
	return first <= total && count <= total - first;
}

/*
 * Whether a list lies inside its table. Lists are not shared: claimed, their sum so far, does not exceed the table
 * either, so that no small file asks for more work than there are records.
 */
static int
claim(uint64_t *claimed, uint32_t first, uint32_t count, uint32_t total)
{
	*claimed += count;
	return *claimed <= total && inrange(first, count, total);
}

static enum archive_status
checkblobs(struct archive *ar)
{
	const struct blob *b;
	uint64_t prefix;
	uint32_t i, k;

	for (i = 0; i < ar->blob_count; i++) {
		b = &ar->blobs[i];
		if (b->encoding > ENCODING_ZSTD || b->filter > FILTER_X86) {
			snprintf(ar->detail, sizeof(ar->detail), "blob %u: encoding %u, filter %u are not known", (unsigned)i,
			         (unsigned)b->encoding, (unsigned)b->filter);
			return ARCHIVE_NEWER;
		}
		if (b->raw_size > MAX_BLOB || b->stored_size > MAX_BLOB || b->base_count > MAX_BASES)
			return indexdamaged(ar, "blob", i, "it is too large or has too many bases");
		if (b->offset > ar->trailer.index_offset || b->stored_size > ar->trailer.index_offset - b->offset)
			return indexdamaged(ar, "blob", i, "it lies outside the file");
		if (b->encoding == ENCODING_STORED && (b->stored_size != b->raw_size || b->base_count))
			return indexdamaged(ar, "blob", i, "stored bytes must be the raw bytes");
		for (k = 0, prefix = 0; k < b->base_count; k++) {
			if (b->bases[k] >= i || ar->blobs[b->bases[k]].base_count)
				return indexdamaged(ar, "blob", i, "a base must be an earlier blob without bases");
			prefix += ar->blobs[b->bases[k]].raw_size;
		}
		if (prefix > MAX_PREFIX)
			return indexdamaged(ar, "blob", i, "its bases are too large");
	}
	return ARCHIVE_OK;
}

static enum archive_status
checkcontents(struct archive *ar)
{
	/* decoded bytes from the start of each blob to the end of the last */
	uint64_t *rest CLEANUP(freemem) = xcalloc((size_t)ar->blob_count + 1, sizeof(*rest));
	const struct content *c;
	uint32_t i;

	for (i = ar->blob_count; i; i--)
		rest[i - 1] = rest[i] + ar->blobs[i - 1].raw_size;
	for (i = 0; i < ar->content_count; i++) {
		c = &ar->contents[i];
		if (c->size && (c->blob >= ar->blob_count || c->offset >= ar->blobs[c->blob].raw_size ||
		                c->size > rest[c->blob] - c->offset))
			return indexdamaged(ar, "content", i, "it lies outside the blobs");
	}
	return ARCHIVE_OK;
}

/* of the paths that were met: the lengths of those that the last one begins with, itself among them */
struct nest {
	uint16_t lengths[MAX_PATH + 1];
	uint32_t count;
};

/* whether a path goes on below one of those before it, in order: a file or a link cannot hold anything */
static int
nestpath(struct nest *n, const char *before, const char *path)
{
	size_t shared;

	for (shared = 0; path[shared] && path[shared] == before[shared]; shared++)
		;
	while (n->count && n->lengths[n->count - 1] > shared)
		n->count--;
	/* the longest is enough: below a shorter one, it would have been found itself */
	if (n->count && path[n->lengths[n->count - 1]] == '/')
		return 1;
	n->lengths[n->count++] = (uint16_t)strlen(path);
	return 0;
}

static enum archive_status
checkentry(struct archive *ar, const struct layer *l, uint32_t i)
{
	const struct entry *e = &ar->entries[i];
	const char *path;

	if (!isstring(ar, e->path))
		return indexdamaged(ar, "entry", i, "its path is no string");
	path = archivestring(ar, e->path);
	if (!pathissafe(path))
		return indexdamaged(ar, "entry", i, "its path leaves the layer or is malformed");
	if (i > l->first_entry && strcmp(archivestring(ar, e[-1].path), path) >= 0)
		return indexdamaged(ar, "entry", i, "the paths are not sorted or one stands twice");
	switch (e->kind) {
	case ENTRY_FILE:
	case ENTRY_EXEC:
		if (e->value >= ar->content_count)
			return indexdamaged(ar, "entry", i, "its content does not exist");
		break;
	case ENTRY_LINK:
		if (!isstring(ar, e->value) || !linkissafe(path, archivestring(ar, e->value)))
			return indexdamaged(ar, "entry", i, "its link leaves the layer");
		break;
	case ENTRY_DIR:
		break;
	default:
		return indexdamaged(ar, "entry", i, "its kind is not known");
	}
	return ARCHIVE_OK;
}

static enum archive_status
checkentries(struct archive *ar, uint32_t layer)
{
	const struct layer *l = &ar->layers[layer];
	const char *path, *before = "";
	struct nest nest = {.count = 0};
	enum archive_status status;
	uint64_t size = 0;
	uint32_t i;

	for (i = l->first_entry; i < l->first_entry + l->entry_count; i++, before = path) {
		status = checkentry(ar, l, i);
		if (status)
			return status;
		path = archivestring(ar, ar->entries[i].path);
		if (nestpath(&nest, before, path))
			return indexdamaged(ar, "entry", i, "its path goes on below another entry");
		if (ar->entries[i].kind <= ENTRY_EXEC)
			size += ar->contents[ar->entries[i].value].size;
		/* asked each time: a sum that wrapped would be right again */
		if (size > l->size)
			break;
	}
	return size == l->size ? ARCHIVE_OK : indexdamaged(ar, "layer", layer, "its size is not that of its files");
}

static enum archive_status
checklayers(struct archive *ar)
{
	const struct layer *l;
	enum archive_status status;
	uint64_t entries = 0;
	uint32_t i, k;

	for (i = 0; i < ar->layer_count; i++) {
		l = &ar->layers[i];
		if (!isstring(ar, l->name) || !isstring(ar, l->tag) ||
		    !claim(&entries, l->first_entry, l->entry_count, ar->entry_count) || (l->of != NONE && l->of >= ar->layer_count))
			return indexdamaged(ar, "layer", i, "a reference is out of bounds");
		if (l->kind == LAYER_BYTECODE && (l->of == NONE || ar->layers[l->of].kind == LAYER_BYTECODE))
			return indexdamaged(ar, "layer", i, "bytecode belongs to no layer");
		status = checkentries(ar, i);
		if (status)
			return status;
		/* it goes where other bytecode is, and must not be led elsewhere by a link of that */
		for (k = l->first_entry; l->kind == LAYER_BYTECODE && k < l->first_entry + l->entry_count; k++)
			if (ar->entries[k].kind != ENTRY_FILE)
				return indexdamaged(ar, "entry", k, "bytecode is files and nothing else");
	}
	return ARCHIVE_OK;
}

/* whether a path is the other, or below it */
static int
isbelow(const char *path, const char *other)
{
	size_t n = strlen(other);

	return strncmp(path, other, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* what the launcher makes itself, and directories that it puts something into: a link there would lead it into a layer */
static int
isviews(const char *path, const char *python_dir)
{
	return strcmp(path, "bin") == 0 || strcmp(path, "lib") == 0 ||
	       (strncmp(path, "lib/", 4) == 0 && strcmp(path + 4, python_dir) == 0) || isbelow(path, "lib64") ||
	       isbelow(path, "pyvenv.cfg") || isbelow(path, "bin/python") || isbelow(path, "bin/python2") ||
	       isbelow(path, "bin/python3") || (strncmp(path, "bin/", 4) == 0 && isbelow(path + 4, python_dir));
}

/* pythonX.Y, whatever follows */
static int
ispythondir(const char *name)
{
	const char *dot = strchr(name, '.');

	return strncmp(name, "python", 6) == 0 && name[6] >= '1' && name[6] <= '9' && dot && dot[1] >= '0' && dot[1] <= '9' &&
	       !strchr(name, '/');
}

/* owner: for each layer the last slice that it is part of, plus one */
static enum archive_status
checklinks(struct archive *ar, uint32_t slice, const uint32_t *owner)
{
	const struct slice *s = &ar->slices[slice];
	const char *path, *target, *before = "";
	struct nest nest = {.count = 0};
	const struct link *k;
	uint32_t i;

	for (i = s->first_link; i < s->first_link + s->link_count; i++, before = path) {
		k = &ar->links[i];
		if (!isstring(ar, k->path) || !isstring(ar, k->target) || k->layer >= ar->layer_count || owner[k->layer] != slice + 1)
			return indexdamaged(ar, "link", i, "a reference is out of bounds");
		if (ar->layers[k->layer].kind == LAYER_BYTECODE)
			return indexdamaged(ar, "link", i, "it leads to bytecode, which no view shows");
		path = archivestring(ar, k->path);
		target = archivestring(ar, k->target);
		if (!pathissafe(path) || (*target && !pathissafe(target)) || isviews(path, archivestring(ar, s->python_dir)))
			return indexdamaged(ar, "link", i, "it leaves the view or the layer");
		if (strcmp(before, path) >= 0 || nestpath(&nest, before, path))
			return indexdamaged(ar, "link", i, "the paths are not sorted, one stands twice or below another");
	}
	return ARCHIVE_OK;
}

/* whether a slice that carries no interpreter asks for one: else it would fit a host without Python */
static int
needspython(const struct archive *ar, const struct slice *s)
{
	const struct need *n;
	uint32_t i;

	for (i = 0; i < s->need_count; i++) {
		n = &ar->needs[s->first_need + i];
		if (n->kind == NEED_PYTHON && strcmp(archivestring(ar, n->name), archivestring(ar, s->python)) == 0)
			return 1;
	}
	return 0;
}

/* whether the slice's bytecode is of its own layers, and no two of one; owner, compiled: number of the last slice, plus one */
static int
compileditsown(const struct archive *ar, uint32_t i, const uint32_t *owner, uint32_t *compiled)
{
	const struct slice *s = &ar->slices[i];
	const struct layer *l;
	uint32_t k;

	for (k = 0; k < s->layer_count; k++) {
		l = &ar->layers[ar->refs[s->first_layer + k]];
		if (l->kind != LAYER_BYTECODE)
			continue;
		if (owner[l->of] != i + 1 || compiled[l->of] == i + 1)
			return 0;
		compiled[l->of] = i + 1;
	}
	return 1;
}

/* whether the interpreter that a slice carries is in one of its layers, and of a shape that a view can be made of */
static int
carriesinterpreter(const struct archive *ar, uint32_t i, const uint32_t *owner)
{
	const struct slice *s = &ar->slices[i];
	const struct layer *l = &ar->layers[s->interpreter];
	const char *path = archivestring(ar, s->executable);
	uint32_t k;

	if (s->shape == VIEW_PREFIX || owner[s->interpreter] != i + 1 || l->kind != LAYER_INTERPRETER)
		return 0;
	for (k = l->first_entry; k < l->first_entry + l->entry_count; k++)
		if (ar->entries[k].kind == ENTRY_EXEC && strcmp(archivestring(ar, ar->entries[k].path), path) == 0)
			return 1;
	return 0;
}

static enum archive_status
checkslice(struct archive *ar, uint32_t i, uint32_t *owner, uint32_t *compiled)
{
	const struct slice *s = &ar->slices[i];
	const char *python_dir = archivestring(ar, s->python_dir);
	uint32_t k;

	if (s->shape != VIEW_VENV && s->shape != VIEW_PREFIX && s->shape != VIEW_LIBC) {
		snprintf(ar->detail, sizeof(ar->detail), "slice %u: view shape %u is not known", (unsigned)i, (unsigned)s->shape);
		return ARCHIVE_NEWER;
	}
	if (!pathissafe(python_dir) || !ispythondir(python_dir) ||
	    (s->interpreter != NONE && !pathissafe(archivestring(ar, s->executable))))
		return indexdamaged(ar, "slice", i, "a path is malformed");
	if (s->interpreter == NONE && (s->shape == VIEW_LIBC || !needspython(ar, s)))
		return indexdamaged(ar, "slice", i, "it neither carries its Python nor needs it");
	for (k = 0; k < s->layer_count; k++) {
		if (ar->refs[s->first_layer + k] >= ar->layer_count)
			return indexdamaged(ar, "slice", i, "a layer does not exist");
		owner[ar->refs[s->first_layer + k]] = i + 1;
	}
	if (s->interpreter != NONE && !carriesinterpreter(ar, i, owner))
		return indexdamaged(ar, "slice", i, "the interpreter that it carries is in none of its layers");
	if (!compileditsown(ar, i, owner, compiled))
		return indexdamaged(ar, "slice", i, "its bytecode is not of one of its layers each");
	for (k = 0; k < s->flag_count; k++)
		if (!isstring(ar, ar->refs[s->first_flag + k]))
			return indexdamaged(ar, "slice", i, "an option is no string");
	return checklinks(ar, i, owner);
}

static enum archive_status
checkslices(struct archive *ar)
{
	uint32_t *owner CLEANUP(freemem) = xcalloc(ar->layer_count, sizeof(*owner));
	uint32_t *compiled CLEANUP(freemem) = xcalloc(ar->layer_count, sizeof(*compiled));
	uint64_t needs = 0, refs = 0, links = 0;
	enum archive_status status;
	const struct slice *s;
	uint32_t i;

	for (i = 0; i < ar->slice_count; i++) {
		s = &ar->slices[i];
		if (!isstring(ar, s->name) || !isstring(ar, s->python) || !isstring(ar, s->python_dir) ||
		    !isstring(ar, s->executable) || !claim(&needs, s->first_need, s->need_count, ar->need_count) ||
		    !claim(&refs, s->first_layer, s->layer_count, ar->ref_count) ||
		    !claim(&links, s->first_link, s->link_count, ar->link_count) ||
		    !claim(&refs, s->first_flag, s->flag_count, ar->ref_count) ||
		    (s->interpreter != NONE && s->interpreter >= ar->layer_count))
			return indexdamaged(ar, "slice", i, "a reference is out of bounds");
		status = checkslice(ar, i, owner, compiled);
		if (status)
			return status;
	}
	return ARCHIVE_OK;
}

static enum archive_status
checkrest(struct archive *ar)
{
	const struct tool *t;
	uint32_t i;

	for (i = 0; i < ar->need_count; i++)
		if (!isstring(ar, ar->needs[i].name) || !isstring(ar, ar->needs[i].value))
			return indexdamaged(ar, "need", i, "a reference is out of bounds");
	for (i = 0; i < ar->tool_count; i++) {
		t = &ar->tools[i];
		if (!isstring(ar, t->name) || !isstring(ar, t->target) || !pathissafe(archivestring(ar, t->target)))
			return indexdamaged(ar, "tool", i, "a reference is out of bounds");
		if (t->kind < TOOL_PYTHON || t->kind > TOOL_TITLED) {
			snprintf(ar->detail, sizeof(ar->detail), "tool %u: kind %u is not known", (unsigned)i, (unsigned)t->kind);
			return ARCHIVE_NEWER;
		}
	}
	for (i = 0; i < ar->launcher_count; i++)
		if (ar->launchers[i].offset > ar->trailer.index_offset ||
		    ar->launchers[i].size > ar->trailer.index_offset - ar->launchers[i].offset)
			return indexdamaged(ar, "launcher", i, "it lies outside the file");
	if (!ar->slice_count || !ar->tool_count)
		return damaged(ar, "no slice or no tool");
	return ARCHIVE_OK;
}

enum archive_status
checktables(struct archive *ar)
{
	enum archive_status (*const checks[])(struct archive *) = {
		checkblobs, checkcontents, checklayers, checkrest, checkslices,
	};
	enum archive_status status;
	size_t i;

	if (!ar->strings_size || ar->strings[0] || ar->strings[ar->strings_size - 1])
		return damaged(ar, "the strings must begin and end with a NUL");
	for (i = 0; i < COUNTOF(checks); i++) {
		status = checks[i](ar);
		if (status)
			return status;
	}
	return ARCHIVE_OK;
}
