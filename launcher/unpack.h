struct archive;
struct fault;
struct object;

/* a layer that is to be unpacked, and where to */
struct target {
	uint32_t layer;
	int dir;                /* the directory its tree goes into; -1: nothing is written, its digest is checked all the same */
	struct object *object;  /* of which dir is the tree: directories that hold modules get their link to its bytecode; or NULL */
};

/*
 * Unpack layers, each blob once whichever of them it has bytes of, and check their digests: 0, or -1 with the fault and
 * what was written left behind.
 */
int unpack(struct archive *, const struct target *, uint32_t count, struct fault *);
