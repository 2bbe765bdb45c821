/*
 * The archive format's constants, limits and records (FORMAT.md says what they mean).
 *
 * The launcher compiles this file and packer hands the very same text to cffi, so the layout of every
 * record is written once. That is why there is no include, no guard and no attribute here: cffi takes
 * declarations and integer constants only. All integers are little-endian; no record has padding.
 */

#define FORMAT_VERSION 1
#define STORE_VERSION 1

/* "no such layer" and the like, in any uint32_t that is an index */
#define NONE 0xffffffff

/* limits: a reader refuses what exceeds them, a writer never writes it */
#define MAX_INDEX 0x8000000       /* bytes of the decoded index: 128 MiB */
#define MAX_SECTIONS 64
#define MAX_BLOBS 0x100000
#define MAX_BLOB 0x1000000        /* bytes of a decoded blob: 16 MiB */
#define MAX_BASES 4
#define MAX_PREFIX 0x2000000      /* bytes of a blob's bases together: 32 MiB */
#define MAX_WINDOW_LOG 26         /* zstd window of a blob: 64 MiB */
#define MAX_CONTENTS 0x400000
#define MAX_ENTRIES 0x400000
#define MAX_LAYERS 0x10000
#define MAX_SLICES 256
#define MAX_NEEDS 0x10000
#define MAX_LINKS 0x100000
#define MAX_TOOLS 256
#define MAX_LAUNCHERS 8
#define MAX_PATH 1024             /* bytes of a path inside a layer or view, without the NUL */
#define MAX_NAME 255              /* bytes of one component of such a path */

#define DIGEST_SIZE 32            /* SHA-256 */
#define TRAILER_SIZE 128

/* the last TRAILER_SIZE bytes of an archive */
struct trailer {
	uint64_t index_offset;    /* from the start of the file */
	uint64_t index_size;      /* bytes as stored: one zstd frame */
	uint64_t index_raw_size;  /* bytes decoded */
	uint64_t signature_size;  /* bytes of the signature block between index and trailer; 0: not signed */
	uint8_t id[32];           /* SHA-256 of the stored index: the archive id */
	uint64_t front_size;      /* bytes before the first blob; 0: no digest of them */
	uint8_t front_digest[32]; /* SHA-256 of these: launcher and padding, which no blob covers */
	uint32_t refuse;          /* features without which the archive cannot be read; unknown bits: newer */
	uint32_t ignore;          /* features that a reader may not know */
	uint32_t version;         /* FORMAT_VERSION */
	uint32_t checksum;        /* CRC-32 of the bytes before it */
	uint8_t magic[8];         /* "\x89" "fatpar\n" */
};

/* decoded index: head, then section_count sections, then their data */
struct index_head {
	uint8_t magic[4];         /* "FPIX" */
	uint32_t section_count;
};

#define SECTION_CRITICAL 1        /* a reader that does not know the id refuses the archive as newer */

struct section {
	uint32_t id;
	uint32_t flags;
	uint64_t offset;          /* from the start of the decoded index; a multiple of 8 */
	uint64_t size;            /* bytes; record_size * count */
	uint32_t record_size;     /* a reader ignores the tail of a record longer than its own */
	uint32_t count;
};

enum section_id {
	SECTION_STRINGS = 1,      /* NUL-terminated; a string's reference is its offset; 0 is "" */
	SECTION_REFS = 2,         /* uint32_t, for lists of indexes or strings */
	SECTION_BLOBS = 3,
	SECTION_CONTENTS = 4,
	SECTION_ENTRIES = 5,
	SECTION_LAYERS = 6,
	SECTION_NEEDS = 7,
	SECTION_SLICES = 8,
	SECTION_LINKS = 9,
	SECTION_TOOLS = 10,
	SECTION_LAUNCHERS = 12,
	SECTION_MANIFEST = 13     /* JSON */
};

enum encoding { ENCODING_STORED = 0, ENCODING_ZSTD = 1 };
enum filter { FILTER_NONE = 0, FILTER_X86 = 1 };

/* one independently stored run of bytes */
struct blob {
	uint64_t offset;          /* from the start of the file */
	uint32_t stored_size;
	uint32_t raw_size;
	uint16_t encoding;        /* enum encoding */
	uint16_t filter;          /* enum filter, undone after decoding */
	uint32_t base_count;      /* blobs whose decoded bytes, concatenated, are the zstd prefix */
	uint32_t bases[4];        /* lower indexes than this blob's own, themselves without bases; rest NONE */
	uint8_t digest[32];       /* SHA-256 of the stored bytes */
};

/* the bytes of a file: they start in a blob and go on in the blobs that follow it */
struct content {
	uint32_t blob;
	uint32_t offset;          /* in the decoded blob */
	uint64_t size;
};

enum entry_kind { ENTRY_FILE = 1, ENTRY_EXEC = 2, ENTRY_LINK = 3, ENTRY_DIR = 4 };

/* one path of a layer, in the order of the paths' bytes; ENTRY_DIR only for an empty directory */
struct entry {
	uint32_t path;            /* string */
	uint32_t kind;            /* enum entry_kind */
	uint32_t value;           /* file, exec: content; link: string, the target; dir: 0 */
};

enum layer_kind { LAYER_WHEEL = 1, LAYER_APP = 2, LAYER_INTERPRETER = 3, LAYER_BYTECODE = 4 };

struct layer {
	uint32_t name;            /* string, for people: "numpy-2.0.2-cp39-cp39-manylinux_2_17_x86_64" */
	uint32_t kind;            /* enum layer_kind */
	uint32_t first_entry;
	uint32_t entry_count;
	uint8_t digest[32];       /* tree digest */
	uint64_t size;            /* bytes of its files */
	uint32_t of;              /* bytecode: the layer it belongs to; else NONE */
	uint32_t tag;             /* string; bytecode: cache tag; interpreter: Python ABI tag; else "" */
};

/* what one requirement of a slice is about; a reader that does not know a kind finds that it does not fit */
enum need_kind {
	NEED_MACHINE = 1,         /* number: e_machine; name: "x86_64" */
	NEED_CPU = 2,             /* number: x86-64 level 1 to 4, or AArch64 80 (v8.0), 81 (v8.1) */
	NEED_KERNEL = 3,          /* number: a.b.c as a << 16 | b << 8 | c */
	NEED_LIBC = 4,            /* name: "glibc" or "musl"; number: least a.b as a << 16 | b << 8, 0: any */
	NEED_NODE = 5,            /* name: library, value: symbol version node: "libc.so.6", "GLIBC_2.17" */
	NEED_LIBRARY = 6,         /* name: SONAME that the host must have: "libstdc++.so.6" */
	NEED_PYTHON = 7,          /* name: Python ABI tag; number: least PY_VERSION_HEX, 0: any */
	NEED_PYTHON_NOT = 8,      /* number: excluded PY_VERSION_HEX, compared without its lowest byte */
	NEED_STDLIB = 9           /* name: standard-library module that must be a file under the prefix */
};

struct need {
	uint32_t kind;            /* enum need_kind */
	uint32_t flags;           /* 0 */
	uint32_t name;            /* string */
	uint32_t value;           /* string */
	uint64_t number;
};

enum view_shape {
	VIEW_VENV = 1,            /* pyvenv.cfg and links: CPython 3.3 and later */
	VIEW_PREFIX = 2,          /* a prefix of its own with links to the standard library: 2.7 */
	VIEW_LIBC = 3             /* a venv whose interpreter is carried with its C library */
};

/* what runs on one kind of host; lower index: preferred */
struct slice {
	uint32_t name;            /* string: "cp39-manylinux_2_17_x86_64" */
	uint32_t shape;           /* enum view_shape */
	uint32_t python;          /* string: Python ABI tag */
	uint32_t python_dir;      /* string: "python3.9", the directory below lib/ */
	uint32_t interpreter;     /* layer of the carried interpreter, or NONE: one of the host's */
	uint32_t executable;      /* string: path of the carried interpreter in its layer, or "" */
	uint32_t first_need;
	uint32_t need_count;
	uint32_t first_layer;     /* into REFS: indexes of layers, bytecode layers among them */
	uint32_t layer_count;
	uint32_t first_link;
	uint32_t link_count;
	uint32_t first_flag;      /* into REFS: strings, the interpreter's command line options */
	uint32_t flag_count;
};

/* one link of a view, in the order of the paths' bytes */
struct link {
	uint32_t path;            /* string: in the view */
	uint32_t layer;
	uint32_t target;          /* string: path in that layer; "": the layer's root */
};

enum tool_kind {
	TOOL_PYTHON = 1,          /* target: path in the view of the boot file the interpreter runs */
	TOOL_EXECUTABLE = 2,      /* target: path in the view of a program that is executed itself */
	TOOL_TITLED = 3           /* as TOOL_PYTHON, but the program gives its process a title by itself */
};

/* a program the archive can be; the one whose name it is called by, else the first */
struct tool {
	uint32_t name;            /* string */
	uint32_t kind;            /* enum tool_kind */
	uint32_t target;          /* string */
	uint32_t flags;           /* 0 */
};

#define LAUNCHER_MARK_SIZE 8      /* bytes that a launcher behind a front ends in: "\x89" "fplnch\n" */

/* launchers behind a shell front; absent when the file starts with its only launcher */
struct launcher {
	uint32_t machine;         /* e_machine */
	uint32_t reserved;        /* 0 */
	uint64_t offset;
	uint64_t size;
};
