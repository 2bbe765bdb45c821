#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "fatpar.h"
#include "archive.h"
#include "decode.h"
#include "fault.h"
#include "filter.h"
#include "stock.h"
#include "util.h"

/*
 * Bytes that threads hold together. One alone may have what the format allows a blob to need, which can be more: so that
 * there is always one that can go on.
 */
enum { ROOM = MAX_PREFIX + 3 * MAX_BLOB };

/* a blob that is decoded as fast as others could be told of its parts */
enum { WORTH_TELLING = 1 << 18 };

static struct lot *
lotof(const struct stock *s, uint32_t blob)
{
	size_t low = 0, high = s->count, middle;

	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (s->lots[middle].blob <= blob)
			low = middle;
		else
			high = middle;
	}
	return &s->lots[low];
}

static struct lot *
baseof(const struct stock *s, const struct lot *l, uint32_t i)
{
	return lotof(s, l->record->bases[i]);
}

static uint32_t
basecount(const struct lot *l)
{
	return l->blob == NONE ? 0 : l->record->base_count;
}

static int
hasfiles(const struct lot *l)
{
	return l->first < l->end || l->continued;
}

/* deltas first, by their bases, which then need not be kept for long; then what makes most work */
static int
comparelots(const void *a, const void *b)
{
	const struct lot *x = *(struct lot *const *)a, *y = *(struct lot *const *)b;
	const struct blob *one = x->record, *other = y->record;

	if (!one->base_count != !other->base_count)
		return one->base_count ? -1 : 1;
	if (one->base_count && one->bases[0] != other->bases[0])
		return one->bases[0] < other->bases[0] ? -1 : 1;
	if (one->raw_size != other->raw_size)
		return one->raw_size > other->raw_size ? -1 : 1;
	return x->blob < y->blob ? -1 : x->blob > y->blob;
}

void
stockopen(struct stock *s, struct archive *ar, struct lot *lots, size_t count)
{
	size_t i, n = 0;
	uint32_t k;

	memset(s, 0, sizeof(*s));
	s->archive = ar;
	s->lots = lots;
	s->count = count;
	s->sequence = xcalloc(count, sizeof(struct lot *));
	s->resident = xcalloc(count, sizeof(struct lot *));
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->changed, NULL);
	for (i = 0; i < count; i++) {
		if (lots[i].blob == NONE) {
			lots[i].state = LOT_READY;
			s->resident[s->resident_count++] = &lots[i];
			continue;
		}
		lots[i].record = &ar->blobs[lots[i].blob];
	}
	for (i = 0; i < count && lots[i].blob != NONE; i++) {
		if (hasfiles(&lots[i]))
			for (k = 0; k < basecount(&lots[i]); k++)
				baseof(s, &lots[i], k)->deltas++;
		if (lots[i].first < lots[i].end)
			s->sequence[n++] = &lots[i];
	}
	if (n)
		qsort(s->sequence, n, sizeof(struct lot *), comparelots);
}

static void
freelot(struct lot *l)
{
	if (l->plain != l->inner)
		free(l->plain);
	free(l->inner);
	l->inner = l->plain = NULL;
}

void
stockclose(struct stock *s)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		freelot(&s->lots[i]);
	free(s->lots);
	free(s->sequence);
	free(s->resident);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->mutex);
}

void
handopen(struct hand *h, const struct archive *ar)
{
	h->archive = *ar;
	h->context = ZSTD_createDCtx();
}

void
handclose(struct hand *h)
{
	ZSTD_freeDCtx(h->context);
}

void
stockwait(struct stock *s)
{
	s->sleeping++;
	pthread_cond_wait(&s->changed, &s->mutex);
	s->sleeping--;
}

void
stocktell(struct stock *s)
{
	if (s->sleeping)
		pthread_cond_broadcast(&s->changed);
}

/* give a blob's bytes up; where they are needed again, it is decoded again */
static void
giveup(struct stock *s, struct lot *l)
{
	size_t i;
	uint32_t k;

	for (i = 0; s->resident[i] != l; i++)
		;
	s->resident[i] = s->resident[--s->resident_count];
	freelot(l);
	s->charged -= l->charge;
	l->state = LOT_ABSENT;
	l->there = l->charge = 0;
	if (l->next < l->end || l->parts)
		for (k = 0; k < basecount(l); k++)
			baseof(s, l, k)->deltas++;
	if (l->next < l->end)
		s->next = 0;
}

static int
isidle(const struct lot *l)
{
	return l->state == LOT_READY && !l->readers && l->blob != NONE;
}

static int
isdone(const struct lot *l)
{
	return l->next == l->end && !l->deltas && !l->parts;
}

void
stockhold(struct stock *s, struct lot *l)
{
	l->readers++;
	s->holders++;
}

static void
unread(struct stock *s, struct lot *l)
{
	l->readers--;
	if (isidle(l) && isdone(l))
		giveup(s, l);
}

void
stockrelease(struct stock *s, struct lot *l)
{
	s->holders--;
	unread(s, l);
	stocktell(s);
}

/* what a blob takes when it is decoded: twice as much if deltas need it filtered, and files not */
static size_t
chargeof(const struct lot *l)
{
	size_t size = l->record->raw_size;

	return l->record->filter != FILTER_NONE && hasfiles(l) && l->deltas ? 2 * size : size;
}

/* whether deltas will not have it: nothing was to be decoded with it when it was begun, so its filter is undone in place */
static int
isforfiles(const struct lot *l)
{
	return l->record->filter != FILTER_NONE && hasfiles(l) && l->charge == l->record->raw_size;
}

/* bases whose filter is to be undone, and several, are copied */
static size_t
prefixof(const struct stock *s, const struct lot *l, int *undo)
{
	const struct blob *b = l->record;
	size_t size = 0;
	uint32_t k;

	for (k = 0, *undo = 0; k < b->base_count; k++) {
		size += s->archive->blobs[b->bases[k]].raw_size;
		*undo |= b->filter == FILTER_NONE && s->archive->blobs[b->bases[k]].filter != FILTER_NONE;
	}
	return size;
}

static int
isbase(const struct stock *s, const struct lot *l, const struct lot *base)
{
	uint32_t k;

	for (k = 0; k < basecount(l); k++)
		if (baseof(s, l, k) == base)
			return 1;
	return 0;
}

/* the bytes that decoding takes beside what is there, the blob itself and what is given back after it */
static size_t
needed(const struct stock *s, const struct lot *l, size_t *passing)
{
	const struct lot *base;
	size_t bases = 0, stored = l->record->stored_size;
	uint32_t k;
	int undo;

	*passing = prefixof(s, l, &undo);
	if (basecount(l) == 1 && !undo)
		*passing = 0;
	for (k = 0; k < basecount(l); k++) {
		base = baseof(s, l, k);
		if (base->state != LOT_ABSENT)
			continue;
		bases += chargeof(base);
		if (base->record->stored_size > stored)
			stored = base->record->stored_size;
	}
	*passing += stored;
	return chargeof(l) + bases + *passing;
}

/* what can be given up for a blob, above all what has been read; or NULL */
static struct lot *
findvictim(const struct stock *s, const struct lot *l)
{
	struct lot *other, *found = NULL;
	size_t i;

	for (i = 0; i < s->resident_count; i++) {
		other = s->resident[i];
		if (isidle(other) && !isbase(s, l, other) && (!found || other->next == other->end))
			found = other;
	}
	return found;
}

/* make room for decoding a blob, and say what it takes; 0: others have to give theirs up first */
static int
admit(struct stock *s, const struct lot *l, size_t *passing)
{
	struct lot *other;
	uint32_t k;

	/* a base that only files have had: decoded once more, when another thread is done with it */
	for (k = 0; k < basecount(l); k++) {
		other = baseof(s, l, k);
		if (other->state == LOT_DECODING && isforfiles(other))
			return 0;
		if (other->state != LOT_READY || other->inner)
			continue;
		if (other->readers)
			return 0;
		giveup(s, other);
	}
	while (s->charged + needed(s, l, passing) > ROOM) {
		/* while others are at work, what they leave may be room enough, and nothing is decoded twice */
		if (s->holders)
			return 0;
		other = findvictim(s, l);
		if (!other)
			return 1;
		giveup(s, other);
	}
	return 1;
}

/* a lot that a thread decodes, for those who are told of its parts */
struct arrival {
	struct stock *stock;
	struct lot *lot;
};

static void
arrive(void *whom, size_t there)
{
	struct arrival *a = whom;

	pthread_mutex_lock(&a->stock->mutex);
	a->lot->there = there;
	stocktell(a->stock);
	pthread_mutex_unlock(&a->stock->mutex);
}

/* the mutex is not held here, but the state says that nobody else touches the lot */
static int
fill(struct stock *s, struct hand *h, struct lot *l, const struct prefix *prefix)
{
	const struct blob *b = l->record;
	struct arrival arrival = {s, l};
	const struct listener listener = {arrive, &arrival};
	uint8_t *data = xmalloc(b->raw_size), *plain = data;
	int partly = b->filter == FILTER_NONE && l->first < l->end && b->raw_size >= WORTH_TELLING, apart, failed;

	pthread_mutex_lock(&s->mutex);
	l->inner = data;
	l->plain = b->filter == FILTER_NONE ? data : NULL;
	apart = l->charge > b->raw_size;
	pthread_mutex_unlock(&s->mutex);
	failed = decode(&h->archive, h->context, l->blob, prefix, data, partly ? &listener : NULL, &h->fault);
	if (!failed && b->filter != FILTER_NONE && hasfiles(l)) {
		if (apart)
			plain = memcpy(xmalloc(b->raw_size), data, b->raw_size);
		filterx86(plain, b->raw_size, 1);
	}
	pthread_mutex_lock(&s->mutex);
	if (b->filter != FILTER_NONE && hasfiles(l)) {
		l->plain = plain;
		if (!apart)
			l->inner = NULL;
	}
	if (!failed) {
		l->there = b->raw_size;
		l->state = LOT_READY;
	}
	stocktell(s);
	pthread_mutex_unlock(&s->mutex);
	return failed;
}

/* wait for the bases that other threads decode, and put what is not to be used where it lies into *copy */
static int
gather(struct stock *s, const struct lot *l, struct prefix *prefix, uint8_t **copy)
{
	const struct lot *base;
	uint32_t k;
	size_t at = 0, size;
	int undo, failed;

	pthread_mutex_lock(&s->mutex);
	for (k = 0; k < basecount(l) && !s->failed;)
		if (baseof(s, l, k)->state == LOT_READY)
			k++;
		else
			stockwait(s);
	failed = s->failed;
	pthread_mutex_unlock(&s->mutex);
	if (failed)
		return -1;
	prefix->size = prefixof(s, l, &undo);
	if (basecount(l) == 1 && !undo) {
		prefix->data = baseof(s, l, 0)->inner;
		return 0;
	}
	prefix->data = *copy = xmalloc(prefix->size);
	for (k = 0; k < basecount(l); k++, at += size) {
		base = baseof(s, l, k);
		size = base->record->raw_size;
		memcpy(*copy + at, base->inner, size);
		if (undo && base->record->filter != FILTER_NONE)
			filterx86(*copy + at, size, 1);
	}
	return 0;
}

static void
begin(struct stock *s, struct lot *l)
{
	l->state = LOT_DECODING;
	l->charge = chargeof(l);
	s->charged += l->charge;
	s->resident[s->resident_count++] = l;
}

/* decode a blob for which there is room; the mutex is held, but not meanwhile */
static int
make(struct stock *s, struct hand *h, struct lot *l, size_t passing)
{
	static const struct prefix nothing = {NULL, 0};
	struct lot *mine[MAX_BASES], *base;
	struct prefix prefix = nothing;
	uint8_t *copy = NULL;
	uint32_t k, n = 0, count = basecount(l);
	int failed = 0;

	s->holders++;
	s->charged += passing;
	begin(s, l);
	for (k = 0; k < count; k++) {
		base = baseof(s, l, k);
		base->readers++;
		if (base->state == LOT_ABSENT) {
			begin(s, base);
			mine[n++] = base;
		}
	}
	pthread_mutex_unlock(&s->mutex);
	for (k = 0; k < n && !failed; k++)
		failed = fill(s, h, mine[k], &nothing);
	if (!failed && count)
		failed = gather(s, l, &prefix, &copy);
	if (!failed)
		failed = fill(s, h, l, &prefix);
	free(copy);
	pthread_mutex_lock(&s->mutex);
	for (k = 0; k < count; k++) {
		baseof(s, l, k)->deltas--;
		unread(s, baseof(s, l, k));
	}
	/* its files may all have been written before it was ready */
	if (isidle(l) && isdone(l))
		giveup(s, l);
	s->charged -= passing;
	s->holders--;
	stocktell(s);
	return failed;
}

int
stockdecode(struct stock *s, struct hand *h)
{
	struct lot *l;
	size_t passing;

	for (; s->next < s->count && s->sequence[s->next]; s->next++) {
		l = s->sequence[s->next];
		if (l->state != LOT_ABSENT || l->next == l->end)
			continue;
		/* before files can be written, what is given up would only be decoded again */
		if (!s->ready && s->charged + needed(s, l, &passing) > ROOM)
			return 0;
		if (!admit(s, l, &passing))
			return 0;
		return make(s, h, l, passing) < 0 ? -1 : 1;
	}
	return 0;
}

struct lot *
stocktake(struct stock *s, struct hand *h, uint32_t blob, int again)
{
	struct lot *l = lotof(s, blob);
	size_t passing;
	uint32_t k;

	if (again && !l->parts++ && l->next == l->end && l->state == LOT_ABSENT)
		for (k = 0; k < basecount(l); k++)
			baseof(s, l, k)->deltas++;
	while (!s->failed && l->state != LOT_READY) {
		if (l->state == LOT_DECODING || !admit(s, l, &passing))
			stockwait(s);
		else if (make(s, h, l, passing) < 0)
			return NULL;
	}
	if (s->failed)
		return NULL;
	l->parts--;
	stockhold(s, l);
	return l;
}
