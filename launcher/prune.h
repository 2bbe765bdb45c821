/* what keeps a store small: views that nobody started for long go, the layers that no view leads to any more, and launchers that no front starts */

/* more days are these many */
#define MOST_DAYS 36500

struct store;

struct limits {
	uint64_t size;          /* bytes of all layers as archives state them */
	uint32_t days;          /* since a view was last used */
};

struct pruned {
	uint32_t views;
	uint32_t layers;
	uint32_t launchers;
	uint64_t size;          /* bytes of those layers and launchers */
	char *list;             /* a line for each: "view", "layer" or "launcher", and its name. From malloc */
};

/* a store's: what its file limits says, else the defaults */
void limitsread(const struct store *, struct limits *);

/*
 * Remove from a store that can be written to what is beyond the limits, the longest unused first; never what a process
 * uses or what was used today. With installed, what was installed, too; with dry, nothing: say what it would be.
 * -1: nobody can tell what processes use.
 */
int prune(struct store *, const struct limits *, int installed, int dry, struct pruned *);

/*
 * The same as often as every launch may ask for it: at most once a day, and not in a store that root shares with others,
 * who cannot note there what they use.
 */
void prunedaily(struct store *);
