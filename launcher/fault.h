/* exit statuses of the launcher's own failures; the table in the README */
enum status {
	STATUS_LAUNCHER = 125,  /* archive, store or system: the launcher could not do its work */
	STATUS_UNFIT = 126,     /* no slice fits this machine */
	STATUS_EXEC = 127       /* the selected program could not be executed */
};

/* why something could not be done: one line for the user, and what to try */
struct fault {
	int status;
	char what[1024];
	char hint[512];
};
