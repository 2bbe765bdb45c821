/*
 * The CPU's level as the x86-64 psABI defines it (1 to 4; what the operating system saves counts, not only what
 * the CPU has), or 80 and 81 for AArch64 v8.0 and v8.1; the feature bits it was read from go to *features.
 */
uint32_t cpulevel(uint64_t *features);

/* whether the CPU has instructions for SHA-256 */
int cpuhassha256(void);
