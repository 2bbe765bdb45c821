/*
 * The tree digest: a layer's identity. SHA-256 over its entries in the order of the paths' bytes; each entry is
 *   'f' or 'x' (executable) path NUL, size as 8 bytes little-endian, SHA-256 of the bytes
 *   'l' path NUL target NUL
 *   'd' path NUL, only for an empty directory
 */
struct tree {
	struct sha256 sum;
};

struct fault;

void treestart(struct tree *);
void treefile(struct tree *, const char *path, int executable, uint64_t size, const uint8_t digest[32]);
void treelink(struct tree *, const char *path, const char *target);
void treedir(struct tree *, const char *path);
void treeend(struct tree *, uint8_t digest[32]);

/*
 * digest of a tree on disk, below the open directory; __pycache__ links are not part of it.
 * 0, or -1 with the fault: something could not be read or is neither file, directory nor link
 */
int treeread(int dir, uint8_t digest[32], struct fault *);
