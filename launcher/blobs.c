#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "fatpar.h"
#include "archive.h"
#include "blobs.h"
#include "decode.h"
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
	uint8_t *copy CLEANUP(freemem) = NULL;
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
	/* a base was asked for last, so it is not among those given up */
	place = makeroom(b, blob->raw_size);
	out = xmalloc(blob->raw_size);
	if (decode(b->archive, b->context, index, &(struct prefix){prefix, prefix_size}, out, NULL, fault) < 0) {
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
