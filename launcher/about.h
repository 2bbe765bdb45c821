/* what a view was made for, in a file beside its tree: for people, and for whoever prunes the store */

struct archive;
struct fault;
struct object;

/* put it into a view that is being made */
int aboutmake(struct object *, const struct archive *, uint32_t slice, struct fault *);

/* what a published view says: lines of a word and a value, in FORMAT.md; or NULL. From malloc. */
char *aboutread(int views, const char *name);
