/* which views, layers and launchers running processes use */

struct use {
	char name[2 * 32 + 1];  /* of a view, a layer or a launcher */
	int lone;               /* a layer's: of a process that shows no view */
};

struct uses {
	struct use *list;       /* by name */
	uint32_t count;
	int64_t hidden;         /* the second since the epoch when the oldest process began that does not show what it uses */
};

/*
 * Ask /proc: what a process has loaded and how it was started, of whichever store and in whichever mount namespace; and
 * what views of other stores lean on. Those that hide count if they could use the store: the owner's, and of root's
 * everybody's. -1: it is not there.
 */
int usesread(struct uses *, uint32_t owner);

/* of a name, or NULL */
const struct use *usesfind(const struct uses *, const char *name);

void usesfree(struct uses *);
