struct plan;
struct fault;

/* become the tool that the program was called as; returns only on failure: -1 with the fault */
int execplan(const struct plan *, int argc, char *argv[], struct fault *);
