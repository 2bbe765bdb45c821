#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ldcache.h"
#include "util.h"

/* glibc's dl-cache.h: an old table may come first, its entries of 12 bytes behind 16 bytes of head */
#define OLD_MAGIC "ld.so-1.7.0"
#define NEW_MAGIC "glibc-ld.so.cache1.1"
enum { NEW_HEAD = 48, NEW_ENTRY = 24, FLAGS_X86_64 = 0x0303, FLAGS_AARCH64 = 0x0a03 };

static uint32_t
get32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return n;
}

static const char *
stringat(const uint8_t *table, size_t size, uint32_t offset)
{
	return offset < size && memchr(table + offset, '\0', size - offset) ? (const char *)table + offset : "";
}

char *
ldcachesearch(const uint8_t *cache, size_t size, const char *soname, uint16_t machine)
{
	uint32_t flags = machine == EM_AARCH64 ? FLAGS_AARCH64 : FLAGS_X86_64, count, i;
	const uint8_t *entry;
	uint64_t skip;

	if (size >= 16 && memcmp(cache, OLD_MAGIC, sizeof(OLD_MAGIC) - 1) == 0) {
		skip = (16 + 12 * (uint64_t)get32(cache + 12) + 7) & ~(uint64_t)7;
		if (skip > size)
			return NULL;
		cache += skip;
		size -= skip;
	}
	if (size < NEW_HEAD || memcmp(cache, NEW_MAGIC, sizeof(NEW_MAGIC) - 1) != 0)
		return NULL;
	count = get32(cache + 20);
	for (i = 0; i < count && NEW_HEAD + (uint64_t)NEW_ENTRY * (i + 1) <= size; i++) {
		entry = cache + NEW_HEAD + (size_t)NEW_ENTRY * i;
		/* entries with a hwcap, which stand first, are variants for better CPUs; the plain one is always there too */
		if (get32(entry) == flags && !get32(entry + 16) && !get32(entry + 20) &&
		    strcmp(stringat(cache, size, get32(entry + 4)), soname) == 0)
			return xstrdup(stringat(cache, size, get32(entry + 8)));
	}
	return NULL;
}

char *
ldcachefind(const char *soname, uint16_t machine)
{
	int fd CLEANUP(closefd) = open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *path;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		return NULL;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	path = ldcachesearch(p, (size_t)st.st_size, soname, machine);
	munmap(p, (size_t)st.st_size);
	return path;
}
