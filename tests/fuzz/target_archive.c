#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <elf.h>
#include "fatpar.h"
#include "archive.h"
#include "control.h"
#include "explain.h"
#include "fault.h"
#include "fuzz.h"
#include "host.h"
#include "select.h"
#include "tables.h"
#include "util.h"

/* hosts to judge slices for: one that has most, and one that has nothing */
static void
makehosts(struct host hosts[2])
{
	static const char *const pythons[] = {"cp39", "cp311", "cp27mu"};
	struct host *h = &hosts[0];
	uint32_t i;

	hostset(h, EM_X86_64, "6.1.0-18-amd64", 3);
	hostaddlibc(h, LIBC_GLIBC, 2 << 16 | 36 << 8, "/lib/libc.so.6");
	hostaddlibrary(h, 0, "libc.so.6");
	hostaddnode(h, 0, "libc.so.6", "GLIBC_2.17");
	for (i = 0; i < COUNTOF(pythons); i++)
		hostaddpython(h, "/usr/bin/python", pythons[i], i ? 0x030902f0 : 0, 0, "/usr/lib/python");
	hostaddlack(h, 0, "ssl");
	hostset(&hosts[1], EM_AARCH64, "4.4.0", 80);
}

static void
judge(const struct archive *ar)
{
	static struct host hosts[2];
	static struct selection sel;
	char *text;
	size_t i;

	if (!hosts[0].release)
		makehosts(hosts);
	for (i = 0; i < COUNTOF(hosts); i++) {
		selectslice(&sel, ar, &hosts[i]);
		PROMISE(sel.slice == NONE || sel.slice < ar->slice_count, "a slice is chosen that does not exist");
		text = explaintext(ar, &hosts[i], &sel);
		free(text);
		if (sel.slice == NONE) {
			text = refusaltext(ar, &hosts[i], &sel);
			free(text);
		}
	}
}

/* what a path of a table promises: checked here by other means than tables.c does it */
static void
checkpath(const char *path)
{
	char copy[MAX_PATH + 2], *name, *state;
	size_t parts = 0, slashes = 0;

	PROMISE(strlen(path) <= MAX_PATH && path[0] != '/', "path \"%s\" is absolute or too long", path);
	strcpy(copy, path);
	for (name = copy; *name; name++)
		slashes += *name == '/';
	for (name = strtok_r(copy, "/", &state); name; name = strtok_r(NULL, "/", &state), parts++)
		PROMISE(strcmp(name, ".") != 0 && strcmp(name, "..") != 0, "path \"%s\" has a part of dots", path);
	PROMISE(parts == slashes + 1, "path \"%s\" has an empty part", path);
}

/* every string and reference of a sound index, which the launcher follows without a further look */
static void
follow(const struct archive *ar)
{
	uint64_t sum = 0;
	uint32_t i, k;

	for (i = 0; i < ar->entry_count; i++)
		sum += ar->entries[i].kind;
	for (i = 0; i < ar->layer_count; i++)
		for (k = 0; k < ar->layers[i].entry_count; k++) {
			const struct entry *e = &ar->entries[ar->layers[i].first_entry + k];

			checkpath(archivestring(ar, e->path));
			PROMISE(e->kind >= ENTRY_FILE && e->kind <= ENTRY_DIR, "entry of kind %u", (unsigned)e->kind);
			if (e->kind == ENTRY_LINK)
				sum += strlen(archivestring(ar, e->value));
			else if (e->kind != ENTRY_DIR)
				sum += ar->contents[e->value].size;
		}
	for (i = 0; i < ar->slice_count; i++) {
		const struct slice *s = &ar->slices[i];

		sum += strlen(archivestring(ar, s->name)) + strlen(archivestring(ar, s->executable));
		for (k = 0; k < s->layer_count; k++)
			sum += ar->layers[ar->refs[s->first_layer + k]].size;
		for (k = 0; k < s->flag_count; k++)
			sum += strlen(archivestring(ar, ar->refs[s->first_flag + k]));
		for (k = 0; k < s->link_count; k++) {
			checkpath(archivestring(ar, ar->links[s->first_link + k].path));
			sum += ar->layers[ar->links[s->first_link + k].layer].size;
		}
	}
	for (i = 0; i < ar->tool_count; i++)
		checkpath(archivestring(ar, ar->tools[i].target));
	for (i = 0; i < ar->manifest_size; i++)
		sum += (uint8_t)ar->manifest[i];
	for (i = 0; i < ar->summary_size; i++)
		sum += (uint8_t)ar->summary[i];
	if (sum == UINT64_MAX) /* so that no compiler leaves the reading out */
		putchar('.');
}

void
fuzzarchive(const uint8_t *data, size_t size)
{
	char *argv[] = {(char[]){"tool"}, NULL};
	enum archive_status status;
	struct archive ar;
	struct fault fault;

	status = archiveopen(&ar, fuzzfile(data, size));
	if (status) {
		PROMISE(*ar.detail && *archivedescribe(&ar, status), "a refusal without a reason");
		return;
	}
	/* reads the index; prints to what is no output here */
	if (control("list", argv[0], &ar, 1, argv, &fault) == 0) {
		follow(&ar);
		judge(&ar);
	} else {
		PROMISE(*ar.detail && *fault.what, "a refusal without a reason");
	}
	archiveclose(&ar);
}
