struct archive;
struct host;
struct selection;

/* probe this machine and select: the system's interpreters first, those on PATH only if no slice fits without them */
void decide(struct host *, struct selection *, const struct archive *);
