#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include "fatpar.h"
#include "archive.h"
#include "crc32.h"
#include "fault.h"
#include "sha256.h"
#include "tables.h"
#include "util.h"

/* the records are read in place */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are little-endian");
_Static_assert(sizeof(struct trailer) == TRAILER_SIZE, "trailer");

static const uint8_t magic[8] = {0x89, 'f', 'a', 't', 'p', 'a', 'r', '\n'};

#define DETAIL(ar, ...) (snprintf((ar)->detail, sizeof((ar)->detail), __VA_ARGS__), ARCHIVE_DAMAGED)

static enum archive_status
readfailed(struct archive *ar, const char *what)
{
	if (errno) {
		snprintf(ar->detail, sizeof(ar->detail), "%s: %s", what, strerror(errno));
		return ARCHIVE_SYSTEM;
	}
	return DETAIL(ar, "%s is cut short", what);
}

enum archive_status
archiveopen(struct archive *ar, int fd)
{
	struct trailer *t = &ar->trailer;
	struct stat st;
	uint64_t end;

	memset(ar, 0, sizeof(*ar));
	ar->fd = fd;
	if (fstat(fd, &st) < 0)
		return readfailed(ar, "file");
	if (!S_ISREG(st.st_mode) || st.st_size < TRAILER_SIZE) {
		snprintf(ar->detail, sizeof(ar->detail), "it is no file of at least %d bytes", TRAILER_SIZE);
		return ARCHIVE_FOREIGN;
	}
	ar->file_size = (uint64_t)st.st_size;
	end = ar->file_size - TRAILER_SIZE;
	if (readat(fd, t, sizeof(*t), end) < 0)
		return readfailed(ar, "trailer");
	if (memcmp(t->magic, magic, sizeof(magic)) != 0) {
		snprintf(ar->detail, sizeof(ar->detail), "it does not end in a trailer");
		return ARCHIVE_FOREIGN;
	}
	if (crc32(t, offsetof(struct trailer, checksum)) != t->checksum)
		return DETAIL(ar, "the trailer's checksum is wrong");
	if (t->version != FORMAT_VERSION || t->refuse != 0) {
		snprintf(ar->detail, sizeof(ar->detail), "format version %u, features 0x%x; known are version %d, features 0x0",
		         (unsigned)t->version, (unsigned)t->refuse, FORMAT_VERSION);
		return ARCHIVE_NEWER;
	}
	if (t->signature_size > end || t->index_size > end - t->signature_size ||
	    t->index_offset != end - t->signature_size - t->index_size)
		return DETAIL(ar, "the index is not where the trailer says: the file was cut or added to");
	if (t->front_size > t->index_offset)
		return DETAIL(ar, "the launcher reaches into the index");
	if (t->index_raw_size > MAX_INDEX || t->index_size > MAX_INDEX)
		return DETAIL(ar, "the index is larger than %d bytes", MAX_INDEX);
	return ARCHIVE_OK;
}

int
archivestill(const struct archive *ar)
{
	struct trailer now;
	struct stat st;

	if (fstat(ar->fd, &st) < 0 || readat(ar->fd, &now, sizeof(now), ar->file_size - sizeof(now)) < 0)
		return 0;
	errno = 0;
	return (uint64_t)st.st_size == ar->file_size && memcmp(&now, &ar->trailer, sizeof(now)) == 0;
}

void
archiveclose(struct archive *ar)
{
	free(ar->index);
	ar->index = NULL;
}

static const char *
whatis(enum archive_status status)
{
	switch (status) {
	case ARCHIVE_OK:
		break;
	case ARCHIVE_FOREIGN:
		return "not a fatpar archive";
	case ARCHIVE_DAMAGED:
		return "archive is damaged";
	case ARCHIVE_NEWER:
		return "archive is newer than its reader";
	case ARCHIVE_SYSTEM:
		return "archive cannot be read";
	}
	return "archive is sound";
}

const char *
archivedescribe(const struct archive *ar, enum archive_status status)
{
	static char text[320];

	if (status == ARCHIVE_OK)
		return whatis(status);
	snprintf(text, sizeof(text), "%s: %s", whatis(status), ar->detail);
	return text;
}

int
archivefault(const struct archive *ar, enum archive_status status, struct fault *fault)
{
	return fail(fault, STATUS_LAUNCHER, "%s: %s", whatis(status), ar->detail);
}

const char *
archivestring(const struct archive *ar, uint32_t ref)
{
	return ar->strings + ref;
}

enum archive_status
archiveblob(struct archive *ar, uint32_t index, uint8_t *buf)
{
	const struct blob *b = &ar->blobs[index];
	char what[40];

	if (readat(ar->fd, buf, b->stored_size, b->offset) < 0) {
		snprintf(what, sizeof(what), "blob %u", (unsigned)index);
		return readfailed(ar, what);
	}
	return ARCHIVE_OK;
}

const char *
archivezstd(void)
{
	return ZSTD_versionString();
}

enum archive_status
archivefront(struct archive *ar)
{
	static uint8_t buf[1 << 16];
	uint64_t left = ar->trailer.front_size, at = 0;
	uint8_t digest[DIGEST_SIZE];
	struct sha256 sum;
	size_t n;

	sha256start(&sum);
	for (; left; left -= n, at += n) {
		n = left < sizeof(buf) ? (size_t)left : sizeof(buf);
		if (readat(ar->fd, buf, n, at) < 0)
			return readfailed(ar, "launcher");
		sha256add(&sum, buf, n);
	}
	sha256end(&sum, digest);
	if (at && memcmp(digest, ar->trailer.front_digest, sizeof(digest)) != 0)
		return DETAIL(ar, "the launcher has the wrong digest");
	return ARCHIVE_OK;
}

struct table {
	const void **records;
	uint32_t *count;
	uint32_t size;  /* of a record, as this reader knows it */
	uint32_t limit;
};

static enum archive_status
readsection(struct archive *ar, const struct section *s, uint32_t i)
{
	struct table tables[] = {
		[SECTION_STRINGS] = {(const void **)&ar->strings, &ar->strings_size, 1, MAX_INDEX},
		[SECTION_REFS] = {(const void **)&ar->refs, &ar->ref_count, 4, MAX_INDEX / 4},
		[SECTION_BLOBS] = {(const void **)&ar->blobs, &ar->blob_count, sizeof(*ar->blobs), MAX_BLOBS},
		[SECTION_CONTENTS] = {(const void **)&ar->contents, &ar->content_count, sizeof(*ar->contents), MAX_CONTENTS},
		[SECTION_ENTRIES] = {(const void **)&ar->entries, &ar->entry_count, sizeof(*ar->entries), MAX_ENTRIES},
		[SECTION_LAYERS] = {(const void **)&ar->layers, &ar->layer_count, sizeof(*ar->layers), MAX_LAYERS},
		[SECTION_NEEDS] = {(const void **)&ar->needs, &ar->need_count, sizeof(*ar->needs), MAX_NEEDS},
		[SECTION_SLICES] = {(const void **)&ar->slices, &ar->slice_count, sizeof(*ar->slices), MAX_SLICES},
		[SECTION_LINKS] = {(const void **)&ar->links, &ar->link_count, sizeof(*ar->links), MAX_LINKS},
		[SECTION_TOOLS] = {(const void **)&ar->tools, &ar->tool_count, sizeof(*ar->tools), MAX_TOOLS},
		[SECTION_LAUNCHERS] = {(const void **)&ar->launchers, &ar->launcher_count, sizeof(*ar->launchers), MAX_LAUNCHERS},
		[SECTION_MANIFEST] = {(const void **)&ar->manifest, &ar->manifest_size, 1, MAX_INDEX},
		[SECTION_SUMMARY] = {(const void **)&ar->summary, &ar->summary_size, 1, MAX_SUMMARY},
	};
	const struct table *t = s->id < COUNTOF(tables) ? &tables[s->id] : NULL;
	uint8_t *data;
	uint32_t k;

	if (s->offset % 8 || s->offset > ar->trailer.index_raw_size || s->size > ar->trailer.index_raw_size - s->offset)
		return indexdamaged(ar, "section", i, "it lies outside the index");
	if (!t || !t->records) {
		if (!(s->flags & SECTION_CRITICAL))
			return ARCHIVE_OK;
		snprintf(ar->detail, sizeof(ar->detail), "section %u is not known", (unsigned)s->id);
		return ARCHIVE_NEWER;
	}
	if (*t->records)
		return indexdamaged(ar, "section", i, "its id stands twice");
	if (s->record_size < t->size || (uint64_t)s->record_size * s->count != s->size)
		return indexdamaged(ar, "section", i, "its size is wrong");
	if (s->count > t->limit)
		return indexdamaged(ar, "section", i, "it has too many records");
	data = ar->index + s->offset;
	/* longer records come from a newer writer: close the gaps, keeping what is known here */
	if (s->record_size > t->size)
		for (k = 1; k < s->count; k++)
			memmove(data + (size_t)k * t->size, data + (size_t)k * s->record_size, t->size);
	*t->records = data;
	*t->count = s->count;
	return ARCHIVE_OK;
}

static enum archive_status
readsections(struct archive *ar)
{
	struct index_head head;
	struct section s;
	enum archive_status status;
	uint32_t i;

	if (ar->trailer.index_raw_size < sizeof(head))
		return DETAIL(ar, "index: no head");
	memcpy(&head, ar->index, sizeof(head));
	if (memcmp(head.magic, "FPIX", 4) != 0 || head.section_count > MAX_SECTIONS ||
	    ar->trailer.index_raw_size < sizeof(head) + head.section_count * sizeof(s))
		return DETAIL(ar, "index: its head is wrong");
	for (i = 0; i < head.section_count; i++) {
		memcpy(&s, ar->index + sizeof(head) + i * sizeof(s), sizeof(s));
		status = readsection(ar, &s, i);
		if (status)
			return status;
	}
	return checktables(ar);
}

enum archive_status
archiveindex(struct archive *ar)
{
	const struct trailer *t = &ar->trailer;
	uint8_t *stored CLEANUP(freemem) = xmalloc(t->index_size);
	uint8_t digest[DIGEST_SIZE];
	size_t n;

	if (readat(ar->fd, stored, t->index_size, t->index_offset) < 0)
		return readfailed(ar, "index");
	sha256(stored, t->index_size, digest);
	if (memcmp(digest, t->id, sizeof(digest)) != 0)
		return DETAIL(ar, "the index's digest is wrong");
	/* asked before any memory is: the decoder itself would take several frames, or one that does not state its size */
	if (ZSTD_findFrameCompressedSize(stored, t->index_size) != t->index_size ||
	    ZSTD_getFrameContentSize(stored, t->index_size) != t->index_raw_size)
		return DETAIL(ar, "the index is not one frame of the stated size");
	ar->index = xmalloc(t->index_raw_size);
	n = ZSTD_decompress(ar->index, t->index_raw_size, stored, t->index_size);
	if (ZSTD_isError(n) || n != t->index_raw_size)
		return DETAIL(ar, "the index does not decode");
	return readsections(ar);
}
