/*
 * Fuzzers of what the launcher reads and nobody vouches for: one program, whose environment variable FUZZ names the
 * target. An input is what the launcher would be given, a whole archive, ELF file or plan, so that a find can be given
 * to a launcher as it is. Digests would refuse nearly every change at once: mutate.c makes them right again.
 */

struct archive;

/* run one input: what it does wrong ends the process */
void fuzzarchive(const uint8_t *, size_t);
void fuzzelf(const uint8_t *, size_t);
void fuzzplan(const uint8_t *, size_t);
void fuzzunpack(const uint8_t *, size_t);

enum fuzz_target { FUZZ_ARCHIVE, FUZZ_ELF, FUZZ_PLAN, FUZZ_UNPACK };

/* what FUZZ says */
enum fuzz_target fuzztarget(void);

/* a file without a name that has these bytes, the same descriptor each time */
int fuzzfile(const uint8_t *, size_t);

/* a directory of this process alone, which is gone when it ends well: its absolute path */
const char *fuzzdirectory(void);

/* whether unpacking takes so little that thousands of it can be tried; what is beyond is for tests with a clock */
int issmall(const struct archive *);

/* a promise that the code breaks: ends the process with these words, for libFuzzer to keep the input */
#define PROMISE(holds, ...) \
	do { \
		if (!(holds)) { \
			fprintf(stderr, "broken promise: " __VA_ARGS__); \
			fprintf(stderr, "\n"); \
			abort(); \
		} \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);
