/* CRC-32 as in zlib, gzip and xz (ISO 3309) of n bytes; for the trailer only: 128 bytes, no table */
uint32_t crc32(const void *, size_t n);
