/* decoded blobs, the most recently used of them kept, so that a base or a run over several blobs is decoded once */

struct archive;
struct fault;

/* few, so that looking for one takes no longer the more blobs there are; with room for a delta, its bases and one more */
#define MAX_KEPT 16

struct kept {
	uint8_t *data;          /* NULL: the place is free */
	uint32_t blob;
	uint64_t used;          /* when it was last asked for */
};

struct blobs {
	struct archive *archive;
	struct ZSTD_DCtx_s *context;
	struct kept kept[16];
	uint64_t clock;
	uint8_t *plain;         /* a blob with its filter undone; the kept ones are as other blobs have them for their prefix */
	uint32_t plain_blob;    /* NONE: nothing is there */
};

void blobsopen(struct blobs *, struct archive *);
void blobsclose(struct blobs *);

/* the decoded bytes of a blob, raw_size of them, good until the next call; NULL with the fault */
const uint8_t *blobsget(struct blobs *, uint32_t blob, struct fault *);
