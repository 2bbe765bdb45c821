/*
 * Open the file this program was started from, once: a descriptor above 2 that does not survive exec, or -1 with the
 * fault. The standard descriptors that were closed at the start stay so for the application.
 */
struct fault;
int selfopen(const char *argv0, struct fault *);
