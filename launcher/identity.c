#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "elffile.h"
#include "fault.h"
#include "identity.h"
#include "object.h"
#include "util.h"

/* shim.c, compiled for this machine */
__asm__(".section .rodata.shim,\"a\",%progbits\n"
        ".hidden shimstart\n.globl shimstart\nshimstart:\n.incbin \"" SHIM "\"\n"
        ".hidden shimend\n.globl shimend\nshimend:\n.previous");
extern const uint8_t shimstart[], shimend[];

/* whether a loader loads this interpreter, one that obeys LD_PRELOAD; -1 where that cannot be told */
static int
isloaded(const char *python)
{
	struct elf e;
	enum elf_status status = elfopen(&e, python);
	/* one with capabilities is executed without LD_PRELOAD */
	int loaded = status == ELF_OK && *e.interp && getxattr(python, "security.capability", NULL, 0) <= 0;

	elfclose(&e);
	return status == ELF_UNREADABLE ? -1 : loaded;
}

int
identitymake(struct object *o, const char *python, struct fault *fault)
{
	const size_t size = (size_t)(shimend - shimstart);
	int fd CLEANUP(closefd) = -1, loaded = isloaded(python);

	/* a view without it would stay so */
	if (loaded < 0)
		return fail(fault, STATUS_LAUNCHER, "read %s:", python);
	if (!loaded)
		return 0;
	fd = openat(o->fd, SHIM_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0 || writeall(fd, shimstart, size) < 0)
		return fail(fault, STATUS_LAUNCHER, "write %s to store:", SHIM_FILE);
	return 0;
}

int
identityholds(int views, const char *name, const char *python)
{
	const size_t size = (size_t)(shimend - shimstart);
	char *path CLEANUP(freemem) = xasprintf("%s/%s", name, SHIM_FILE);
	int fd CLEANUP(closefd) = openat(views, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char *found CLEANUP(freemem) = xmalloc(size + 1);

	if (fd < 0)
		return isloaded(python) == 0;
	return read(fd, found, size + 1) == (ssize_t)size && memcmp(found, shimstart, size) == 0;
}

/* whether a loader takes a path in LD_PRELOAD for one path and as it is */
static int
isplain(const char *path)
{
	return !strpbrk(path, ": \t\n$");
}

char **
identityenviron(const char *view, char **environment)
{
	const size_t root = strlen(view) - strlen("/tree"), name = strlen(SHIM_VARIABLE);
	char *shim CLEANUP(freemem) = xasprintf("%.*s/%s", (int)root, view, SHIM_FILE), **copy;
	const char *users = NULL;
	size_t n, i, k;

	if (!isplain(shim) || access(shim, R_OK) < 0)
		return environment;
	for (n = 0; environment[n]; n++)
		;
	copy = xcalloc(n + 2, sizeof(*copy));
	for (i = k = 0; i < n; i++) {
		/* nobody but us names a variable so */
		if (strncmp(environment[i], SHIM_KEPT, name) == 0)
			continue;
		copy[k] = environment[i];
		if (strncmp(copy[k++], SHIM_VARIABLE, name) != 0)
			continue;
		/* a sanitizer that is preloaded wants to be the first */
		users = copy[k - 1] + name;
		copy[k - 1] = xasprintf("%s%s", SHIM_KEPT, users);
	}
	copy[k] = users && *users ? xasprintf("%s%s:%s", SHIM_VARIABLE, users, shim) : xasprintf("%s%s", SHIM_VARIABLE, shim);
	return copy;
}
