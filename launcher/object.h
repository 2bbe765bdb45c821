/*
 * An object of the store: a directory that holds an immutable tree/, the link made, which names the boot it was made
 * in or says "durable", and pyc/, where interpreters keep the bytecode of tree's modules. It is put together under a
 * temporary name in the directory it will stand in, and published by rename.
 */

struct fault;

struct object {
	int parent;             /* directory of the objects */
	int fd;                 /* the object, locked as long as it is being made; -1: none */
	int tree;
	char name[64];          /* temporary name */
};

int objectstart(struct object *, int parent, struct fault *);

/* make the directories above a path below dir; before is the path handled before this one in order, or "" */
int makeparents(int dir, const char *path, const char *before, struct fault *);

/* let interpreters keep the bytecode of the modules in a directory of the tree ("": its root) */
int objectbytecode(struct object *, const char *dir, struct fault *);

/* give the tree's directories their final mode, name the boot, rename; that another was first is no failure */
int objectpublish(struct object *, const char *name, const char *boot, int writable, struct fault *);

/* remove what was made so far */
void objectdiscard(struct object *);

/* the boot an object was made in, "durable", or "" where it is not there; 64 bytes. 0, or errno if it cannot be read */
int objectmade(int parent, const char *name, char made[64]);

/* say what objectmade returns from now on */
int objectmark(int parent, const char *name, const char *made);

/* note, at most twice a day, that a published object is used: its time is what a store is pruned by */
void objectused(int parent, const char *name);

/* remove the bytecode that is kept beside a published object: after a crash nobody can tell whether it is whole */
void objectforget(int parent, const char *name);

/* move a published object out of the way and remove it */
int objectremove(int parent, const char *name);

/*
 * remove an object that cannot be used and has this mark, unless another launch, where locks do not work, has put a new
 * one there since; -1 if it is still there, so that nobody takes it for one that another launch has published
 */
int objectremovestale(int parent, const char *name, const char *made);

/* remove a directory that nobody uses, and what is in it */
int removetree(int parent, const char *name);

/* remove what killed launches left behind in a directory of objects */
void objectsweep(int parent);
