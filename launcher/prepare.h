struct archive;
struct plan;
struct fault;
struct stores;

/*
 * The cold path: probe, select, unpack the layers that no store has, link the view, and write the plan that the next
 * launch goes by. The archive's index has been read. -1 with the fault.
 */
int prepare(struct archive *, struct stores *, const char *boot, struct plan *, struct fault *);
