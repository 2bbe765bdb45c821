/* inputs once each, in the order of the arguments: measures coverage without libFuzzer */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fuzz.h"
#include "util.h"

int
main(int argc, char *argv[])
{
	int i;

	/* what is printed of archives is no output here */
	if (!freopen("/dev/null", "w", stdout))
		return 2;
	for (i = 1; i < argc; i++) {
		int fd CLEANUP(closefd) = open(argv[i], O_RDONLY | O_CLOEXEC);
		uint8_t *data CLEANUP(freemem) = NULL;
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0) {
			perror(argv[i]);
			return 2;
		}
		data = xmalloc((size_t)st.st_size);
		if (read(fd, data, (size_t)st.st_size) != st.st_size) {
			perror(argv[i]);
			return 2;
		}
		LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	}
	return 0;
}
