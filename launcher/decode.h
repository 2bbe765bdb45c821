/* decoding of one blob */

struct ZSTD_DCtx_s;
struct archive;
struct fault;

/* what stands before a delta's bytes: its bases; NULL and 0: it has none */
struct prefix {
	const uint8_t *data;
	size_t size;
};

/* who is told, while a blob is decoded, that its first so many bytes are there */
struct listener {
	void (*tell)(void *whom, size_t);
	void *whom;
};

/*
 * Read a blob and decode it into out, raw_size bytes, the filter not undone: 0, or -1 with the fault. The listener may be
 * NULL, which costs least. The context is NULL if there was no memory for it.
 */
int decode(struct archive *, struct ZSTD_DCtx_s *context, uint32_t blob, const struct prefix *, uint8_t *out,
           const struct listener *, struct fault *);
