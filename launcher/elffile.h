/* what the launcher reads of an ELF file; 64-bit little-endian only, everything bounded by the file */

#define MAX_ELF_NEEDED 64

enum elf_status {
	ELF_OK = 0,
	ELF_UNREADABLE,         /* it could not be opened or read: errno */
	ELF_SCRIPT,             /* it begins with #! */
	ELF_FOREIGN             /* no ELF file, or one of another class or byte order, or damaged */
};

struct elf {
	uint8_t *data;
	size_t size;
	uint16_t machine;       /* e_machine */

	/* file offset and size of PT_DYNAMIC's bytes */
	uint64_t dynamic;
	uint64_t dynamic_size;

	/* "" where there is none; they point into data */
	const char *interp;     /* PT_INTERP */
	uint64_t interp_size;   /* bytes that it has room for in the file, a NUL among them */
	const char *soname;
	const char *rpath;      /* DT_RPATH, else DT_RUNPATH */
	const char *needed[64];
	uint32_t needed_count;

	/* addresses in the image of the dynamic tables, 0 where there is none */
	uint64_t strtab;
	uint64_t symtab;
	uint64_t hash;          /* DT_GNU_HASH */
	uint64_t verdef;
	uint64_t verdef_count;
};

enum elf_status elfopen(struct elf *, const char *path);
void elfclose(struct elf *);

/* whether the file exports a symbol; its 4 bytes of initial data in *data if it is an object in the file, else 0 */
int elfexports(const struct elf *, const char *name, uint32_t *data);

/* the i-th symbol version node the library defines, or NULL after the last */
const char *elfnode(const struct elf *, uint32_t i);
