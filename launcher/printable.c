#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "printable.h"
#include "util.h"

/* the bytes of the character that begins here if it is UTF-8 that may be shown, else 0 */
static size_t
shown(const unsigned char *s)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t size = *s < 0x80 ? 1 : *s >= 0xf0 ? 4 : *s >= 0xe0 ? 3 : 2, i;
	uint32_t c = size == 1 ? *s : *s & (0x7fu >> size);

	/* no character begins with these */
	if ((*s >= 0x80 && *s < 0xc2) || *s > 0xf4)
		return 0;
	for (i = 1; i < size; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < ' ' || (c >= 0x7f && c < 0xa0) || c < least[size] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	/* what turns the direction of text, separates lines, or has no width at all */
	if ((c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff)
		return 0;
	return size;
}

char *
printable(const char *from, char kept)
{
	const unsigned char *s = (const unsigned char *)from;
	char *text = xmalloc(4 * strlen(from) + 1), *end = text;
	size_t n;

	for (; *s; s += n ? n : 1) {
		n = *s == (unsigned char)kept ? 1 : shown(s);
		memcpy(end, s, n);
		end += n ? n : (size_t)sprintf(end, "\\x%02x", *s);
	}
	*end = '\0';
	return text;
}
