#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "fault.h"
#include "printable.h"
#include "util.h"

void
closefd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

void
freemem(void *p)
{
	free(*(void **)p);
}

static const char *speaker = "fatpar";

void
speakas(const char *name)
{
	speaker = name;
}

static void
outofmemory(void)
{
	static const char text[] = ": out of memory\n";

	/* in one piece, without memory */
	if (writev(2, (struct iovec[]){{(char *)(uintptr_t)speaker, strlen(speaker)}, {(char *)(uintptr_t)text, sizeof(text) - 1}}, 2) < 0)
		_exit(STATUS_LAUNCHER);
	_exit(STATUS_LAUNCHER);
}

int
writeall(int fd, const void *data, size_t n)
{
	const char *p = data;
	ssize_t k;

	while (n) {
		k = write(fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

void *
xmalloc(size_t n)
{
	void *p = malloc(n ? n : 1);

	if (!p)
		outofmemory();
	return p;
}

void *
xcalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		outofmemory();
	return p;
}

void *
xrealloc(void *p, size_t n)
{
	p = realloc(p, n ? n : 1);
	if (!p)
		outofmemory();
	return p;
}

char *
xstrdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(xmalloc(n), s, n);
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		outofmemory();
	s = xmalloc((size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return s;
}

int
readat(int fd, void *buf, size_t n, uint64_t offset)
{
	char *p = buf;
	ssize_t k;

	while (n) {
		k = pread(fd, p, n, (off_t)offset);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			if (k == 0)
				errno = 0;
			return -1;
		}
		p += k;
		n -= (size_t)k;
		offset += (uint64_t)k;
	}
	return 0;
}

int
fail(struct fault *fault, int status, const char *fmt, ...)
{
	int saved = errno;
	char *shown CLEANUP(freemem) = NULL;
	size_t n;
	va_list ap;

	fault->status = status;
	fault->hint[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(fault->what, sizeof(fault->what), fmt, ap);
	va_end(ap);
	/* names of an archive may stand in it */
	shown = printable(fault->what, '\n');
	snprintf(fault->what, sizeof(fault->what), "%s", shown);
	n = strlen(fault->what);
	if (n && fault->what[n - 1] == ':')
		snprintf(fault->what + n, sizeof(fault->what) - n, " %s", strerror(saved));
	errno = saved;
	return -1;
}

int
isnamed(int dir, const char *path)
{
	struct stat st;

	/* not faccessat, whose flags need Linux 5.8 */
	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
