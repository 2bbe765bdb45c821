struct archive;
struct fault;
struct store;
struct stores;

/* a launch that prepares a slice */
struct work {
	struct archive *ar;
	struct stores *stores;
	const char *boot;
	struct host host;
	struct selection *sel;
	const struct slice *slice;
	const struct verdict *verdict;
	struct places places;
	char view[33];
	int locked;             /* no other launch works in the store, as far as locks are to be had */
	int doubt;              /* part of the view is missing: nothing is believed that was not looked at */
	int stuck;              /* what cannot be used could not be removed: errno */
	int changed;            /* a layer has changed since the view was found whole, so its links are compared again */
};

/*
 * whether what has this mark need not be looked at: made in this boot it is in memory or on disk;
 * of another boot only what was found whole since then is trusted
 */
int istrusted(const struct work *, const char *made);

/* the mark of what was looked at and is whole: read after a boot it is on disk, read in the one it was made in perhaps not */
const char *wholemark(const struct work *, const char *made);

/*
 * Whether no layer of the slice, in stores up to the last one that can be written to, has to be looked at. That a view
 * need not be looked at says nothing of its layers: one was perhaps made anew since, or has got bytecode.
 */
int layerstrusted(const struct work *, uint32_t last);

/*
 * Find the slice's layers in the stores up to the last one; the room that those take that are nowhere, 0: none is
 * missing. What is preferred less than the store that is written to is not looked at: a store that was named, to be put
 * into an image say, must not lean on the user's cache.
 */
uint64_t findlayers(struct work *, uint32_t last);

/* unpack to a store the layers that no store has, and bytecode that layers of this store lack. -1 with the fault. */
int addlayers(struct work *, struct store *, struct fault *);
