struct fault;

/* in the order of the questions: is it one of ours, is it whole, is it newer than this reader */
enum archive_status {
	ARCHIVE_OK = 0,
	ARCHIVE_FOREIGN,        /* no trailer: not an archive of ours, or one that lost its end */
	ARCHIVE_DAMAGED,        /* ours, but a checksum, an offset or a rule of the format is broken */
	ARCHIVE_NEWER,          /* ours, but made for a newer launcher */
	ARCHIVE_SYSTEM          /* the system would not read it: errno */
};

struct archive {
	int fd;
	uint64_t file_size;
	struct trailer trailer;

	/* what broke, for people; set unless ARCHIVE_OK */
	char detail[200];

	/* the decoded index and its tables; NULL until archiveindex */
	uint8_t *index;
	const char *strings;
	uint32_t strings_size;
	const uint32_t *refs;
	uint32_t ref_count;
	const struct blob *blobs;
	uint32_t blob_count;
	const struct content *contents;
	uint32_t content_count;
	const struct entry *entries;
	uint32_t entry_count;
	const struct layer *layers;
	uint32_t layer_count;
	const struct need *needs;
	uint32_t need_count;
	const struct slice *slices;
	uint32_t slice_count;
	const struct link *links;
	uint32_t link_count;
	const struct tool *tools;
	uint32_t tool_count;
	const struct launcher *launchers;
	uint32_t launcher_count;
	const char *manifest;
	uint32_t manifest_size;
	/* lines, which nothing ends; nobody has checked what is in them */
	const char *summary;
	uint32_t summary_size;
};

/* read the trailer: all that a warm launch needs; the descriptor stays the caller's */
enum archive_status archiveopen(struct archive *, int fd);

/* read, decode and check the index: after ARCHIVE_OK every reference in the tables is in bounds */
enum archive_status archiveindex(struct archive *);

/* whether the file is the one that archiveopen found; if not, errno tells why, or is 0 */
int archivestill(const struct archive *);

void archiveclose(struct archive *);

/* one sentence for a status other than ARCHIVE_OK; not for threads */
const char *archivedescribe(const struct archive *, enum archive_status);

/* the same as a fault: -1 */
int archivefault(const struct archive *, enum archive_status, struct fault *);

/* the string with this reference */
const char *archivestring(const struct archive *, uint32_t ref);

/* the blob's bytes as stored, into a buffer of stored_size bytes; ARCHIVE_DAMAGED if cut short */
enum archive_status archiveblob(struct archive *, uint32_t blob, uint8_t *);

/* version of the zstd that decodes */
const char *archivezstd(void);

/* check the digest of what stands before the blobs */
enum archive_status archivefront(struct archive *);
