#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "fatpar.h"
#include "filter.h"
#include "util.h"

/* bytes that an instruction is told by, and its operand: the longest of them */
enum { REACH = 7 };

/* opcodes behind a REX.W prefix: add, sub, cmp, mov, lea */
static const uint8_t whole[] = {0x03, 0x2b, 0x39, 0x3b, 0x89, 0x8b, 0x8d};

/* opcodes behind 0F: moves, comparisons and arithmetic of SSE, and movzx */
static const uint8_t vector[] = {
	0x10, 0x11, 0x12, 0x16, 0x28, 0x29, 0x2e, 0x2f, 0x51, 0x54, 0x57, 0x58, 0x59, 0x5a, 0x5c, 0x5e, 0x6e, 0x6f, 0x7e, 0x7f,
	0xb6, 0xb7, 0xd6,
};

static int
isone(uint8_t opcode, const uint8_t *opcodes, size_t count)
{
	return memchr(opcodes, opcode, count) != NULL;
}

/* whether a ModRM byte means: relative to the next instruction */
static int
isrelative(uint8_t modrm)
{
	return (modrm & 0xc7) == 0x05;
}

/*
 * Where the operand of the instruction at p begins, 0: none that counts. No byte that is looked at here can be part of the
 * operand of an instruction that begins one byte later: so it is the same before and after filtering.
 */
static size_t
operand(const uint8_t *p)
{
	switch (p[0]) {
	case 0xe8:
	case 0xe9:
		return 1;
	case 0xff:
		return p[1] == 0x15 || p[1] == 0x25 || p[1] == 0x35 ? 2 : 0;
	case 0x48:
	case 0x4c:
		return isrelative(p[2]) && isone(p[1], whole, sizeof(whole)) ? 3 : 0;
	case 0x0f:
		return isrelative(p[2]) && isone(p[1], vector, sizeof(vector)) ? 3 : 0;
	default:
		return 0;
	}
}

/*
 * Relative values that lead into the first MAX_BLOB bytes of the file become the place they lead to; those that would then
 * stand for two become what has become free: a one-to-one map of 32-bit values for each place.
 */
static int32_t
absolute(int32_t value, int32_t next)
{
	if (value >= -next && value < MAX_BLOB - next)
		return value + next;
	return value >= MAX_BLOB - next && value < MAX_BLOB ? value - MAX_BLOB : value;
}

static int32_t
relative(int32_t value, int32_t next)
{
	if (value >= 0 && value < MAX_BLOB)
		return value - next;
	return value < 0 && value >= -next ? value + MAX_BLOB : value;
}

void
filterx86(uint8_t *data, size_t size, int undo)
{
	static const uint8_t elf[] = {0x7f, 'E', 'L', 'F'};
	size_t i = 0, start = 0, at;
	int32_t value, next;

	while (i + REACH <= size) {
		if (data[i] == elf[0] && memcmp(data + i, elf, sizeof(elf)) == 0)
			start = i;
		at = operand(data + i);
		if (!at) {
			i++;
			continue;
		}
		next = (int32_t)(i + at + 4 - start);
		memcpy(&value, data + i + at, sizeof(value));
		value = undo ? relative(value, next) : absolute(value, next);
		memcpy(data + i + at, &value, sizeof(value));
		i += at + 4;
	}
}
