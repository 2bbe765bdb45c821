#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "fuzz.h"
#include "object.h"
#include "util.h"

static const struct {
	const char *name;
	void (*run)(const uint8_t *, size_t);
} targets[] = {
	[FUZZ_ARCHIVE] = {"archive", fuzzarchive},
	[FUZZ_ELF] = {"elf", fuzzelf},
	[FUZZ_PLAN] = {"plan", fuzzplan},
	[FUZZ_UNPACK] = {"unpack", fuzzunpack},
};

enum fuzz_target
fuzztarget(void)
{
	const char *name = getenv("FUZZ");
	size_t i;

	for (i = 0; name && i < COUNTOF(targets); i++)
		if (strcmp(targets[i].name, name) == 0)
			return (enum fuzz_target)i;
	fprintf(stderr, "FUZZ must be archive, elf, plan or unpack\n");
	exit(2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int target = -1;

	if (target < 0)
		target = (int)fuzztarget();
	PROMISE(!getenv("FUZZ_ALARM"), "FUZZ_ALARM is set, to see what a find looks like");
	targets[target].run(data, size);
	return 0;
}

int
fuzzfile(const uint8_t *data, size_t size)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("input", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
		perror("input");
		exit(2);
	}
	return fd;
}

static char *directory;

static void
cleardirectory(void)
{
	removetree(AT_FDCWD, directory);
}

const char *
fuzzdirectory(void)
{
	const char *parent = getenv("TMPDIR");

	if (directory)
		return directory;
	directory = xasprintf("%s/fuzz-XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(directory)) {
		perror(directory);
		exit(2);
	}
	atexit(cleardirectory);
	return directory;
}

int
issmall(const struct archive *ar)
{
	enum { BYTES = 1 << 22, BLOBS = 1 << 25 };
	uint64_t bytes = 0, blobs = 0;
	uint32_t i, k;

	for (i = 0; i < ar->layer_count && bytes <= BYTES; i++)
		bytes += ar->layers[i].size;
	for (i = 0; i < ar->blob_count; i++) {
		blobs += ar->blobs[i].raw_size;
		for (k = 0; k < ar->blobs[i].base_count; k++)
			blobs += ar->blobs[ar->blobs[i].bases[k]].raw_size;
	}
	return bytes <= BYTES && blobs <= BLOBS;
}
