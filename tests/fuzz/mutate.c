#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "fatpar.h"
#include "archive.h"
#include "blobs.h"
#include "crc32.h"
#include "fault.h"
#include "fuzz.h"
#include "sha256.h"
#include "tree.h"
#include "util.h"

/*
 * Changes that a checksum does not give away. An archive is taken apart into what stands before the index, the decoded
 * index and the trailer; a part is changed; then layer sizes, digests of layers and blobs, the archive id, the front's
 * digest and the checksum are made right, and all is put together again. Of a plan the digest is made right. A few
 * changes are left as they are, so that the checks themselves are met, too.
 */

size_t LLVMFuzzerMutate(uint8_t *, size_t, size_t);
size_t LLVMFuzzerCustomMutator(uint8_t *, size_t, size_t, unsigned);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *, size_t, const uint8_t *, size_t, uint8_t *, size_t, unsigned);

enum { ROOM = 1 << 19, HEX = 2 * DIGEST_SIZE + 1 };

static uint64_t state;

static uint32_t
below(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return n ? (uint32_t)(state % n) : 0;
}

static void
seed(unsigned number)
{
	state = number * 0x9e3779b97f4a7c15u + 1;
}

/* a number that is likely to mean something where another stood */
static uint32_t
number(uint32_t before)
{
	static const uint32_t numbers[] = {
		0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 255, 256, 0xffff, 0x10000, MAX_BLOB, MAX_PREFIX, 0x7fffffff, 0x80000000, NONE - 1, NONE,
	};

	switch (below(5)) {
	case 0:
		return before + 1;
	case 1:
		return before - 1;
	case 2:
		return before ^ 1u << below(32);
	case 3:
		return below(64);
	default:
		return numbers[below(COUNTOF(numbers))];
	}
}

/* Archives ------------------------------------------------------------------------------------------------------ */

struct parts {
	uint8_t *front;         /* all that stands before the index */
	size_t front_size;
	uint8_t *raw;           /* the decoded index, at a multiple of 8 */
	size_t raw_size;
	struct trailer trailer;
};

/* buffers of their own for each of the two that a crossing takes */
static int
takeapart(struct parts *p, int which, const uint8_t *data, size_t size)
{
	static uint8_t fronts[2][ROOM];
	static uint64_t raws[2][ROOM / 8];
	struct trailer *t = &p->trailer;
	size_t n;

	if (size < sizeof(*t))
		return -1;
	size -= sizeof(*t);
	memcpy(t, data + size, sizeof(*t));
	if (t->index_offset > size || t->index_size > size - t->index_offset || t->index_offset > ROOM)
		return -1;
	p->front = fronts[which];
	p->raw = (uint8_t *)raws[which];
	n = ZSTD_decompress(p->raw, ROOM, data + t->index_offset, t->index_size);
	if (ZSTD_isError(n) || n < sizeof(struct index_head))
		return -1;
	p->raw_size = n;
	p->front_size = t->index_offset;
	memcpy(p->front, data, p->front_size);
	return 0;
}

/* one frame of blocks that are stored as they are, into out: its size */
static size_t
frame(const uint8_t *raw, size_t raw_size, uint8_t *out)
{
	enum { BLOCK = 1 << 17 };
	uint8_t *p = out;
	uint32_t head;
	size_t n;

	memcpy(p, "\x28\xb5\x2f\xfd\xa0", 5);
	head = (uint32_t)raw_size;
	memcpy(p + 5, &head, 4);
	p += 9;
	do {
		n = raw_size < BLOCK ? raw_size : BLOCK;
		head = (uint32_t)(n << 3 | (n == raw_size));
		memcpy(p, &head, 3);
		memcpy(p + 3, raw, n);
		p += 3 + n;
		raw += n;
		raw_size -= n;
	} while (raw_size);
	return (size_t)(p - out);
}

static void
checksum(struct trailer *t)
{
	t->checksum = crc32(t, offsetof(struct trailer, checksum));
}

/* the archive's size, 0: it is larger than room */
static size_t
puttogether(struct parts *p, uint8_t *out, size_t room)
{
	static uint8_t stored[ROOM + 1024];
	struct trailer *t = &p->trailer;
	size_t n = frame(p->raw, p->raw_size, stored);

	if (p->front_size + n + sizeof(*t) > room)
		return 0;
	t->index_offset = p->front_size;
	t->index_size = n;
	t->index_raw_size = p->raw_size;
	t->signature_size = 0;
	if (t->front_size > p->front_size)
		t->front_size = p->front_size;
	sha256(stored, n, t->id);
	sha256(p->front, t->front_size, t->front_digest);
	checksum(t);
	memcpy(out, p->front, p->front_size);
	memcpy(out + p->front_size, stored, n);
	memcpy(out + p->front_size + n, t, sizeof(*t));
	return p->front_size + n + sizeof(*t);
}

/* sections of the directory, as far as the index goes */
static struct section *
sections(const struct parts *p, uint32_t *count)
{
	const struct index_head *head = (const struct index_head *)(const void *)p->raw;
	size_t room = (p->raw_size - sizeof(*head)) / sizeof(struct section);

	*count = head->section_count < room ? head->section_count : (uint32_t)room;
	return (struct section *)(void *)(p->raw + sizeof(*head));
}

static int
isinside(const struct parts *p, const struct section *s)
{
	return s->offset % 8 == 0 && s->offset <= p->raw_size && s->size <= p->raw_size - s->offset && s->record_size &&
	       (uint64_t)s->record_size * s->count == s->size;
}

/* a table whose records are just what this reader knows: NULL if it is not there */
static void *
table(const struct parts *p, enum section_id id, size_t size, uint32_t *count)
{
	uint32_t n, i;
	struct section *s = sections(p, &n);

	for (i = 0; i < n; i++)
		if (s[i].id == id && s[i].record_size == size && isinside(p, &s[i])) {
			*count = s[i].count;
			return p->raw + s[i].offset;
		}
	*count = 0;
	return NULL;
}

#define TABLE(p, id, type, count) ((type *)table((p), (id), sizeof(type), (count)))

static void
sealblobs(struct parts *p)
{
	uint32_t count, i;
	struct blob *blobs = TABLE(p, SECTION_BLOBS, struct blob, &count);

	for (i = 0; i < count; i++)
		if (blobs[i].offset <= p->front_size && blobs[i].stored_size <= p->front_size - blobs[i].offset)
			sha256(p->front + blobs[i].offset, blobs[i].stored_size, blobs[i].digest);
}

static void
sizelayers(struct parts *p)
{
	uint32_t layer_count, entry_count, content_count, i, k;
	struct layer *layers = TABLE(p, SECTION_LAYERS, struct layer, &layer_count);
	const struct entry *entries = TABLE(p, SECTION_ENTRIES, struct entry, &entry_count);
	const struct content *contents = TABLE(p, SECTION_CONTENTS, struct content, &content_count);

	for (i = 0; i < layer_count; i++) {
		if (layers[i].first_entry > entry_count || layers[i].entry_count > entry_count - layers[i].first_entry)
			continue;
		layers[i].size = 0;
		for (k = layers[i].first_entry; k < layers[i].first_entry + layers[i].entry_count; k++)
			if (entries[k].kind <= ENTRY_EXEC && entries[k].value < content_count)
				layers[i].size += contents[entries[k].value].size;
	}
}

/* a content's digest, by the launcher's decoder: -1 if it does not decode */
static int
digestcontent(const struct archive *ar, struct blobs *blobs, uint32_t index, uint8_t digest[DIGEST_SIZE])
{
	struct content c = ar->contents[index];
	const uint8_t *data;
	struct sha256 sum;
	struct fault fault;
	size_t n;

	sha256start(&sum);
	for (; c.size; c.size -= n, c.blob++, c.offset = 0) {
		data = blobsget(blobs, c.blob, &fault);
		if (!data)
			return -1;
		n = ar->blobs[c.blob].raw_size - c.offset;
		n = c.size < n ? (size_t)c.size : n;
		sha256add(&sum, data + c.offset, n);
	}
	sha256end(&sum, digest);
	return 0;
}

static void
digestlayer(const struct archive *ar, struct blobs *blobs, struct layer *l)
{
	uint8_t digest[DIGEST_SIZE];
	const struct entry *e;
	const char *path;
	struct tree t;
	uint32_t i;

	treestart(&t);
	for (i = 0; i < l->entry_count; i++) {
		e = &ar->entries[l->first_entry + i];
		path = archivestring(ar, e->path);
		if (e->kind == ENTRY_LINK)
			treelink(&t, path, archivestring(ar, e->value));
		else if (e->kind == ENTRY_DIR)
			treedir(&t, path);
		else if (digestcontent(ar, blobs, e->value, digest) == 0)
			treefile(&t, path, e->kind == ENTRY_EXEC, ar->contents[e->value].size, digest);
	}
	treeend(&t, l->digest);
}

/* digests of layers can be known only of an archive whose index is sound */
static void
seallayers(struct parts *p, const uint8_t *data, size_t size)
{
	uint32_t count, i;
	struct layer *layers = TABLE(p, SECTION_LAYERS, struct layer, &count);
	struct archive ar;
	struct blobs blobs;

	if (archiveopen(&ar, fuzzfile(data, size)) == ARCHIVE_OK && archiveindex(&ar) == ARCHIVE_OK && issmall(&ar) &&
	    count == ar.layer_count) {
		blobsopen(&blobs, &ar);
		for (i = 0; i < count; i++)
			digestlayer(&ar, &blobs, &layers[i]);
		blobsclose(&blobs);
	}
	archiveclose(&ar);
}

static size_t
seal(struct parts *p, uint8_t *out, size_t room)
{
	size_t size;

	if (below(8))
		sizelayers(p);
	sealblobs(p);
	size = puttogether(p, out, room);
	if (!size || fuzztarget() != FUZZ_UNPACK || !below(8))
		return size;
	seallayers(p, out, size);
	return puttogether(p, out, room);
}

/* a number of a record: another one, or that of another record */
static void
changefield(struct parts *p, const struct section *s)
{
	uint32_t words = s->record_size / 4, word, *at, *other;

	if (!s->count || !words || s->record_size % 4)
		return;
	word = below(words);
	at = (uint32_t *)(void *)(p->raw + s->offset + (uint64_t)below(s->count) * s->record_size) + word;
	other = (uint32_t *)(void *)(p->raw + s->offset + (uint64_t)below(s->count) * s->record_size) + word;
	*at = below(3) ? number(*at) : *other;
}

static void
changetext(struct parts *p, const struct section *s)
{
	static const char *const texts[] = {"/", "..", "../", "/..", ".", "a", "", "__pycache__", ".py", "bin/python", "lib64"};
	const char *text = texts[below(COUNTOF(texts))];
	size_t n = strlen(text) + !below(4), at;

	if (s->size < n + 2)
		return;
	/* neither the first nor the last, which are NUL */
	at = 1 + below(s->size - n - 1);
	memcpy(p->raw + s->offset + at, text, n);
}

/* one record more: its section moves to the end */
static void
addrecord(struct parts *p, struct section *s)
{
	size_t end = (p->raw_size + 7) & ~(size_t)7;
	uint64_t from = s->offset;

	if (!s->count || end + s->size + s->record_size > ROOM)
		return;
	memset(p->raw + p->raw_size, 0, end - p->raw_size);
	memcpy(p->raw + end, p->raw + from, s->size);
	memcpy(p->raw + end + s->size, p->raw + from + (uint64_t)below(s->count) * s->record_size, s->record_size);
	s->offset = end;
	s->size += s->record_size;
	s->count++;
	p->raw_size = end + s->size;
}

/* a blob's bytes: in their place, or behind all others if they become more */
static void
changeblob(struct parts *p)
{
	static uint8_t bytes[ROOM];
	uint32_t count;
	struct blob *b = TABLE(p, SECTION_BLOBS, struct blob, &count);
	size_t n, most;

	if (!count)
		return;
	b += below(count);
	if (b->offset > p->front_size || b->stored_size > p->front_size - b->offset)
		return;
	n = b->stored_size;
	most = n + 64 < ROOM - p->front_size ? n + 64 : n;
	memcpy(bytes, p->front + b->offset, n);
	n = LLVMFuzzerMutate(bytes, n, most ? most : 1);
	if (n > b->stored_size) {
		b->offset = p->front_size;
		p->front_size += n;
	}
	memcpy(p->front + b->offset, bytes, n);
	b->stored_size = (uint32_t)n;
	if (b->encoding == ENCODING_STORED && below(8))
		b->raw_size = (uint32_t)n;
}

static void
change(struct parts *p)
{
	uint32_t count;
	struct section *all = sections(p, &count), *s = all + below(count);
	size_t at, n;

	switch (below(8)) {
	case 0:
		changeblob(p);
		return;
	case 1:
		at = below(p->raw_size);
		n = 1 + below(16);
		n = n < p->raw_size - at ? n : p->raw_size - at;
		LLVMFuzzerMutate(p->raw + at, n, n);
		return;
	case 2:
		if (count)
			((uint32_t *)(void *)s)[below(sizeof(*s) / 4)] = number(((uint32_t *)(void *)s)[below(sizeof(*s) / 4)]);
		return;
	case 3:
		if (count && isinside(p, s))
			addrecord(p, s);
		return;
	default:
		if (!count || !isinside(p, s))
			return;
		if (s->record_size == 1)
			changetext(p, s);
		else
			changefield(p, s);
	}
}

/* a number of the trailer, with a checksum that is right */
static void
changetrailer(uint8_t *data, size_t size)
{
	struct trailer t;
	uint32_t *word = (uint32_t *)&t + below(offsetof(struct trailer, checksum) / 4);

	memcpy(&t, data + size - sizeof(t), sizeof(t));
	*word = number(*word);
	checksum(&t);
	memcpy(data + size - sizeof(t), &t, sizeof(t));
}

static size_t
mutatearchive(uint8_t *data, size_t size, size_t room)
{
	uint32_t kind = below(32), i;
	struct parts p;
	size_t n;

	if (kind == 0 || takeapart(&p, 0, data, size) < 0)
		return LLVMFuzzerMutate(data, size, room);
	if (kind == 1) {
		changetrailer(data, size);
		return size;
	}
	for (i = 1 + below(4); i; i--)
		change(&p);
	n = seal(&p, data, room);
	return n ? n : size;
}

/* a section of the one in the place of the other's */
static size_t
crossarchives(struct parts *p, struct parts *q, uint8_t *out, size_t room)
{
	uint32_t count, other, i;
	struct section *a = sections(p, &count), *b = sections(q, &other);
	size_t end = (p->raw_size + 7) & ~(size_t)7;

	if (!count || !other)
		return 0;
	a += below(count);
	for (i = 0; i < other; i++, b++)
		if (a->id == b->id && isinside(q, b) && end + b->size <= ROOM) {
			memset(p->raw + p->raw_size, 0, end - p->raw_size);
			memcpy(p->raw + end, q->raw + b->offset, b->size);
			*a = *b;
			a->offset = end;
			p->raw_size = end + b->size;
			break;
		}
	return seal(p, out, room);
}

/* ELF files and plans ------------------------------------------------------------------------------------------- */

/* a number of a header or table, which stand at multiples of 4 */
static size_t
mutateelf(uint8_t *data, size_t size, size_t room)
{
	uint64_t values[] = {0, UINT64_MAX, size, size - 1, size - 8, 1ull << 63, 1ull << 32, 0x1000}, value;
	size_t at, other, width = below(2) ? 8 : 4;

	if (size < 64 || below(4) == 0)
		return LLVMFuzzerMutate(data, size, room);
	at = below((below(2) ? (size < 1024 ? size : 1024) : size) - 8) & ~3u;
	other = below(size - 8) & ~3u;
	value = values[below(COUNTOF(values))];
	switch (below(4)) {
	case 0:
		memmove(data + at, data + other, width);
		break;
	case 1:
		memcpy(&value, data + at, sizeof(value));
		value += below(2) ? 1 : UINT64_MAX;
		memcpy(data + at, &value, width);
		break;
	default:
		memcpy(data + at, &value, width);
	}
	return size;
}

static size_t
mutateplan(uint8_t *data, size_t size, size_t room)
{
	char hex[HEX];
	uint8_t digest[DIGEST_SIZE];

	if (size < HEX || room < HEX + 1 || !below(32))
		return LLVMFuzzerMutate(data, size, room);
	size = LLVMFuzzerMutate(data, size - HEX, room - HEX);
	sha256(data, size, digest);
	hexof(digest, sizeof(digest), hex);
	memcpy(data + size, hex, HEX);
	return size + HEX;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned number_of_seed)
{
	seed(number_of_seed);
	switch (fuzztarget()) {
	case FUZZ_ARCHIVE:
	case FUZZ_UNPACK:
		return mutatearchive(data, size, room);
	case FUZZ_ELF:
		return mutateelf(data, size, room);
	case FUZZ_PLAN:
		return mutateplan(data, size, room);
	}
	return size;
}

/* 0: no crossing, which libFuzzer takes for "try something else" */
size_t
LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two, size_t two_size, uint8_t *out,
                          size_t room, unsigned number_of_seed)
{
	struct parts p, q;

	seed(number_of_seed);
	if ((fuzztarget() != FUZZ_ARCHIVE && fuzztarget() != FUZZ_UNPACK) || takeapart(&p, 0, one, one_size) < 0 ||
	    takeapart(&q, 1, two, two_size) < 0)
		return 0;
	return crossarchives(&p, &q, out, room);
}
