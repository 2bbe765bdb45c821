/*
 * The stores: local directories that hold layers and views. A launch reads from all it can trust and writes to the
 * first it may; FORMAT.md has the layout.
 */

#define MAX_STORES 8

struct store {
	char *base;             /* "/home/u/.cache/fatpar" */
	int only_existing;      /* made by an administrator only */
	int fd;                 /* of base/v1, or -1 */
	int layers;             /* of base/v1/layers, or -1 */
	int views;
	int plans;
	int writable;
	int network;            /* on a network filesystem: written to only if nothing else can be */
	uint32_t made;          /* length of the path of the first directory that was made for it; 0: all were there */
	int fresh;              /* base/v1 was made just now */
	int tagged;             /* and CACHEDIR.TAG */
	char why[160];          /* why it is not used, or not written to; "" */
};

struct stores {
	struct store list[8];   /* most preferred first */
	uint32_t count;
};

struct fault;
struct stat;

/* why a file or directory of a store cannot be trusted, or NULL: only root or who runs this may be able to change it */
const char *distrust(const struct stat *);

/* where stores may be, from the environment; nothing is opened */
void storescandidates(struct stores *);

/* one store, which may be made and is nobody's in particular */
void storesonly(struct stores *, const char *base);

/*
 * Whether a launch would write to a store that is not open, rather than to a less preferred one: a plan in one of those
 * is not asked for, then, since a launch that decides anew would not go there. An administrator's is asked all the same.
 */
int storeisfirst(const struct store *);

/* open those that can be trusted and are not open yet; with create, make them until there is one to write to */
void storesopen(struct stores *, int create);

/*
 * The stores that can be written to, in the order in which they should be: those on network filesystems last. Indexes
 * into the list go to order; how many there are.
 */
uint32_t storeswritable(const struct stores *, uint32_t order[8]);

/* whether a store has room for so many bytes; if not, it is not written to any more, and gone if it was just made */
int storehasroom(struct store *, uint64_t bytes);

/* forget that a store was open; storesopen opens it again, or makes it */
void storeclose(struct store *);

/* the same for all of them */
void storesforget(struct stores *);

/* do not write to a store any more: why not */
void storerefuse(struct store *, const char *why);

/* no store could be used: says why for each; -1 */
int storesfail(const struct stores *, struct fault *);

void storesclose(struct stores *);

/* the id of this boot of the kernel; where /proc is not there, the time it began, or "unknown" */
void bootid(char id[64]);
