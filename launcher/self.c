#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>
#include "fault.h"
#include "self.h"
#include "util.h"

/* nothing of ours may get number 0, 1 or 2, where a message would be written into it */
static int
abovestandard(int fd)
{
	int moved;

	if (fd < 0 || fd > 2)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	close(fd);
	while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && fd < 3)
		;
	closefd(&fd);
	return moved;
}

static int
openfailed(struct fault *fault)
{
	int denied = errno == EACCES;

	fail(fault, STATUS_LAUNCHER, "open the program's own file:");
	if (denied)
		snprintf(fault->hint, sizeof(fault->hint), "whoever executes it has to be able to read it, too: chmod a+r");
	return -1;
}

int
selfopen(const char *argv0, struct fault *fault)
{
	const char *name;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		/* no /proc: what the kernel was given to execute; relative names are relative to where we still are */
		name = (const char *)(uintptr_t)getauxval(AT_EXECFN);
		fd = open(name && *name ? name : argv0, O_RDONLY | O_CLOEXEC);
	}
	return fd < 0 ? openfailed(fault) : abovestandard(fd);
}

int
selfopenpath(const char *path, struct fault *fault)
{
	/* a pipe that nobody writes to must not be waited for */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	return fd < 0 ? openfailed(fault) : abovestandard(fd);
}

/* from the file, since the pages that are mapped would be fetched one by one; never written to, so they are the same */
static int
keepsegment(int fd, char *start, size_t size, uint64_t offset, int protection, struct fault *fault)
{
	char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (copy == MAP_FAILED)
		return 0;
	if (readat(fd, copy, size, offset) < 0)
		return fail(fault, STATUS_LAUNCHER, "archive cannot be read: launcher: %s",
		            errno ? strerror(errno) : "it is cut short");
	__builtin___clear_cache(copy, copy + size);
	/* in one step, since this code is in there, too */
	if (mprotect(copy, size, protection) < 0 || mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, start) == MAP_FAILED)
		munmap(copy, size);
	return 0;
}

int
selfkeep(int fd, struct fault *fault)
{
	const ElfW(Phdr) *all = (const void *)(uintptr_t)getauxval(AT_PHDR), *ph;
	size_t count = getauxval(AT_PHNUM), page = getauxval(AT_PAGESZ), before, size;
	uintptr_t base = 0;

	for (ph = all; ph < all + count; ph++)
		if (ph->p_type == PT_PHDR)
			base = (uintptr_t)all - ph->p_vaddr;
	for (ph = all; ph < all + count; ph++) {
		if (ph->p_type != PT_LOAD || ph->p_flags & PF_W)
			continue;
		before = ph->p_offset % page;
		size = (before + ph->p_filesz + page - 1) / page * page;
		if (keepsegment(fd, (char *)base + ph->p_vaddr - before, size, ph->p_offset - before,
		                PROT_READ | (ph->p_flags & PF_X ? PROT_EXEC : 0), fault) < 0)
			return -1;
	}
	return 0;
}
