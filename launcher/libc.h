struct host;
struct archive;

/* the C library of the host's own programs becomes the host's first; none is added where no program tells */
void libcfind(struct host *);

/* the index of the C library that a program with this PT_INTERP runs on, added if it is new; NONE if it is not there */
uint32_t libcof(struct host *, const char *interp);

/* for each C library: which of the libraries and nodes that the archive asks for there are */
void libcread(struct host *, const struct archive *);

/* path of a shared library: directories of the C library, ld.so.cache, the usual places; NULL; the caller frees it */
char *libraryfind(const struct host *, uint32_t libc, const char *soname);
