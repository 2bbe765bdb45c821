/* which views and layers running processes use */

struct use {
	char name[2 * 32 + 1];  /* of a view or a layer */
	int lone;               /* a layer's: of a process that shows no view */
};

struct uses {
	struct use *list;       /* by name */
	uint32_t count;
};

/*
 * Ask /proc: what a process has loaded and how it was started, of whichever store and in whichever mount namespace.
 * -1: it is not there, nothing can be said.
 */
int usesread(struct uses *);

/* of a name, or NULL */
const struct use *usesfind(const struct uses *, const char *name);

void usesfree(struct uses *);
