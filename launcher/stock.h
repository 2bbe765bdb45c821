/*
 * The decoded blobs of an unpacking, which threads share: each is decoded by the first thread that needs it, once if
 * memory lasts, and given up when nothing is to come out of it any more. What all threads hold together is bounded.
 */

#include <pthread.h>

struct archive;
struct blob;
struct fault;

enum lot_state {
	LOT_ABSENT = 0,
	LOT_DECODING,           /* its first bytes may be there */
	LOT_READY
};

/* a blob that is needed */
struct lot {
	uint32_t blob;          /* NONE: of files without bytes, always ready */
	const struct blob *record;
	enum lot_state state;
	uint32_t readers;       /* threads that look at its bytes now */
	uint32_t deltas;        /* blobs to be decoded yet that have it for a base */
	uint32_t parts;         /* contents to be read yet that began in an earlier blob */
	int continued;          /* whether there ever were any */
	uint8_t *inner;         /* as deltas have it for their prefix; NULL: not, or no longer, to be had */
	uint8_t *plain;         /* as files have it; the same memory if it has no filter */
	size_t there;           /* bytes of plain that can be read */
	size_t charge;          /* what it counts in the bound */
	size_t first, next, end;/* its files: where they stand in the caller's order, and which of them is to be written next */
};

struct stock {
	struct archive *archive;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint32_t sleeping;      /* threads that wait for it */
	struct lot *lots;       /* in the order of blobs */
	size_t count;
	struct lot **sequence;  /* in the order in which they are decoded */
	size_t next;            /* before it none is absent that has files to be written */
	struct lot **resident;  /* those that are not absent */
	size_t resident_count;
	size_t charged;         /* bytes of memory */
	uint32_t holders;       /* threads that decode, or look at a blob */
	int ready;              /* directories are there: files can be written */
	int failed;             /* all threads are to come to an end */
};

/* a thread */
struct hand {
	struct archive archive; /* for what reading it tells */
	struct ZSTD_DCtx_s *context;
	struct fault fault;
};

/* lots: in the order of blobs, their files and continued set; the stock takes them */
void stockopen(struct stock *, struct archive *, struct lot *, size_t count);
void stockclose(struct stock *);

void handopen(struct hand *, const struct archive *);
void handclose(struct hand *);

/* these are called with the mutex held */

/* decode the next blob that has files to be written: 1, or 0 if there is none, or no room for it as long as others hold theirs; -1 with the fault */
int stockdecode(struct stock *, struct hand *);

/*
 * have a blob, in which a content goes on, decoded if need be: it stays until it is released; NULL with the fault, or if
 * others failed. Again: it is for one more file of a content that was counted once in parts
 */
struct lot *stocktake(struct stock *, struct hand *, uint32_t blob, int again);

/* begin to look at a blob some of which is there */
void stockhold(struct stock *, struct lot *);
void stockrelease(struct stock *, struct lot *);

/* wait until something has changed */
void stockwait(struct stock *);

/* tell those who wait */
void stocktell(struct stock *);
