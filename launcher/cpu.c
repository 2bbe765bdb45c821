#include <stdint.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif
#include "cpu.h"

#if defined(__x86_64__)
/* bits of cpuid leaf 1 ecx, leaf 7 ebx and leaf 0x80000001 ecx that each level adds */
enum {
	V2_LEAF1 = 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23, /* SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT */
	V2_EXTENDED = 1 << 0,                                               /* LAHF */
	V3_LEAF1 = 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29,         /* FMA MOVBE OSXSAVE AVX F16C */
	V3_LEAF7 = 1 << 3 | 1 << 5 | 1 << 8,                                /* BMI1 AVX2 BMI2 */
	V3_EXTENDED = 1 << 5,                                               /* LZCNT */
	V4_LEAF7 = 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30,                   /* AVX512 F DQ CD BW; VL is bit 31 */
	XCR0_AVX = 6,
	XCR0_AVX512 = 0xe6
};

static int
has(uint32_t bits, uint32_t wanted)
{
	return (bits & wanted) == wanted;
}

static uint32_t
savedstate(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

/* the words of cpuid's leaves that are looked at */
struct leaves {
	unsigned leaf1, leaf7, extended;
};

/*
 * Each leaf is asked for once: in a virtual machine every cpuid is a trap into the hypervisor, of 1 to 30 microseconds.
 * The functions of <cpuid.h> ask for the highest leaf besides, each time.
 */
static const struct leaves *
readleaves(void)
{
	static struct leaves l;
	unsigned a, b, c, d, highest;

	if (l.leaf1)
		return &l;
	__cpuid(0, highest, b, c, d);
	__cpuid(1, a, b, l.leaf1, d);
	if (highest >= 7)
		__cpuid_count(7, 0, a, l.leaf7, c, d);
	/* there, since it tells that the CPU has 64 bits */
	__cpuid(0x80000001, a, b, l.extended, d);
	return &l;
}

int
cpuhassha256(void)
{
	const struct leaves *l = readleaves();

	return has(l->leaf1, bit_SSE4_1 | bit_SSSE3) && has(l->leaf7, bit_SHA);
}

uint32_t
cpulevel(uint64_t *features)
{
	const struct leaves *l = readleaves();
	unsigned leaf1 = l->leaf1, leaf7 = l->leaf7, extended = l->extended, state = 0;

	if (has(leaf1, 1 << 27))
		state = savedstate();
	*features = ((uint64_t)leaf1 << 32 | leaf7) ^ (uint64_t)extended << 20 ^ (uint64_t)state << 56;
	if (!has(leaf1, V2_LEAF1) || !has(extended, V2_EXTENDED))
		return 1;
	if (!has(leaf1, V3_LEAF1) || !has(leaf7, V3_LEAF7) || !has(extended, V3_EXTENDED) || !has(state, XCR0_AVX))
		return 2;
	if (!has(leaf7, V4_LEAF7) || !has(leaf7, 1u << 31) || !has(state, XCR0_AVX512))
		return 3;
	return 4;
}
#elif defined(__aarch64__)
uint32_t
cpulevel(uint64_t *features)
{
	*features = getauxval(AT_HWCAP);
	return *features >> 8 & 1 ? 81 : 80; /* HWCAP_ATOMICS */
}

int
cpuhassha256(void)
{
	return getauxval(AT_HWCAP) >> 6 & 1; /* HWCAP_SHA2 */
}
#endif
