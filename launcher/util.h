/* included by .c files only: attributes and inline helpers that cffi cannot read */

#define COUNTOF(a) (sizeof(a) / sizeof(*(a)))
#define PRINTFLIKE(f, a) __attribute__((format(printf, f, a)))
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* close a descriptor that goes out of scope, keeping errno; -1 is none */
void closefd(int *);

/* release memory that goes out of scope */
void freemem(void *);

/* under whose name it is said that there is no memory; kept, not copied */
void speakas(const char *);

/* never return NULL: out of memory ends the process (status 125) */
void *xmalloc(size_t);
void *xcalloc(size_t, size_t);
void *xrealloc(void *, size_t);
char *xstrdup(const char *);
char *xasprintf(const char *, ...) PRINTFLIKE(1, 2);

/* write all of it: 0, or -1 with errno, as when the disk becomes full in the middle */
int writeall(int fd, const void *, size_t);

/* read exactly n bytes: 0, or -1 with errno, which is 0 at the end of the file */
int readat(int fd, void *, size_t n, uint64_t offset);

struct fault;
/* record a failure; a format that ends in a colon gets the text of errno; always -1 */
int fail(struct fault *, int status, const char *, ...) PRINTFLIKE(3, 4);

/* whether something has this name, be it a link that leads nowhere; if not, errno tells whether that is known */
int isnamed(int dir, const char *path);
