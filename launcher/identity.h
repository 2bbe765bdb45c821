/* how a process that runs an application looks from outside: by the name and the arguments that the user typed */

struct fault;
struct object;

/* the shim's file, beside the tree of a view */
#define SHIM_FILE "shim.so"

/*
 * By this variable, the last of the environment, the loader learns of the shim, which takes it away; the user's own
 * variable of this name, if there is one, stands meanwhile in its place under the other name.
 */
#define SHIM_VARIABLE "LD_PRELOAD="
#define SHIM_KEPT "\1D_PRELOAD="

/* put the shim for an interpreter into a view that is being made; an interpreter that no loader loads gets none */
int identitymake(struct object *, const char *python, struct fault *);

/* whether the shim in a published view is as it was made */
int identityholds(int views, const char *name, const char *python);

/* the environment to execute the interpreter of a view in, so that it looks like the program that the user started */
char **identityenviron(const char *view, char **environment);
