/*
 * Open the file this program was started from, once: a descriptor above 2 that does not survive exec, or -1 with the
 * fault. The standard descriptors that were closed at the start stay so for the application.
 */
struct fault;
int selfopen(const char *argv0, struct fault *);

/* the same for a file of this path, which a front has named as the program's */
int selfopenpath(const char *path, struct fault *);

/*
 * Have what is executed in memory of the process, not in pages that the kernel fetches from the file when they are
 * needed: one that a network filesystem no longer gives is a SIGBUS. -1 with the fault if the file cannot be read; where
 * the system forbids such memory, all stays as it is.
 */
int selfkeep(int fd, struct fault *);
