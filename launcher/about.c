#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fatpar.h"
#include "about.h"
#include "archive.h"
#include "fault.h"
#include "object.h"
#include "sha256.h"
#include "util.h"

#define FILE_NAME "about"

/* a text and a line more; the text is taken over */
static char *
addline(char *text, const char *word, const char *value, const char *more)
{
	char *longer = xasprintf("%s%s %s%s%s\n", text, word, value, *more ? " " : "", more);

	free(text);
	return longer;
}

int
aboutmake(struct object *o, const struct archive *ar, uint32_t slice, struct fault *fault)
{
	const struct slice *s = &ar->slices[slice];
	char id[2 * DIGEST_SIZE + 1], *text = xstrdup("");
	const struct layer *l;
	uint32_t i;
	int failed, fd CLEANUP(closefd) = openat(o->fd, FILE_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);

	hexof(ar->trailer.id, DIGEST_SIZE, id);
	text = addline(text, "archive", id, "");
	text = addline(text, "slice", archivestring(ar, s->name), "");
	for (i = 0; i < ar->tool_count; i++)
		text = addline(text, "tool", archivestring(ar, ar->tools[i].name), "");
	for (i = 0; i < s->layer_count; i++) {
		l = &ar->layers[ar->refs[s->first_layer + i]];
		if (l->kind == LAYER_BYTECODE)
			continue;
		hexof(l->digest, DIGEST_SIZE, id);
		text = addline(text, "layer", id, archivestring(ar, l->name));
	}
	failed = fd < 0 || writeall(fd, text, strlen(text)) < 0;
	if (failed)
		fail(fault, STATUS_LAUNCHER, "write %s to store:", FILE_NAME);
	free(text);
	return failed ? -1 : 0;
}

char *
aboutread(int views, const char *name)
{
	char *path CLEANUP(freemem) = xasprintf("%s/%s", name, FILE_NAME), *text;
	int fd CLEANUP(closefd) = openat(views, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_INDEX)
		return NULL;
	text = xcalloc((size_t)st.st_size + 1, 1);
	if (read(fd, text, (size_t)st.st_size) == st.st_size)
		return text;
	free(text);
	return NULL;
}
