struct archive;
struct host;
struct verdict;
struct stores;
struct store;
struct fault;

/* where each layer of a slice lies: by its index in the archive, the store that holds it, NULL for the others */
struct places {
	struct store **layers;
};

/*
 * The name of the view of a slice: a digest of the archive, the slice and the interpreter it is made for.
 * 32 characters and a NUL. -1 with the fault if the interpreter cannot be looked at.
 */
int viewname(const struct archive *, uint32_t slice, const struct host *, const struct verdict *, char name[33], struct fault *);

/* make and publish the view in a store; that it is there already is no failure */
int viewmake(const struct archive *, uint32_t slice, const struct host *, const struct verdict *, const struct places *,
             struct store *, const char *name, const char *boot, struct fault *);

/* lead to the bytecode beside layers from a published view whose own was removed; best effort, since it can be compiled */
void viewbytecode(const struct archive *, uint32_t slice, const struct places *, struct store *, const char *name);

/*
 * whether no part of a view is missing, as far as is seen without reading it: interpreter, tools, where its links lead;
 * a carried interpreter is in one of the stores
 */
int viewleads(const struct archive *, uint32_t slice, struct stores *, const struct store *, const char *name);

/* whether a view that was made in another boot is still whole: all its links are as they should be */
int viewholds(const struct archive *, uint32_t slice, const struct host *, const struct verdict *, const struct places *,
              struct store *, const char *name);
