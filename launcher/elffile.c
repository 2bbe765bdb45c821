#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "elffile.h"
#include "util.h"

/* nodes that are looked at in one library; libstdc++, which has the most, defines some 60 */
enum { MAX_NODES = 4096 };

/* copy a record out of the file: -1 outside of it */
static int
get(const struct elf *e, uint64_t offset, void *out, size_t n)
{
	if (offset > e->size || n > e->size - offset)
		return -1;
	memcpy(out, e->data + offset, n);
	return 0;
}

/* a string that ends inside the file, or "" */
static const char *
getstring(const struct elf *e, uint64_t offset)
{
	if (offset >= e->size || !memchr(e->data + offset, '\0', e->size - offset))
		return "";
	return (const char *)e->data + offset;
}

static int
segment(const struct elf *e, uint32_t i, Elf64_Phdr *out)
{
	Elf64_Ehdr head;

	if (get(e, 0, &head, sizeof(head)) < 0 || i >= head.e_phnum || head.e_phentsize != sizeof(*out))
		return -1;
	return head.e_phoff > e->size ? -1 : get(e, head.e_phoff + (uint64_t)i * sizeof(*out), out, sizeof(*out));
}

/* file offset of an address of the image, or UINT64_MAX */
static uint64_t
offsetof_address(const struct elf *e, uint64_t address)
{
	Elf64_Phdr p;
	uint32_t i;

	for (i = 0; segment(e, i, &p) == 0; i++)
		if (p.p_type == PT_LOAD && address >= p.p_vaddr && address - p.p_vaddr < p.p_filesz)
			return p.p_offset <= UINT64_MAX - p.p_filesz ? p.p_offset + (address - p.p_vaddr) : UINT64_MAX;
	return UINT64_MAX;
}

static const char *
dynamicstring(const struct elf *e, uint64_t value)
{
	uint64_t table = offsetof_address(e, e->strtab);

	return !e->strtab || table == UINT64_MAX || value > UINT64_MAX - table ? "" : getstring(e, table + value);
}

static void
readdynamic(struct elf *e)
{
	Elf64_Dyn d;
	uint64_t at, soname = 0, rpath = 0, runpath = 0;
	int pass, hasname = 0, haspath = 0, hasrun = 0;

	/* the string table's address may stand after the strings that use it: two passes */
	for (pass = 0; pass < 2; pass++) {
		for (at = e->dynamic; at + sizeof(d) <= e->dynamic + e->dynamic_size; at += sizeof(d)) {
			if (get(e, at, &d, sizeof(d)) < 0 || d.d_tag == DT_NULL)
				break;
			switch (d.d_tag) {
			case DT_STRTAB:
				e->strtab = d.d_un.d_ptr;
				break;
			case DT_SYMTAB:
				e->symtab = d.d_un.d_ptr;
				break;
			case DT_GNU_HASH:
				e->hash = d.d_un.d_ptr;
				break;
			case DT_VERDEF:
				e->verdef = d.d_un.d_ptr;
				break;
			case DT_VERDEFNUM:
				e->verdef_count = d.d_un.d_val;
				break;
			case DT_SONAME:
				soname = d.d_un.d_val, hasname = 1;
				break;
			case DT_RPATH:
				rpath = d.d_un.d_val, haspath = 1;
				break;
			case DT_RUNPATH:
				runpath = d.d_un.d_val, hasrun = 1;
				break;
			case DT_NEEDED:
				if (pass == 1 && e->needed_count < MAX_ELF_NEEDED)
					e->needed[e->needed_count++] = dynamicstring(e, d.d_un.d_val);
				break;
			default:
				break;
			}
		}
	}
	if (hasname)
		e->soname = dynamicstring(e, soname);
	if (haspath || hasrun)
		e->rpath = dynamicstring(e, haspath ? rpath : runpath);
}

static enum elf_status
readheaders(struct elf *e)
{
	Elf64_Ehdr head;
	Elf64_Phdr p;
	uint32_t i;

	if (e->size >= 2 && memcmp(e->data, "#!", 2) == 0)
		return ELF_SCRIPT;
	if (get(e, 0, &head, sizeof(head)) < 0 || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
	    head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
		return ELF_FOREIGN;
	e->machine = head.e_machine;
	for (i = 0; segment(e, i, &p) == 0; i++) {
		if (p.p_offset > e->size || p.p_filesz > e->size - p.p_offset)
			return ELF_FOREIGN;
		if (p.p_type == PT_INTERP && p.p_filesz && !e->data[p.p_offset + p.p_filesz - 1])
			e->interp = (const char *)e->data + p.p_offset, e->interp_size = p.p_filesz;
		if (p.p_type == PT_DYNAMIC) {
			e->dynamic = p.p_offset;
			e->dynamic_size = p.p_filesz;
		}
	}
	readdynamic(e);
	return ELF_OK;
}

enum elf_status
elfopen(struct elf *e, const char *path)
{
	int fd CLEANUP(closefd) = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	enum elf_status status;
	struct stat st;
	void *p;

	memset(e, 0, sizeof(*e));
	e->interp = e->soname = e->rpath = "";
	if (fd < 0 || fstat(fd, &st) < 0)
		return ELF_UNREADABLE;
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return ELF_FOREIGN;
	/* the host's own program or library, never our archive: what could cut it short would end the program anyway */
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return ELF_UNREADABLE;
	e->data = p;
	e->size = (size_t)st.st_size;
	status = readheaders(e);
	if (status != ELF_OK)
		elfclose(e);
	return status;
}

void
elfclose(struct elf *e)
{
	if (e->data)
		munmap(e->data, e->size);
	e->data = NULL;
	e->size = 0;
}

static uint32_t
gnuhash(const char *s)
{
	uint32_t h = 5381;

	for (; *s; s++)
		h = h * 33 + (unsigned char)*s;
	return h;
}

/* the symbol's table entry: -1 if the file does not define it */
static int
findsymbol(const struct elf *e, const char *name, Elf64_Sym *out)
{
	uint64_t hash = offsetof_address(e, e->hash), symbols = offsetof_address(e, e->symtab), buckets, chain;
	uint32_t head[4], wanted = gnuhash(name), found, i;

	if (!e->hash || hash == UINT64_MAX || symbols == UINT64_MAX || get(e, hash, head, sizeof(head)) < 0 || !head[0])
		return -1;
	/* head: buckets, first symbol, bloom words, shift (not needed for a right answer) */
	buckets = hash + sizeof(head) + 8 * (uint64_t)head[2];
	chain = buckets + 4 * (uint64_t)head[0];
	if (get(e, buckets + 4 * (uint64_t)(wanted % head[0]), &i, sizeof(i)) < 0 || i < head[1])
		return -1;
	for (;; i++) {
		if (get(e, chain + 4 * (uint64_t)(i - head[1]), &found, sizeof(found)) < 0)
			return -1;
		if ((found | 1) == (wanted | 1)) {
			if (get(e, symbols + sizeof(*out) * (uint64_t)i, out, sizeof(*out)) < 0)
				return -1;
			if (out->st_shndx != SHN_UNDEF && strcmp(dynamicstring(e, out->st_name), name) == 0)
				return 0;
		}
		if (found & 1 || i == UINT32_MAX)
			return -1;
	}
}

int
elfexports(const struct elf *e, const char *name, uint32_t *data)
{
	Elf64_Sym sym;
	uint64_t at;

	if (data)
		*data = 0;
	if (findsymbol(e, name, &sym) < 0)
		return 0;
	at = offsetof_address(e, sym.st_value);
	if (data && (sym.st_info & 15) == STT_OBJECT && at != UINT64_MAX && get(e, at, data, sizeof(*data)) < 0)
		*data = 0;
	return 1;
}

const char *
elfnode(const struct elf *e, uint32_t wanted)
{
	uint64_t at = offsetof_address(e, e->verdef);
	Elf64_Verdef def;
	Elf64_Verdaux aux;
	uint64_t i;
	uint32_t seen = 0;

	if (!e->verdef || at == UINT64_MAX)
		return NULL;
	for (i = 0; i < e->verdef_count && i < MAX_NODES; i++) {
		if (get(e, at, &def, sizeof(def)) < 0)
			return NULL;
		/* VER_FLG_BASE names the library itself, no node */
		if (!(def.vd_flags & VER_FLG_BASE) && seen++ == wanted)
			return get(e, at + def.vd_aux, &aux, sizeof(aux)) < 0 ? NULL : dynamicstring(e, aux.vda_name);
		if (!def.vd_next)
			return NULL;
		at += def.vd_next;
	}
	return NULL;
}
