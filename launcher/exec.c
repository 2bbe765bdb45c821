#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fatpar.h"
#include "exec.h"
#include "fault.h"
#include "identity.h"
#include "object.h"
#include "plan.h"
#include "util.h"

extern char **environ;

static const struct plan_tool *
findtool(const struct plan *p, const char *argv0)
{
	const char *slash = strrchr(argv0, '/'), *name = slash ? slash + 1 : argv0;
	uint32_t i;

	for (i = 0; i < p->tool_count; i++)
		if (strcmp(p->tools[i].name, name) == 0)
			return &p->tools[i];
	return &p->tools[0];
}

static int
execfailed(const char *path, struct fault *fault)
{
	int saved = errno;

	fail(fault, STATUS_EXEC, "execute %s:", path);
	if (saved == EACCES || saved == EPERM)
		snprintf(fault->hint, sizeof(fault->hint),
		         "is the store on a filesystem that became noexec, or does a security policy such as SELinux forbid it?"
		         " set FATPAR_STORE to another directory");
	return -1;
}

/* the interpreter with its options, the boot file, the name the user typed, and the user's arguments */
static int
execpython(const struct plan *p, const struct plan_tool *tool, int argc, char *argv[], struct fault *fault)
{
	char *python = xasprintf("%s/bin/python", p->view);
	char *target = xasprintf("%s/%s", p->view, tool->target);
	char **args = xcalloc((size_t)argc + p->flag_count + 5, sizeof(*args));
	uint32_t i;
	int n = 0, k;

	args[n++] = python;
	for (i = 0; i < p->flag_count; i++)
		args[n++] = p->flags[i];
	args[n++] = target;
	args[n++] = argc > 0 ? argv[0] : tool->name;
	for (k = 1; k < argc; k++)
		args[n++] = argv[k];
	/* the interpreter would only say that it cannot open a file, and the view might be made anew */
	if (access(target, R_OK) == 0) {
		execve(python, args, tool->kind == TOOL_TITLED ? environ : identityenviron(p->view, environ));
		execfailed(python, fault);
	} else {
		execfailed(target, fault);
	}
	free(args);
	free(target);
	free(python);
	return -1;
}

int
execplan(const struct plan *p, int argc, char *argv[], struct fault *fault)
{
	const struct plan_tool *tool = findtool(p, argc > 0 ? argv[0] : "");
	char *path = xasprintf("%s/..", p->view);

	objectused(AT_FDCWD, path);
	free(path);
	if (tool->kind != TOOL_EXECUTABLE)
		return execpython(p, tool, argc, argv, fault);
	path = xasprintf("%s/%s", p->view, tool->target);
	execve(path, argv, environ);
	execfailed(path, fault);
	free(path);
	return -1;
}
