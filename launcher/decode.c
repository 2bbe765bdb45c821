#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_getFrameHeader and ZSTD_d_stableOutBuffer */
#include <zstd.h>
#include "fatpar.h"
#include "archive.h"
#include "decode.h"
#include "fault.h"
#include "util.h"

static int
damaged(struct fault *fault, uint32_t blob, const char *what)
{
	errno = 0; /* what the system said before is not the reason */
	return fail(fault, STATUS_LAUNCHER, "archive is damaged: blob %u: %s", (unsigned)blob, what);
}

/* one block after the other, of 128 KiB at most, each to its place at once: the decoder needs no buffer beside out */
static size_t
inblocks(ZSTD_DCtx *context, ZSTD_inBuffer in, ZSTD_outBuffer out, const struct listener *listener)
{
	size_t whole = in.size, more = ZSTD_FRAMEHEADERSIZE_MAX;

	ZSTD_DCtx_setParameter(context, ZSTD_d_stableOutBuffer, 1);
	while (more && in.pos < whole) {
		in.size = whole - in.pos < more ? whole : in.pos + more;
		more = ZSTD_decompressStream(context, &out, &in);
		if (ZSTD_isError(more))
			return more;
		listener->tell(listener->whom, out.pos);
	}
	/* a frame that ends too early leaves out short */
	return out.pos;
}

static int
decodeframe(const struct blob *blob, ZSTD_DCtx *context, uint32_t index, const uint8_t *stored, const struct prefix *prefix,
            uint8_t *out, const struct listener *listener, struct fault *fault)
{
	ZSTD_FrameHeader head;
	size_t n;

	if (!context)
		return fail(fault, STATUS_LAUNCHER, "no memory for decoding");
	if (ZSTD_findFrameCompressedSize(stored, blob->stored_size) != blob->stored_size ||
	    ZSTD_getFrameHeader(&head, stored, blob->stored_size) != 0)
		return damaged(fault, index, "it is not one frame");
	/* costs this decoder nothing, since it has the whole blob in memory, but one that decodes a stream */
	if (head.windowSize > (uint64_t)1 << MAX_WINDOW_LOG)
		return damaged(fault, index, "its window is too large");
	ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
	if (prefix->size && ZSTD_isError(ZSTD_DCtx_refPrefix(context, prefix->data, prefix->size)))
		return damaged(fault, index, "its bases do not fit");
	if (listener)
		n = inblocks(context, (ZSTD_inBuffer){stored, blob->stored_size, 0}, (ZSTD_outBuffer){out, blob->raw_size, 0}, listener);
	else
		n = ZSTD_decompressDCtx(context, out, blob->raw_size, stored, blob->stored_size);
	if (ZSTD_isError(n))
		return damaged(fault, index, ZSTD_getErrorName(n));
	return n == blob->raw_size ? 0 : damaged(fault, index, "its decoded size is wrong");
}

int
decode(struct archive *ar, struct ZSTD_DCtx_s *context, uint32_t index, const struct prefix *prefix, uint8_t *out,
       const struct listener *listener, struct fault *fault)
{
	const struct blob *blob = &ar->blobs[index];
	uint8_t *stored CLEANUP(freemem) = NULL;
	enum archive_status status;

	if (blob->encoding != ENCODING_STORED)
		stored = xmalloc(blob->stored_size);
	status = archiveblob(ar, index, stored ? stored : out);
	if (status) {
		if (status != ARCHIVE_SYSTEM)
			errno = 0;
		return archivefault(ar, status, fault);
	}
	if (!stored)
		return 0;
	return decodeframe(blob, context, index, stored, prefix, out, listener, fault);
}
