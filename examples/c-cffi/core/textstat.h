#ifndef TEXTSTAT_H
#define TEXTSTAT_H

#include <stddef.h>
#include <stdint.h>

struct textstat_word {
	const char *text; /* not terminated */
	uint64_t length, count;
	uint64_t hash;
};

struct textstat {
	uint64_t bytes, lines, words, distinct;
	struct textstat_word *table; /* open addressing; count 0: free */
	size_t room;                 /* a power of two */
	struct textstat_text *texts;
};

/* NULL: no memory */
struct textstat *textstat_new(void);

/* 0, or an errno */
int textstat_add_file(struct textstat *, const char *path);

/* the most frequent words, in order, at most so many; how many there are */
size_t textstat_most(struct textstat *, struct textstat_word *, size_t);

void textstat_free(struct textstat *);

#endif
