/*
 * The launcher: decides what to execute, makes it ready if it is not, and becomes it. Memory and descriptors are left
 * to the kernel, since the program ends or is replaced in a moment.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "control.h"
#include "exec.h"
#include "fault.h"
#include "front.h"
#include "host.h"
#include "phases.h"
#include "plan.h"
#include "prepare.h"
#include "self.h"
#include "store.h"
#include "util.h"

/* a store that is removed between its making and its use is made anew so many times */
enum { REMOVED_TRIES = 3 };

/* speak under the application's name: that is what the user started */
static const char *name;

static const char *
basenameof(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int
complain(const struct fault *fault)
{
	const char *line = fault->what;
	size_t n;

	for (; *line; line += n + (line[n] == '\n')) {
		n = strcspn(line, "\n");
		fprintf(stderr, "%s: %.*s\n", name, (int)n, line);
	}
	if (*fault->hint)
		fprintf(stderr, "%s: hint: %s\n", name, fault->hint);
	return fault->status;
}

/* reads of a file whose server is gone may end early, or bring zeros: it only looks damaged then */
static void
blame(const struct archive *ar, struct fault *fault)
{
	if (fault->status != STATUS_LAUNCHER || archivestill(ar))
		return;
	fail(fault, STATUS_LAUNCHER, "archive cannot be read to its end: %s",
	     errno ? strerror(errno) : "it is no longer the file that was opened");
	snprintf(fault->hint, sizeof(fault->hint), "is the filesystem that it lies on still there? the next launch begins anew");
}

static int
readindex(struct archive *ar, struct fault *fault)
{
	enum archive_status status = archiveindex(ar);

	return status ? archivefault(ar, status, fault) : 0;
}

/* the plan of an earlier launch, in the stores' order; its name has PATH in it only if PATH had a part in it */
static int
findplan(struct plan *plan, const struct archive *ar, const struct stores *stores, const char *boot)
{
	struct host host;
	char plain[33], path[33];
	uint32_t i;

	hostbasics(&host);
	planname(ar, &host, boot, 0, plain);
	planname(ar, &host, boot, 1, path);
	for (i = 0; i < stores->count; i++) {
		if (planread(plan, stores->list[i].base, plain) || planread(plan, stores->list[i].base, path))
			return 1;
		if (storeisfirst(&stores->list[i]))
			return 0;
	}
	return 0;
}

static void
callit(int argc, char *argv[])
{
	name = argc > 0 && *argv[0] ? basenameof(argv[0]) : "fatpar";
	speakas(name);
}

/* the launcher that a front has unpacked is kept, in the store that is used now that it is known to be of use */
static void
keep(const struct front *front, struct stores *stores)
{
	struct stat st;

	if (!front->unkept || fstat(front->launcher, &st) < 0)
		return;
	storesopen(stores, 0);
	frontkeep(stores, front->launcher, 0, (uint64_t)st.st_size);
	phaseended("keep the launcher for the next launch");
}

int
main(int argc, char *argv[])
{
	struct front front = {.launcher = -1};
	struct archive ar;
	struct plan plan;
	struct stores stores;
	struct fault fault;
	enum archive_status status;
	const char *word = getenv("FATPAR");
	char boot[64];
	int fd, archive, result, tries;

	callit(argc, argv);
	if (word && strcmp(word, "time") == 0) {
		phasesbegin(name);
		word = NULL;
	}
	if (getauxval(AT_SECURE)) {
		fail(&fault, STATUS_LAUNCHER, "a packed program cannot be set-user-ID, set-group-ID or have capabilities");
		return complain(&fault);
	}

	/* read self */
	fd = selfopen(argc > 0 ? argv[0] : "", &fault);
	if (fd < 0)
		return complain(&fault);
	phaseended("open itself");
	status = archiveopen(&ar, fd);
	/* told by the file alone, never by what a user can set: one that was an archive of its own is none of these */
	if (status == ARCHIVE_FOREIGN && frontmarked(fd)) {
		if (argc == 3 && strcmp(argv[1], "check") == 0)
			return frontcheck(fd, argv[2], &fault) < 0 ? fault.status : 0;
		archive = frontbegin(&front, fd, &argc, &argv, &fault);
		callit(argc, argv);
		phasesname(name);
		if (archive < 0)
			return complain(&fault);
		phaseended("open the archive");
		status = archiveopen(&ar, archive);
	}
	if (status) {
		fail(&fault, STATUS_LAUNCHER, "%s", archivedescribe(&ar, status));
		/* it was one when it got its launcher */
		if (status == ARCHIVE_FOREIGN)
			snprintf(fault.hint, sizeof(fault.hint), "strip, objcopy and downloads that broke off take a file's end away: get it again");
		return complain(&fault);
	}
	phaseended("read the trailer");
	if (word && *word) {
		result = control(word, name, &ar, argc, argv, &fault);
		if (result == 0 && (fflush(stdout) || ferror(stdout)))
			result = fail(&fault, STATUS_LAUNCHER, "write to standard output:");
		return result < 0 ? complain(&fault) : result;
	}

	/* packed programs that this one starts must not obey it */
	unsetenv("FATPAR");

	/* warm: what an earlier launch decided; if what it made is gone, decide again */
	bootid(boot);
	storescandidates(&stores);
	if (findplan(&plan, &ar, &stores, boot)) {
		phaseended("find the plan of an earlier launch");
		keep(&front, &stores);
		execplan(&plan, argc, argv, &fault);
	} else {
		phaseended("look for a plan: there is none that holds");
	}

	/* cold; and once more if somebody removed the store before it was used */
	if (selfkeep(fd, &fault) < 0 || readindex(&ar, &fault) < 0) {
		blame(&ar, &fault);
		return complain(&fault);
	}
	phaseended("keep itself in memory, read the index");
	for (tries = 0; tries < REMOVED_TRIES; tries++) {
		if (prepare(&ar, &stores, boot, &plan, &fault) < 0) {
			blame(&ar, &fault);
			return complain(&fault);
		}
		keep(&front, &stores);
		execplan(&plan, argc, argv, &fault);
		storesforget(&stores);
	}
	return complain(&fault);
}
