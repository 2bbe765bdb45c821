#include <stdio.h>
#include <time.h>
#include "phases.h"

/* a launch that makes a store anew has the most: each try has a dozen */
enum { MAX_PHASES = 64 };

static struct {
	const char *name;
	struct timespec begun, last;
	struct {
		const char *what;
		long long us;
	} list[MAX_PHASES];
	int count, told;
} phases;

static long long
since(const struct timespec *then, const struct timespec *now)
{
	return (now->tv_sec - then->tv_sec) * 1000000LL + (now->tv_nsec - then->tv_nsec) / 1000;
}

void
phasesbegin(const char *name)
{
	phases.name = name;
	clock_gettime(CLOCK_MONOTONIC, &phases.begun);
	phases.last = phases.begun;
}

void
phasesname(const char *name)
{
	if (phases.name)
		phases.name = name;
}

int
phasesasked(void)
{
	return phases.name != NULL;
}

void
phaseended(const char *what)
{
	struct timespec now;

	if (!phases.name || phases.count == MAX_PHASES)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	phases.list[phases.count].what = what;
	phases.list[phases.count++].us = since(&phases.last, &now);
	phases.last = now;
}

void
phasestell(void)
{
	if (!phases.name || phases.told == phases.count)
		return;
	for (; phases.told < phases.count; phases.told++)
		fprintf(stderr, "%s: time: %9lld us  %s\n", phases.name, phases.list[phases.told].us, phases.list[phases.told].what);
	fprintf(stderr, "%s: time: %9lld us  launcher in all, until execve\n", phases.name, since(&phases.begun, &phases.last));
}
