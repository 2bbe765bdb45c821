struct archive;
struct blobs;
struct fault;

/*
 * Unpack a layer into the tree of an object, with its digests checked: 0, or -1 with the fault and what was written
 * left behind. Directories that hold modules get their link to the object's bytecode, unless it is a mere tree
 * (descriptor -1).
 */
struct object;
int unpacklayer(struct archive *, struct blobs *, uint32_t layer, struct object *, struct fault *);

/* decode a content and hand its bytes on in pieces, in order; -1 with the fault if decoding or put fails */
typedef int putfn(void *, const uint8_t *, size_t, struct fault *);
int unpackcontent(struct archive *, struct blobs *, uint32_t content, putfn *, void *, struct fault *);

/* check a layer's digest without writing anything */
int unpackverify(struct archive *, struct blobs *, uint32_t layer, struct fault *);
