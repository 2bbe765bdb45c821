#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "decide.h"
#include "explain.h"
#include "fault.h"
#include "host.h"
#include "object.h"
#include "phases.h"
#include "plan.h"
#include "prepare.h"
#include "prune.h"
#include "select.h"
#include "sha256.h"
#include "store.h"
#include "tree.h"
#include "unpack.h"
#include "util.h"
#include "view.h"
#include "layers.h"

/* another launch that unpacks is waited for this long, in tenths of a second; after that both go on, correct but slow */
enum { LOCK_TRIES = 600 };

/* a store that is removed while it is unpacked to is made anew so many times */
enum { VANISHED_TRIES = 10 };

struct lock {
	int fd;
	int held;
};

/* let one launch at a time unpack into a store, so that nothing is unpacked twice; correct without it, too */
static struct lock
lockstore(const struct store *store)
{
	struct lock lock = {.fd = openat(store->fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644)};
	const struct timespec pause = {.tv_nsec = 100000000};
	int tries;

	for (tries = 0; lock.fd >= 0 && !lock.held && tries < LOCK_TRIES; tries++) {
		lock.held = flock(lock.fd, LOCK_EX | LOCK_NB) == 0;
		if (lock.held || (errno != EWOULDBLOCK && errno != EINTR))
			break;
		nanosleep(&pause, NULL);
	}
	return lock;
}

/* the store, of those up to the last one, whose view can be used as it is; or NULL */
static struct store *
findview(struct work *w, uint32_t last)
{
	char made[64];
	uint32_t i;

	for (i = 0; i <= last; i++) {
		if (w->stores->list[i].fd < 0)
			continue;
		objectmade(w->stores->list[i].views, w->view, made);
		if (!*made || !istrusted(w, made))
			continue;
		if (!layerstrusted(w, i)) {
			w->changed = 1;
			continue;
		}
		if (viewleads(w->ar, w->sel->slice, w->stores, &w->stores->list[i], w->view))
			return &w->stores->list[i];
		/* somebody, or a program that removes old files, took a part */
		w->doubt = 1;
	}
	return NULL;
}

/* a view in this store whose layers are all there: kept if it is whole, else made */
static int
addview(struct work *w, struct store *store, struct fault *fault)
{
	uint32_t slice = w->sel->slice;
	char made[64];
	int unread = objectmade(store->views, w->view, made);

	if (*made && istrusted(w, made) && !w->changed)
		return 0;
	if (*made && viewholds(w->ar, slice, &w->host, w->verdict, &w->places, store, w->view)) {
		objectforget(store->views, w->view);
		viewbytecode(w->ar, slice, &w->places, store, w->view);
		objectmark(store->views, w->view, wholemark(w, made));
		return 0;
	}
	if (unread || objectremovestale(store->views, w->view, made) < 0) {
		errno = unread ? unread : errno;
		return fail(fault, STATUS_LAUNCHER, "remove a view that is damaged from store:");
	}
	return viewmake(w->ar, slice, &w->host, w->verdict, &w->places, store, w->view, w->boot, fault);
}

/* unpack into a store what is missing and link the view there */
static int
fillstore(struct work *w, struct store *store, uint32_t last, struct fault *fault)
{
	struct lock lock = lockstore(store);
	int failed;

	phaseended("lock the store");
	/* first, so that there is room */
	objectsweep(store->layers);
	objectsweep(store->views);
	planssweep(store->plans);
	w->locked = 1;
	phaseended("remove what is stale");
	/* what another launch unpacked in the meantime is there now */
	findlayers(w, last);
	failed = addlayers(w, store, fault);
	phaseended("unpack the layers that are missing");
	if (!failed)
		failed = addview(w, store, fault);
	phaseended("link the view");
	w->locked = 0;
	if (!failed && lock.held)
		prunedaily(store);
	phaseended("prune the store, once a day");
	closefd(&lock.fd);
	return failed;
}

/*
 * The store, of those that can only be read, that has all of it and where none of it was damaged since it was made: an
 * image's, say, that was filled on another machine. NULL with the fault.
 */
static struct store *
findwhole(struct work *w, struct fault *fault)
{
	struct store *store;
	char made[64];
	uint32_t i;

	for (i = 0; i < w->stores->count; i++) {
		store = &w->stores->list[i];
		if (store->fd < 0)
			continue;
		objectmade(store->views, w->view, made);
		if (*made && findlayers(w, i) == 0 &&
		    viewholds(w->ar, w->sel->slice, &w->host, w->verdict, &w->places, store, w->view))
			return store;
	}
	storesfail(w->stores, fault);
	return NULL;
}

/*
 * Find the view in the stores, or make it in the first that has room: the store it lies in, or NULL with the fault. A
 * store that turns out to be full gives way to the next one.
 */
static struct store *
makeready(struct work *w, struct fault *fault)
{
	uint32_t order[MAX_STORES], count, tries = 0;
	struct store *store;

	for (;;) {
		storesopen(w->stores, 1);
		count = storeswritable(w->stores, order);
		store = findview(w, count ? order[0] : w->stores->count - 1);
		phaseended("open stores, look for the view");
		if (store)
			return store;
		if (!count)
			return findwhole(w, fault);
		store = &w->stores->list[order[0]];
		if (storehasroom(store, findlayers(w, order[0]))) {
			errno = 0; /* a full store is told by it, and not every failure sets it */
			if (fillstore(w, store, order[0], fault) == 0)
				return store;
			if (errno == ENOENT && tries++ < VANISHED_TRIES) {
				/* somebody removed the store meanwhile: it is made once more */
				storeclose(store);
				continue;
			}
			if (errno != ENOSPC && errno != EDQUOT)
				return NULL;
			storerefuse(store, strerror(errno));
		}
	}
}

static void
planof(const struct work *w, const struct store *store, struct plan *plan)
{
	const struct archive *ar = w->ar;
	struct host *host = (struct host *)(uintptr_t)&w->host;
	uint32_t i;

	memset(plan, 0, sizeof(*plan));
	plan->view = xasprintf("%s/v1/views/%s/tree", store->base, w->view);
	plan->python = w->verdict->python == NONE ? xasprintf("%s/bin/python", plan->view) :
	                                            xstrdup(host->pythons[w->verdict->python].path);
	plan->slice = xstrdup(archivestring(ar, w->slice->name));
	plan->flag_count = w->slice->flag_count;
	plan->flags = xcalloc(plan->flag_count, sizeof(*plan->flags));
	for (i = 0; i < plan->flag_count; i++)
		plan->flags[i] = xstrdup(archivestring(ar, ar->refs[w->slice->first_flag + i]));
	plan->tool_count = ar->tool_count;
	plan->tools = xcalloc(plan->tool_count, sizeof(*plan->tools));
	for (i = 0; i < ar->tool_count; i++)
		plan->tools[i] = (struct plan_tool){
			xstrdup(archivestring(ar, ar->tools[i].name)), ar->tools[i].kind, xstrdup(archivestring(ar, ar->tools[i].target)),
		};
	plan->watches = host->watches;
	plan->watch_count = host->watch_count;
}

/* a layer that is taken away, by whatever cleans up old files, changes the directory of all of them */
static void
watchlayers(struct work *w, const struct store *last)
{
	const struct store *store;

	for (store = w->stores->list; store <= last; store++) {
		char *path CLEANUP(freemem) = store->fd < 0 ? NULL : xasprintf("%s/v1/layers", store->base);

		if (path)
			hostwatch(&w->host, path);
	}
}

static void
writeplan(struct work *w, const struct store *made, const struct plan *plan)
{
	uint32_t order[MAX_STORES], count = storeswritable(w->stores, order);
	const struct store *store = made->writable ? made : count ? &w->stores->list[order[0]] : NULL;
	char name[33];

	if (!store)
		return;
	planname(w->ar, &w->host, w->boot, w->host.path_consulted, name);
	planwrite(plan, store->plans, name);
}

int
prepare(struct archive *ar, struct stores *stores, const char *boot, struct plan *plan, struct fault *fault)
{
	struct work w = {.ar = ar, .stores = stores, .boot = boot};
	struct store *store;
	char *text, *python;
	mode_t mask;

	w.sel = xcalloc(1, sizeof(*w.sel));
	decide(&w.host, w.sel, ar);
	if (w.sel->slice == NONE) {
		text = refusaltext(ar, &w.host, w.sel);
		fail(fault, STATUS_UNFIT, "%s", text);
		snprintf(fault->hint, sizeof(fault->hint), "run with FATPAR=explain to see every slice");
		free(text);
		return -1;
	}
	w.slice = &ar->slices[w.sel->slice];
	w.verdict = &w.sel->verdicts[w.sel->slice];
	w.places.layers = xcalloc(ar->layer_count, sizeof(*w.places.layers));
	if (viewname(ar, w.sel->slice, &w.host, w.verdict, w.view, fault) < 0)
		return -1;
	/* modes in the store are what we say, whatever the user's mask; it is the application's again afterwards */
	mask = umask(0);
	store = makeready(&w, fault);
	if (store) {
		planof(&w, store, plan);
		/* the view with the interpreter behind it: gone, replaced or upgraded, the plan is void */
		python = xasprintf("%s/bin/python", plan->view);
		hostwatch(&w.host, python);
		free(python);
		watchlayers(&w, store);
		plan->watches = w.host.watches;
		plan->watch_count = w.host.watch_count;
		writeplan(&w, store, plan);
		phaseended("write the plan");
	}
	umask(mask);
	return store ? 0 : -1;
}
