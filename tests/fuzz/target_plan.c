#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fuzz.h"
#include "host.h"
#include "plan.h"
#include "util.h"

static int
same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* both as a launch would take them */
static int
sameplan(const struct plan *a, const struct plan *b)
{
	uint32_t i;

	if (!same(a->view, b->view) || !same(a->python, b->python) || !same(a->slice, b->slice) ||
	    a->flag_count != b->flag_count || a->tool_count != b->tool_count || a->watch_count != b->watch_count)
		return 0;
	for (i = 0; i < a->flag_count; i++)
		if (!same(a->flags[i], b->flags[i]))
			return 0;
	for (i = 0; i < a->tool_count; i++)
		if (!same(a->tools[i].name, b->tools[i].name) || !same(a->tools[i].target, b->tools[i].target) ||
		    a->tools[i].kind != b->tools[i].kind)
			return 0;
	for (i = 0; i < a->watch_count; i++)
		if (!same(a->watches[i].path, b->watches[i].path) || a->watches[i].present != b->watches[i].present ||
		    a->watches[i].device != b->watches[i].device || a->watches[i].inode != b->watches[i].inode ||
		    a->watches[i].size != b->watches[i].size || a->watches[i].mtime != b->watches[i].mtime ||
		    a->watches[i].ctime != b->watches[i].ctime)
			return 0;
	return 1;
}

static void
forget(struct plan *p)
{
	free(p->flags);
	free(p->tools);
	free(p->watches);
}

/* what was read, written and read again is the same plan */
static void
writeagain(const struct plan *p)
{
	static int plans = -1;
	static char text[1 << 17];
	struct plan again;
	ssize_t n;
	int fd;

	if (plans < 0)
		plans = open(fuzzdirectory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	planwrite(p, plans, "plan");
	fd = openat(plans, "plan", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	closefd(&fd);
	PROMISE(n > 0 && n < (ssize_t)sizeof(text), "a plan of %zd bytes was written", n);
	PROMISE(planparse(&again, text, (size_t)n) && sameplan(p, &again), "a plan changes when it is written again");
	forget(&again);
}

void
fuzzplan(const uint8_t *data, size_t size)
{
	/* in memory of just this size, so that what reads on is seen */
	char *text CLEANUP(freemem) = xmalloc(size);
	struct plan p;
	uint32_t i;

	memcpy(text, data, size);
	if (planparse(&p, text, size)) {
		for (i = 0; i < p.watch_count; i++)
			watchholds(&p.watches[i]);
		writeagain(&p);
	}
	forget(&p);
}
