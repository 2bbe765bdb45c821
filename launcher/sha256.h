/* SHA-256 (FIPS 180-4); with the CPU's instructions where it has them */

struct sha256 {
	uint32_t state[8];
	uint64_t size;
	uint8_t block[64];
};

void sha256start(struct sha256 *);
void sha256add(struct sha256 *, const void *, size_t);
void sha256end(struct sha256 *, uint8_t[32]);

/* digest of one run of bytes */
void sha256(const void *, size_t, uint8_t[32]);

/* force the portable code (1) or the best there is (0): for tests and measurements */
void sha256portable(int);

/* lower-case hexadecimal of n bytes, 2 * n characters and a NUL */
void hexof(const uint8_t *, size_t n, char *);
