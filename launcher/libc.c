#include <libgen.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "elffile.h"
#include "host.h"
#include "ldcache.h"
#include "libc.h"
#include "util.h"

static uint32_t
versionof(unsigned major, unsigned minor)
{
	return major << 16 | minor << 8;
}

/* memmem(), which in zig's C library takes 10 ns for each byte it passes over: 20 ms for a libc.so.6 */
static const char *
find(const struct elf *e, const char *what)
{
	const uint8_t *p = e->data, *end = e->data + e->size;
	size_t n = strlen(what);

	for (; (size_t)(end - p) >= n && (p = memchr(p, *what, (size_t)(end - p) - n + 1)); p++)
		if (memcmp(p, what, n) == 0)
			return (const char *)p;
	return NULL;
}

/*
 * "GNU C Library (Debian GLIBC 2.31-13) stable release version 2.31." is in every libc.so.6. Its nodes say less: 2.31
 * added one to libpthread only, 2.37 none at all; they are for a library whose banner a distributor took out.
 */
static uint32_t
glibcversion(const struct elf *e)
{
	static const char banner[] = "release version ";
	const char *found = find(e, banner), *end = (const char *)e->data + e->size, *node;
	uint32_t version = 0, i;
	unsigned major, minor;
	char text[16] = "";

	if (found && (size_t)(end - found) > sizeof(banner) + sizeof(text))
		memcpy(text, found + sizeof(banner) - 1, sizeof(text) - 1);
	if (sscanf(text, "%u.%u", &major, &minor) == 2 && major < 256 && minor < 256)
		version = versionof(major, minor);
	for (i = 0; (node = elfnode(e, i)); i++)
		if (sscanf(node, "GLIBC_%u.%u", &major, &minor) == 2 && major < 256 && minor < 256 &&
		    versionof(major, minor) > version)
			version = versionof(major, minor);
	return version;
}

/* the musl loader carries its release as a string, "1.2.3", and nothing else that tells it */
static uint32_t
muslversion(const struct elf *e)
{
	const uint8_t *p = e->data, *end = e->data + e->size;
	unsigned major, minor, patch;
	char text[16];

	for (; end - p > 12 && (p = memchr(p, '.', (size_t)(end - p - 12))); p++) {
		if (p - e->data < 2 || p[-1] != '1' || p[-2] != '\0')
			continue;
		memcpy(text, p - 1, sizeof(text) - 4);
		text[sizeof(text) - 4] = '\0';
		if (sscanf(text, "%u.%u.%u", &major, &minor, &patch) == 3 && minor < 10)
			return versionof(major, minor);
	}
	return 0;
}

static uint32_t
addlibc(struct host *host, enum libc_family family, const char *path)
{
	struct elf e;
	uint32_t version, i;

	for (i = 0; i < host->libc_count; i++)
		if (strcmp(host->libcs[i].path, path) == 0)
			return i;
	if (elfopen(&e, path) != ELF_OK)
		return NONE;
	version = family == LIBC_GLIBC ? glibcversion(&e) : muslversion(&e);
	elfclose(&e);
	hostwatch(host, path);
	return hostaddlibc(host, family, version, path);
}

uint32_t
libcof(struct host *host, const char *interp)
{
	char *loader CLEANUP(freemem) = *interp == '/' ? realpath(interp, NULL) : NULL;
	char *path CLEANUP(freemem) = NULL;

	if (!loader)
		return NONE;
	/* by the name the program asks for: a host may have both loaders, or a stub of the other one */
	if (strstr(interp, "ld-musl"))
		return addlibc(host, LIBC_MUSL, loader);
	path = xasprintf("%s/libc.so.6", dirname(loader));
	return addlibc(host, LIBC_GLIBC, path);
}

/* where programs that were built elsewhere look for their loader */
static const char *const loaders[] = {
	"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1",
};

/* not one of /nix/store: at the place of the usual loader a host may have another C library's, or a stub that refuses */
static int
isusual(const char *interp)
{
	size_t i;

	for (i = 0; i < COUNTOF(loaders); i++)
		if (strcmp(interp, loaders[i]) == 0)
			return 1;
	return 0;
}

void
libcfind(struct host *host)
{
	/* distroless images have no shell and /bin/sh may be a script or static: ask several, then the loaders' places */
	static const char *const programs[] = {"/bin/sh", "/usr/bin/env", "/bin/dash", "/bin/ls", "/bin/busybox"};
	struct elf e;
	uint32_t index;
	size_t i;

	for (i = 0; i < COUNTOF(programs); i++) {
		if (elfopen(&e, programs[i]) != ELF_OK)
			continue;
		index = e.machine == host->machine && isusual(e.interp) ? libcof(host, e.interp) : NONE;
		elfclose(&e);
		if (index != NONE)
			return;
	}
	for (i = 0; i < COUNTOF(loaders); i++)
		if (elfopen(&e, loaders[i]) == ELF_OK) {
			index = e.machine == host->machine ? libcof(host, loaders[i]) : NONE;
			elfclose(&e);
			if (index != NONE)
				return;
		}
}

/* where libraries are where there is no cache, or it is old */
static const char *const librarydirs[] = {
#if defined(__x86_64__)
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64",
#elif defined(__aarch64__)
	"/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64",
#endif
	"/lib", "/usr/lib", "/usr/local/lib",
};

char *
libraryfind(const struct host *host, uint32_t index, const char *soname)
{
	char *dir CLEANUP(freemem) = NULL;
	char *path;
	size_t i;

	if (strchr(soname, '/'))
		return NULL;
	if (index < host->libc_count) {
		dir = xstrdup(host->libcs[index].path);
		path = xasprintf("%s/%s", dirname(dir), soname);
		if (access(path, R_OK) == 0)
			return path;
		free(path);
	}
	path = ldcachefind(soname, host->machine);
	if (path && access(path, R_OK) == 0)
		return path;
	free(path);
	for (i = 0; i < COUNTOF(librarydirs); i++) {
		path = xasprintf("%s/%s", librarydirs[i], soname);
		if (access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* a library that is installed later, or where it is found sooner, changes one of these */
static void
watchplaces(struct host *host, uint32_t index)
{
	char *dir CLEANUP(freemem) = xstrdup(host->libcs[index].path);
	size_t i;

	hostwatch(host, dirname(dir));
	hostwatch(host, "/etc/ld.so.cache");
	for (i = 0; i < COUNTOF(librarydirs); i++)
		hostwatch(host, librarydirs[i]);
}

static int
isbeside(const char *path, const char *libc)
{
	size_t n = (size_t)(strrchr(libc, '/') - libc) + 1;

	return strncmp(path, libc, n) == 0 && !strchr(path + n, '/');
}

/* add a library and all nodes it defines, if the host has it for its own machine */
static void
readlibrary(struct host *host, uint32_t index, const char *soname)
{
	char *path CLEANUP(freemem) = libraryfind(host, index, soname);
	struct elf e;
	const char *node;
	uint32_t i;

	if (!path || !isbeside(path, host->libcs[index].path))
		watchplaces(host, index);
	if (!path || elfopen(&e, path) != ELF_OK)
		return;
	if (e.machine == host->machine) {
		hostaddlibrary(host, index, soname);
		for (i = 0; (node = elfnode(&e, i)); i++)
			hostaddnode(host, index, soname, node);
		hostwatch(host, path);
	}
	elfclose(&e);
}

void
libcread(struct host *host, const struct archive *ar)
{
	const struct need *n;
	uint32_t i, k;

	for (k = 0; k < host->libc_count; k++)
		for (i = 0; i < ar->need_count; i++) {
			n = &ar->needs[i];
			if ((n->kind == NEED_NODE || n->kind == NEED_LIBRARY) && !libchas(&host->libcs[k], archivestring(ar, n->name)))
				readlibrary(host, k, archivestring(ar, n->name));
		}
}
