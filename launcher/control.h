/* what FATPAR=WORD does instead of launching the application */

struct archive;
struct fault;

/* do it: the exit status, or -1 with the fault */
int control(const char *word, const char *name, struct archive *, int argc, char *argv[], struct fault *);

/* check every digest of the archive: 0, or -1 with the fault */
int controlverify(struct archive *, struct fault *);

/* write every layer to <dir>/NAME and the manifest to <dir>/manifest.json; the directory must not exist */
int controlextract(struct archive *, const char *dir, struct fault *);
