#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>
#include "elffile.h"
#include "fuzz.h"
#include "pythons.h"
#include "util.h"

/*
 * A mapping ends with its page, behind the file's end: AddressSanitizer is told where that is, so that it sees what the
 * processor would not. The linker leads elffile.c here (--wrap).
 */
void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);
int __real_munmap(void *, size_t);
int __wrap_munmap(void *, size_t);

/* from the end of a mapping to that of its last page */
static size_t
tail(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (page - n % page) % page;
}

void *
__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	char *p = __real_mmap(at, n, protection, flags, fd, offset);

	if (p != MAP_FAILED && fd >= 0)
		ASAN_POISON_MEMORY_REGION(p + n, tail(n));
	return p;
}

int
__wrap_munmap(void *p, size_t n)
{
	ASAN_UNPOISON_MEMORY_REGION((char *)p + n, tail(n));
	return __real_munmap(p, n);
}

void
fuzzelf(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"Py_Version", "one", "two", "", "PyUnicodeUCS4_AsUTF8String"};
	uint32_t i, value, version;
	char path[40], tag[16];
	struct elf e;
	size_t sum = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fuzzfile(data, size));
	if (elfopen(&e, path) != ELF_OK) {
		PROMISE(!e.data, "a refused file stays mapped");
		return;
	}
	sum += strlen(e.interp) + strlen(e.soname) + strlen(e.rpath);
	for (i = 0; i < e.needed_count; i++)
		sum += strlen(e.needed[i]);
	/* each is counted for from the first: all of them only where they are few */
	for (i = 0; i < 64 && elfnode(&e, i); i++)
		sum += strlen(elfnode(&e, i));
	PROMISE(!elfnode(&e, UINT32_MAX), "there is always one more node");
	for (i = 0; i < COUNTOF(names); i++)
		sum += (size_t)elfexports(&e, names[i], &value) + value;
	if (pythonidentify(&e, tag, &version) == 0)
		PROMISE(strncmp(tag, "cp", 2) == 0 && strlen(tag) < sizeof(tag), "\"%s\" is no tag", tag);
	elfclose(&e);
	PROMISE(sum != SIZE_MAX, "never");
}
