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
#include "phases.h"
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

/*
 * The option with which Python tells how long each import takes; Pythons before 3.7 pass over it. 2.7, the only one that
 * has no -I, would refuse it.
 */
static int
addtimes(const struct plan *p, char **args)
{
	static char x[] = "-X", importtime[] = "importtime";
	uint32_t i;

	for (i = 0; phasesasked() && i < p->flag_count; i++) {
		if (strcmp(p->flags[i], "-I") != 0)
			continue;
		args[0] = x;
		args[1] = importtime;
		return 2;
	}
	return 0;
}

/* the interpreter with its options, the boot file, the name the user typed, and the user's arguments */
static int
execpython(const struct plan *p, const struct plan_tool *tool, int argc, char *argv[], struct fault *fault)
{
	char *python = xasprintf("%s/bin/python", p->view);
	char *target = xasprintf("%s/%s", p->view, tool->target);
	char **args = xcalloc((size_t)argc + p->flag_count + 7, sizeof(*args));
	uint32_t i;
	int n = 0, k;

	args[n++] = python;
	for (i = 0; i < p->flag_count; i++)
		args[n++] = p->flags[i];
	n += addtimes(p, args + n);
	args[n++] = target;
	args[n++] = argc > 0 ? argv[0] : tool->name;
	for (k = 1; k < argc; k++)
		args[n++] = argv[k];
	/* the interpreter would only say that it cannot open a file, and the view might be made anew */
	if (access(target, R_OK) == 0) {
		char **environment = tool->kind == TOOL_TITLED ? environ : identityenviron(p->view, environ);

		phaseended("prepare execve");
		phasestell();
		execve(python, args, environment);
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
	phaseended("prepare execve");
	phasestell();
	execve(path, argv, environ);
	execfailed(path, fault);
	free(path);
	return -1;
}
