#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <elf.h>
#include "fatpar.h"
#include "archive.h"
#include "cpu.h"
#include "host.h"
#include "libc.h"
#include "pythons.h"
#include "util.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#error "not a machine fatpar has a launcher for"
#endif

/* room for one more record at the end of a table that grows by doubling */
#define GROW(table, count) \
	do { \
		if (((count) & ((count) - 1)) == 0) \
			(table) = xrealloc((table), ((count) ? 2 * (size_t)(count) : 1) * sizeof(*(table))); \
	} while (0)

/* "4.18.0-553.el8" as 4 << 16 | 18 << 8 | 0 */
static uint32_t
kernelversion(const char *release)
{
	uint32_t version = 0;
	unsigned long part;
	char *end;
	int i;

	for (i = 0; i < 3; i++) {
		part = strtoul(release, &end, 10);
		version = version << 8 | (uint32_t)(part > 255 ? 255 : part);
		release = *end == '.' ? end + 1 : end;
	}
	return version;
}

void
hostbasics(struct host *host)
{
	struct utsname u;

	memset(host, 0, sizeof(*host));
	/* the launcher's own machine, not uname's: personality(PER_LINUX32) and emulators make that one lie */
	host->machine = MACHINE;
	memset(&u, 0, sizeof(u));
	uname(&u);
	host->release = xstrdup(u.release);
	host->kernel = kernelversion(u.release);
	host->cpu = cpulevel(&host->cpu_features);
}

void
hostset(struct host *host, uint16_t machine, const char *release, uint32_t cpu)
{
	memset(host, 0, sizeof(*host));
	host->machine = machine;
	host->release = xstrdup(release);
	host->kernel = kernelversion(release);
	host->cpu = cpu;
}

void
hostprobe(struct host *host, const struct archive *ar)
{
	hostbasics(host);
	libcfind(host);
	pythonsfind(host, ar);
	libcread(host, ar);
}

void
hostprobepath(struct host *host, const struct archive *ar)
{
	pythonsfindonpath(host, ar);
	libcread(host, ar);
}

uint32_t
hostaddlibc(struct host *host, enum libc_family family, uint32_t version, const char *path)
{
	GROW(host->libcs, host->libc_count);
	host->libcs[host->libc_count] = (struct libc){.family = family, .version = version, .path = xstrdup(path)};
	return host->libc_count++;
}

void
hostaddnode(struct host *host, uint32_t index, const char *library, const char *name)
{
	struct libc *c = &host->libcs[index];

	GROW(c->nodes, c->node_count);
	c->nodes[c->node_count++] = (struct node){xstrdup(library), xstrdup(name)};
}

void
hostaddlibrary(struct host *host, uint32_t index, const char *soname)
{
	struct libc *c = &host->libcs[index];

	GROW(c->libraries, c->library_count);
	c->libraries[c->library_count++] = xstrdup(soname);
}

uint32_t
hostaddpython(struct host *host, const char *path, const char *abi, uint32_t version, uint32_t libc, const char *stdlib)
{
	char *real = realpath(path, NULL);

	GROW(host->pythons, host->python_count);
	host->pythons[host->python_count] = (struct python){
		.path = xstrdup(path), .real = real ? real : xstrdup(path), .abi = xstrdup(abi), .version = version,
		.libc = libc, .stdlib = xstrdup(stdlib),
	};
	return host->python_count++;
}

void
hostaddlack(struct host *host, uint32_t index, const char *module)
{
	struct python *py = &host->pythons[index];

	GROW(py->lacks, py->lack_count);
	py->lacks[py->lack_count++] = xstrdup(module);
}

static void
look(struct watch *w)
{
	struct stat st;

	memset(&st, 0, sizeof(st));
	w->present = stat(w->path, &st) == 0;
	w->device = st.st_dev;
	w->inode = st.st_ino;
	/* a directory's size says nothing that its times do not */
	w->size = S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size;
	w->mtime = st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	w->ctime = st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
}

void
hostwatch(struct host *host, const char *path)
{
	struct watch w = {.path = (char *)(uintptr_t)path};
	uint32_t i;

	for (i = 0; i < host->watch_count; i++)
		if (strcmp(host->watches[i].path, path) == 0)
			return;
	look(&w);
	w.path = xstrdup(path);
	GROW(host->watches, host->watch_count);
	host->watches[host->watch_count++] = w;
}

int
watchholds(const struct watch *w)
{
	struct watch now = {.path = w->path};

	look(&now);
	return now.present == w->present && now.device == w->device && now.inode == w->inode && now.size == w->size &&
	       now.mtime == w->mtime && now.ctime == w->ctime;
}

int
libchas(const struct libc *c, const char *soname)
{
	uint32_t i;

	for (i = 0; i < c->library_count; i++)
		if (strcmp(c->libraries[i], soname) == 0)
			return 1;
	return 0;
}

void
hostfree(struct host *host)
{
	uint32_t i, k;

	for (i = 0; i < host->libc_count; i++) {
		for (k = 0; k < host->libcs[i].node_count; k++) {
			free(host->libcs[i].nodes[k].library);
			free(host->libcs[i].nodes[k].name);
		}
		for (k = 0; k < host->libcs[i].library_count; k++)
			free(host->libcs[i].libraries[k]);
		free(host->libcs[i].nodes);
		free(host->libcs[i].libraries);
		free(host->libcs[i].path);
	}
	for (i = 0; i < host->python_count; i++) {
		for (k = 0; k < host->pythons[i].lack_count; k++)
			free(host->pythons[i].lacks[k]);
		free(host->pythons[i].lacks);
		free(host->pythons[i].path);
		free(host->pythons[i].real);
		free(host->pythons[i].abi);
		free(host->pythons[i].stdlib);
	}
	for (i = 0; i < host->watch_count; i++)
		free(host->watches[i].path);
	free(host->libcs);
	free(host->pythons);
	free(host->watches);
	free(host->release);
	memset(host, 0, sizeof(*host));
}
