#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_getFrameHeader */
#include <zstd.h>
#include "fatpar.h"
#include "archive.h"
#include "blobs.h"
#include "fault.h"
#include "filter.h"
#include "util.h"

/* decoded bytes kept at most: the bases of one blob and the blob itself */
enum { KEEP = MAX_PREFIX + MAX_BLOB };

_Static_assert(MAX_KEPT == 16 && MAX_BASES < MAX_KEPT, "struct blobs has room for a blob with its bases");

void
blobsopen(struct blobs *b, struct archive *ar)
{
	memset(b, 0, sizeof(*b));
	b->archive = ar;
	b->plain_blob = NONE;
	b->context = ZSTD_createDCtx();
}

void
blobsclose(struct blobs *b)
{
	size_t i;

	for (i = 0; i < MAX_KEPT; i++)
		free(b->kept[i].data);
	free(b->plain);
	ZSTD_freeDCtx(b->context);
	memset(b, 0, sizeof(*b));
}

/* a blob's decoded bytes if they are kept, else NULL */
static const uint8_t *
find(struct blobs *b, uint32_t blob)
{
	size_t i;

	for (i = 0; i < MAX_KEPT; i++)
		if (b->kept[i].data && b->kept[i].blob == blob) {
			b->kept[i].used = ++b->clock;
			return b->kept[i].data;
		}
	return NULL;
}

/* a free place, and room for so many bytes: what was not asked for longest is given up for them */
static struct kept *
makeroom(struct blobs *b, size_t size)
{
	struct kept *k, *place, *oldest;
	size_t i, kept;

	for (;;) {
		place = oldest = NULL;
		for (i = kept = 0; i < MAX_KEPT; i++) {
			k = &b->kept[i];
			if (!k->data) {
				place = k;
				continue;
			}
			kept += b->archive->blobs[k->blob].raw_size;
			if (!oldest || k->used < oldest->used)
				oldest = k;
		}
		if (place && kept + size <= KEEP)
			return place;
		free(oldest->data);
		oldest->data = NULL;
	}
}

static int
damaged(struct fault *fault, uint32_t blob, const char *what)
{
	return fail(fault, STATUS_LAUNCHER, "archive is damaged: blob %u: %s", (unsigned)blob, what);
}

static int
decode(struct blobs *b, uint32_t index, const uint8_t *stored, const uint8_t *prefix, size_t prefix_size, uint8_t *out,
       struct fault *fault)
{
	const struct blob *blob = &b->archive->blobs[index];
	ZSTD_FrameHeader head;
	size_t n;

	if (blob->encoding == ENCODING_STORED) {
		memcpy(out, stored, blob->raw_size);
		return 0;
	}
	if (!b->context)
		return fail(fault, STATUS_LAUNCHER, "no memory for decoding");
	if (ZSTD_findFrameCompressedSize(stored, blob->stored_size) != blob->stored_size ||
	    ZSTD_getFrameHeader(&head, stored, blob->stored_size) != 0)
		return damaged(fault, index, "it is not one frame");
	/* costs this decoder nothing, since it has the whole blob in memory, but one that decodes a stream */
	if (head.windowSize > (uint64_t)1 << MAX_WINDOW_LOG)
		return damaged(fault, index, "its window is too large");
	ZSTD_DCtx_reset(b->context, ZSTD_reset_session_only);
	if (prefix_size && ZSTD_isError(ZSTD_DCtx_refPrefix(b->context, prefix, prefix_size)))
		return damaged(fault, index, "its bases do not fit");
	n = ZSTD_decompressDCtx(b->context, out, blob->raw_size, stored, blob->stored_size);
	if (ZSTD_isError(n))
		return damaged(fault, index, ZSTD_getErrorName(n));
	return n == blob->raw_size ? 0 : damaged(fault, index, "its decoded size is wrong");
}

/* decoded bytes, the filter not undone, as other blobs have them for their prefix: kept until KEEP is reached */
static const uint8_t *decoded(struct blobs *, uint32_t, struct fault *);

/*
 * the decoded bases, one after the other, filtered if the blob itself is: one alone stays where it is kept, several
 * and what is not to be filtered are copied into *copy
 */
static const uint8_t *
readbases(struct blobs *b, const struct blob *blob, uint8_t **copy, size_t *size, struct fault *fault)
{
	const struct blob *all = b->archive->blobs;
	const uint8_t *base;
	uint32_t i;
	size_t at = 0;
	int undo = 0;

	for (i = 0, *size = 0; i < blob->base_count; i++) {
		*size += all[blob->bases[i]].raw_size;
		undo |= blob->filter == FILTER_NONE && all[blob->bases[i]].filter != FILTER_NONE;
	}
	if (blob->base_count == 1 && !undo)
		return decoded(b, blob->bases[0], fault);
	*copy = xmalloc(*size);
	for (i = 0; i < blob->base_count; i++) {
		base = decoded(b, blob->bases[i], fault);
		if (!base)
			return NULL;
		memcpy(*copy + at, base, all[blob->bases[i]].raw_size);
		if (undo && all[blob->bases[i]].filter != FILTER_NONE)
			filterx86(*copy + at, all[blob->bases[i]].raw_size, 1);
		at += all[blob->bases[i]].raw_size;
	}
	return *copy;
}

static const uint8_t *
decoded(struct blobs *b, uint32_t index, struct fault *fault)
{
	const struct blob *blob = &b->archive->blobs[index];
	const uint8_t *found = find(b, index), *prefix = NULL;
	uint8_t *stored CLEANUP(freemem) = NULL;
	uint8_t *copy CLEANUP(freemem) = NULL;
	enum archive_status status;
	size_t prefix_size = 0;
	struct kept *place;
	uint8_t *out;

	if (found)
		return found;
	if (blob->base_count) {
		prefix = readbases(b, blob, &copy, &prefix_size, fault);
		if (!prefix)
			return NULL;
	}
	stored = xmalloc(blob->stored_size);
	status = archiveblob(b->archive, index, stored);
	if (status) {
		fail(fault, STATUS_LAUNCHER, "%s", archivedescribe(b->archive, status));
		return NULL;
	}
	/* a base was asked for last, so it is not among those given up */
	place = makeroom(b, blob->raw_size);
	out = xmalloc(blob->raw_size);
	if (decode(b, index, stored, prefix, prefix_size, out, fault) < 0) {
		free(out);
		return NULL;
	}
	*place = (struct kept){.data = out, .blob = index, .used = ++b->clock};
	return out;
}

const uint8_t *
blobsget(struct blobs *b, uint32_t index, struct fault *fault)
{
	const struct blob *blob = &b->archive->blobs[index];
	const uint8_t *data;

	if (index == b->plain_blob)
		return b->plain;
	data = decoded(b, index, fault);
	if (!data || blob->filter == FILTER_NONE)
		return data;
	b->plain = xrealloc(b->plain, blob->raw_size);
	memcpy(b->plain, data, blob->raw_size);
	filterx86(b->plain, blob->raw_size, 1);
	b->plain_blob = index;
	return b->plain;
}
