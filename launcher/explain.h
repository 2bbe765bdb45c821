struct archive;
struct host;
struct selection;
struct verdict;

/* one reason of a verdict as a sentence with both sides of the comparison; the caller frees it */
char *reasontext(const struct archive *, const struct host *, const struct verdict *, uint32_t reason);

/* the host's facts, every slice with its verdict, and the choice, as text of several lines; the caller frees it */
char *explaintext(const struct archive *, const struct host *, const struct selection *);

/* why nothing fits, in one line, and what the host is, in another; the caller frees it */
char *refusaltext(const struct archive *, const struct host *, const struct selection *);
