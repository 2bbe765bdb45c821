/* Counts words: what was the C program, kept as it was behind four functions. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include "textstat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* words stay where they were read */
struct textstat_text {
	struct textstat_text *next;
	size_t size;
	char bytes[];
};

struct textstat *textstat_new(void)
{
	struct textstat *stat = calloc(1, sizeof *stat);
	if (stat == NULL)
		return NULL;
	stat->room = 1024;
	stat->table = calloc(stat->room, sizeof *stat->table);
	if (stat->table == NULL) {
		free(stat);
		return NULL;
	}
	return stat;
}

void textstat_free(struct textstat *stat)
{
	if (stat == NULL)
		return;
	while (stat->texts != NULL) {
		struct textstat_text *next = stat->texts->next;
		free(stat->texts);
		stat->texts = next;
	}
	free(stat->table);
	free(stat);
}

static struct textstat_word *slot_of(struct textstat_word *table, size_t room, const struct textstat_word *word)
{
	size_t place = word->hash & (room - 1);
	for (;; place = (place + 1) & (room - 1)) {
		struct textstat_word *found = &table[place];
		if (found->count == 0)
			return found;
		if (found->hash == word->hash && found->length == word->length &&
		    memcmp(found->text, word->text, word->length) == 0)
			return found;
	}
}

static int grow(struct textstat *stat)
{
	size_t room = 2 * stat->room;
	struct textstat_word *table = calloc(room, sizeof *table);
	if (table == NULL)
		return ENOMEM;
	for (size_t i = 0; i < stat->room; i++)
		if (stat->table[i].count != 0)
			*slot_of(table, room, &stat->table[i]) = stat->table[i];
	free(stat->table);
	stat->table = table;
	stat->room = room;
	return 0;
}

static int add_word(struct textstat *stat, const char *text, size_t length)
{
	struct textstat_word word = {text, length, 1, 14695981039346656037u}; /* FNV-1a */
	for (size_t i = 0; i < length; i++)
		word.hash = (word.hash ^ (unsigned char)text[i]) * 1099511628211u;
	struct textstat_word *found = slot_of(stat->table, stat->room, &word);
	stat->words++;
	if (found->count++ != 0)
		return 0;
	*found = word;
	stat->distinct++;
	return 2 * stat->distinct > stat->room ? grow(stat) : 0;
}

static int is_word(unsigned char byte)
{
	return byte >= 0x80 || (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static int count(struct textstat *stat, const struct textstat_text *text)
{
	size_t start = 0, i;
	stat->bytes += text->size;
	for (i = 0; i <= text->size; i++) {
		if (i < text->size && is_word((unsigned char)text->bytes[i]))
			continue;
		if (i < text->size && text->bytes[i] == '\n')
			stat->lines++;
		if (i > start) {
			int error = add_word(stat, text->bytes + start, i - start);
			if (error != 0)
				return error;
		}
		start = i + 1;
	}
	return 0;
}

int textstat_add_file(struct textstat *stat, const char *path)
{
	struct stat found;
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return errno;
	if (fstat(file, &found) != 0) {
		int error = errno;
		close(file);
		return error;
	}
	struct textstat_text *text = malloc(sizeof *text + (size_t)found.st_size);
	if (text == NULL) {
		close(file);
		return ENOMEM;
	}
	text->size = 0;
	while (text->size < (size_t)found.st_size) {
		ssize_t got = read(file, text->bytes + text->size, (size_t)found.st_size - text->size);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int error = errno;
			close(file);
			free(text);
			return error;
		}
		if (got == 0)
			break;
		text->size += (size_t)got;
	}
	close(file);
	text->next = stat->texts;
	stat->texts = text;
	return count(stat, text);
}

static int more_frequent(const void *left, const void *right)
{
	const struct textstat_word *one = left, *other = right;
	if (one->count != other->count)
		return one->count < other->count ? 1 : -1;
	size_t length = one->length < other->length ? one->length : other->length;
	int order = memcmp(one->text, other->text, length);
	if (order != 0)
		return order;
	return one->length < other->length ? -1 : one->length > other->length;
}

size_t textstat_most(struct textstat *stat, struct textstat_word *words, size_t most)
{
	struct textstat_word *sorted = malloc((stat->distinct + 1) * sizeof *sorted);
	size_t found = 0;
	if (sorted == NULL)
		return 0;
	for (size_t i = 0; i < stat->room; i++)
		if (stat->table[i].count != 0)
			sorted[found++] = stat->table[i];
	qsort(sorted, found, sizeof *sorted, more_frequent);
	if (found > most)
		found = most;
	memcpy(words, sorted, found * sizeof *words);
	free(sorted);
	return found;
}
