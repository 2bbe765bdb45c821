/*
 * A file for several machines begins with a shell script, the front, which starts the launcher of its machine. That is
 * no archive itself: it ends in a mark, and is told by its arguments which archive to launch. FORMAT.md, section 3.1.
 */

struct archive;
struct fault;
struct store;
struct stores;

struct front {
	int launcher;           /* descriptor of the launcher's own file; -1: the program was not started by a front */
	int unkept;             /* it was started from a place that is gone, and should be kept in a store */
};

/* whether a file ends in the mark of such a launcher */
int frontmarked(int fd);

/* "check DIGEST": whether the file is the launcher that a front looks for; 0, or -1 with the fault */
int frontcheck(int fd, const char *digest, struct fault *);

/*
 * "run ARCHIVE ARGUMENT..." and "once ARCHIVE ARGUMENT...": take the word off, so that the arguments are the program's, and
 * open the archive. A launcher that runs but once is removed. The descriptor of the archive, or -1 with the fault.
 */
int frontbegin(struct front *, int fd, int *argc, char ***argv, struct fault *);

/* keep a launcher in the first store that is open and can be written to; that it cannot be changes nothing */
void frontkeep(const struct stores *, int fd, uint64_t offset, uint64_t size);

/* the same for the launcher of this machine in an archive that has several */
void frontinstall(const struct archive *, const struct stores *);

/* The directory of those that a store keeps, or -1. A launcher's access time is when it was last used, its name its digest. */
int launchersopen(const struct store *);

/* whether one is as it was made, and would be taken by a front: 0, or -1 with the fault */
int launchersound(int launchers, const char *name, struct fault *);

/* 0, or -1 with errno; what executes it goes on */
int launcherremove(int launchers, const char *name);

/* remove what killed launches left behind a day ago */
void launcherssweep(int launchers);
