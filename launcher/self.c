#include <fcntl.h>
#include <stdint.h>
#include <sys/auxv.h>
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
	if (fd < 0)
		return fail(fault, STATUS_LAUNCHER, "open the program's own file:");
	return abovestandard(fd);
}
