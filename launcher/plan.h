/* a launch that was decided: what to execute, and what the decision rests on. FORMAT.md has the file's form. */

/* days after which a plan is not believed any more */
#define PLAN_DAYS 30

struct archive;
struct host;
struct watch;
struct stores;

struct plan_tool {
	char *name;
	uint32_t kind;          /* enum tool_kind */
	char *target;           /* path below the view's tree */
};

struct plan {
	char *view;             /* the view's tree */
	char *python;           /* the interpreter, as the user knows it */
	char *slice;
	char **flags;           /* the interpreter's options */
	uint32_t flag_count;
	struct plan_tool *tools;
	uint32_t tool_count;
	struct watch *watches;
	uint32_t watch_count;
};

/*
 * The plan's file name: a digest of what could change the decision and is cheap to know. With path, PATH counts too.
 * 32 characters and a NUL.
 */
void planname(const struct archive *, const struct host *, const char *boot, int path, char name[33]);

/* read a plan: 1 if it is there, whole, not too old, and all it rests on still holds; else 0 */
int planread(struct plan *, const char *base, const char *name);

/* a plan from a file's bytes, if they are one: 1, else 0. Its strings are the text's, its tables the caller's either way. */
int planparse(struct plan *, char *text, size_t size);

/* write a plan so that it is there whole or not at all; that it cannot be written changes nothing but the speed */
void planwrite(const struct plan *, int plans, const char *name);

/* remove plans that are too old to be believed */
void planssweep(int plans);
