#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "elffile.h"
#include "host.h"
#include "libc.h"
#include "pythons.h"
#include "util.h"

/* how long a running interpreter may take to tell its version, in milliseconds */
enum { RUN_TIMEOUT = 5000 };

/* the newest of these that is exported tells the minor version, where Py_Version (3.11 and later) is missing */
static const struct {
	const char *symbol;
	uint32_t version;
} landmarks[] = {
	{"PyModule_AddObjectRef", 0x030a0000},    {"PyModule_AddType", 0x03090000},       {"PyCode_NewWithPosOnlyArgs", 0x03080000},
	{"PyContext_New", 0x03070000},            {"PyOS_FSPath", 0x03060000},            {"PyModule_FromDefAndSpec2", 0x03050000},
	{"PyMem_RawMalloc", 0x03040000},          {"PyUnicode_New", 0x03030000},          {"PyString_FromString", 0x02070000},
};

int
pythonidentify(const struct elf *e, char tag[16], uint32_t *version)
{
	const char *flags = "";
	unsigned major, minor;
	size_t i;

	if (!elfexports(e, "Py_Version", version) || !*version) {
		for (i = 0; i < COUNTOF(landmarks); i++)
			if (elfexports(e, landmarks[i].symbol, NULL))
				break;
		if (i == COUNTOF(landmarks))
			return -1;
		*version = landmarks[i].version;
	}
	major = *version >> 24;
	minor = *version >> 16 & 255;
	/* debug builds have another ABI, and no wheels */
	if (elfexports(e, "_Py_NegativeRefcount", NULL) || elfexports(e, "_Py_RefTotal", NULL))
		return -1;
	if (major == 2)
		flags = elfexports(e, "PyUnicodeUCS4_AsUTF8String", NULL) ? "mu" : "m";
	else if (minor < 8)
		flags = "m";
	else if (elfexports(e, "_Py_DecRefShared", NULL))
		flags = "t";
	snprintf(tag, 16, "cp%u%u%s", major, minor, flags);
	return 0;
}

/* path of the libpython that an executable is linked with: its own search path, then the system's; NULL */
static char *
findlibpython(const struct host *host, const struct elf *e, const char *dir, uint32_t libc, const char *soname)
{
	const char *p = e->rpath;
	char *path;
	size_t n;

	for (; *p; p += n + (p[n] == ':')) {
		n = strcspn(p, ":");
		if (n >= 7 && strncmp(p, "$ORIGIN", 7) == 0)
			path = xasprintf("%s%.*s/%s", dir, (int)(n - 7), p + 7, soname);
		else
			path = xasprintf("%.*s/%s", (int)n, p, soname);
		if (access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return libraryfind(host, libc, soname);
}

static int
exists(const char *dir, const char *name)
{
	char *path CLEANUP(freemem) = xasprintf("%s/%s", dir, name);

	return access(path, F_OK) == 0;
}

/* the directory that holds os.py for an interpreter at <prefix>/bin/NAME, or NULL */
static char *
findstdlib(const char *prefix, uint32_t version, const char *tag)
{
	const char *suffix = tag[strlen(tag) - 1] == 't' ? "t" : "";
	char *path;
	int i;

	for (i = 0; i < 2; i++) {
		path = xasprintf("%s/%s/python%u.%u%s", strcmp(prefix, "/") ? prefix : "", i ? "lib" : "lib64", version >> 24,
		                 version >> 16 & 255, suffix);
		if (exists(path, "os.py"))
			return path;
		free(path);
	}
	return NULL;
}

/* end a child; where SIGCHLD is blocked, its death must not be pending when the application starts, unless one was */
static void
endchild(pid_t pid, const sigset_t *before)
{
	const struct timespec now = {0};
	sigset_t death;

	sigemptyset(&death);
	sigaddset(&death, SIGCHLD);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (!sigismember(before, SIGCHLD))
		sigtimedwait(&death, NULL, &now);
}

/* "Python 3.9.2" from the interpreter itself: 2.7 says it on standard error */
static uint32_t
runforversion(const char *path)
{
	char text[64] = "", *argv[] = {(char *)(uintptr_t)path, (char *)(uintptr_t)"-V", NULL}, *env[] = {NULL};
	unsigned major, minor, micro;
	struct pollfd pfd;
	int fds[2], null, ready;
	size_t size = 0;
	sigset_t before;
	ssize_t n;
	pid_t pid;

	sigpending(&before);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		execve(path, argv, env);
		_exit(127);
	}
	close(fds[1]);
	pfd = (struct pollfd){.fd = fds[0], .events = POLLIN};
	while (pid > 0 && size < sizeof(text) - 1 && (ready = poll(&pfd, 1, RUN_TIMEOUT)) != 0) {
		/* stopped and continued */
		if (ready < 0 && errno == EINTR)
			continue;
		n = read(fds[0], text + size, sizeof(text) - 1 - size);
		if (n <= 0)
			break;
		size += (size_t)n;
	}
	close(fds[0]);
	if (pid > 0)
		endchild(pid, &before);
	text[size] = '\0';
	if (sscanf(text, "Python %u.%u.%u", &major, &minor, &micro) != 3 || major > 255 || minor > 255 || micro > 255)
		return 0;
	return major << 24 | minor << 16 | micro << 8 | 0xf0;
}

/* whether a slice for this ABI depends on the micro version */
static int
microcounts(const struct archive *ar, const char *tag)
{
	const struct slice *s;
	const struct need *n;
	uint32_t i, k;

	for (i = 0; i < ar->slice_count; i++) {
		s = &ar->slices[i];
		if (strcmp(archivestring(ar, s->python), tag) != 0)
			continue;
		for (k = 0; k < s->need_count; k++) {
			n = &ar->needs[s->first_need + k];
			if ((n->kind == NEED_PYTHON && n->number) || n->kind == NEED_PYTHON_NOT)
				return 1;
		}
	}
	return 0;
}

/* a module is there as a file, a package, or compiled into a file in either place */
static int
hasmodule(const char *stdlib, const char *name)
{
	char *file CLEANUP(freemem) = xasprintf("%s.py", name);
	char *package CLEANUP(freemem) = xasprintf("%s/__init__.py", name);
	char *compiled CLEANUP(freemem) = xasprintf("%s.pyc", name);

	return exists(stdlib, file) || exists(stdlib, package) || exists(stdlib, compiled);
}

static void
checkstdlib(struct host *host, const struct archive *ar, uint32_t index)
{
	const struct python *py = &host->pythons[index];
	const char *name;
	uint32_t i, k;

	for (i = 0; i < ar->need_count; i++) {
		if (ar->needs[i].kind != NEED_STDLIB)
			continue;
		name = archivestring(ar, ar->needs[i].name);
		for (k = 0; k < py->lack_count; k++)
			if (strcmp(py->lacks[k], name) == 0)
				break;
		if (k == py->lack_count && !hasmodule(py->stdlib, name))
			hostaddlack(host, index, name);
	}
}

/* whether the directory holds a prefix's bin that no program but its own environment should use */
static int
isenvironment(const char *bin)
{
	return exists(bin, "pyvenv.cfg") || exists(bin, "../pyvenv.cfg") || exists(bin, "../conda-meta");
}

/* what an interpreter's file and libpython tell; 0 if it is one that can be used */
static int
identify(struct host *host, const struct elf *e, const char *bin, uint32_t libc, char tag[16], uint32_t *version)
{
	char *path CLEANUP(freemem) = NULL;
	struct elf lib;
	uint32_t i;
	int result;

	for (i = 0; i < e->needed_count; i++)
		if (strncmp(e->needed[i], "libpython", 9) == 0)
			break;
	if (i == e->needed_count)
		return pythonidentify(e, tag, version);
	path = findlibpython(host, e, bin, libc, e->needed[i]);
	if (!path || elfopen(&lib, path) != ELF_OK)
		return -1;
	result = pythonidentify(&lib, tag, version);
	elfclose(&lib);
	if (result == 0)
		hostwatch(host, path);
	return result;
}

static void
addpython(struct host *host, const struct archive *ar, const char *path, const char *real)
{
	char *dir CLEANUP(freemem) = xstrdup(real), *bin = dirname(dir);
	char *prefixdir CLEANUP(freemem) = xstrdup(bin);
	char *stdlib CLEANUP(freemem) = NULL;
	uint32_t version, libc, index;
	char tag[16];
	struct elf e;
	int known;

	if (isenvironment(bin) || elfopen(&e, real) != ELF_OK)
		return;
	libc = e.machine == host->machine ? libcof(host, e.interp) : NONE;
	known = libc != NONE && identify(host, &e, bin, libc, tag, &version) == 0;
	elfclose(&e);
	if (!known)
		return;
	stdlib = findstdlib(dirname(prefixdir), version, tag);
	if (!stdlib)
		return;
	if (!(version & 0xffff) && microcounts(ar, tag))
		version = runforversion(real);
	if (!version)
		return;
	hostwatch(host, real);
	hostwatch(host, stdlib);
	index = hostaddpython(host, path, tag, version, libc, stdlib);
	checkstdlib(host, ar, index);
}

static int
isknown(const struct host *host, const char *real)
{
	uint32_t i;

	for (i = 0; i < host->python_count; i++)
		if (strcmp(host->pythons[i].real, real) == 0)
			return 1;
	return 0;
}

static void
tryname(struct host *host, const struct archive *ar, const char *dir, const char *name)
{
	char *path CLEANUP(freemem) = xasprintf("%s/%s", dir, name);
	char *real CLEANUP(freemem) = NULL;
	struct stat st;

	if (access(path, X_OK) < 0)
		return;
	real = realpath(path, NULL);
	if (real && !isknown(host, real) && stat(real, &st) == 0 && S_ISREG(st.st_mode))
		addpython(host, ar, path, real);
}

/* every name under which a directory may hold an interpreter that some slice asks for */
static void
trydirectory(struct host *host, const struct archive *ar, const char *dir)
{
	const struct slice *s;
	uint32_t i;

	/* an interpreter that is added, removed or replaced changes the directory's times */
	hostwatch(host, dir);
	for (i = 0; i < ar->slice_count; i++) {
		s = &ar->slices[i];
		if (s->interpreter == NONE)
			tryname(host, ar, dir, archivestring(ar, s->python_dir));
	}
	tryname(host, ar, dir, "python3");
	tryname(host, ar, dir, "python");
	tryname(host, ar, dir, "python2");
	tryname(host, ar, dir, "platform-python");
}

/* <root>/shims holds scripts only; what they stand for lies in <root>/versions/NAME/bin */
static void
tryshims(struct host *host, const struct archive *ar, const char *dir)
{
	char *copy CLEANUP(freemem) = xstrdup(dir);
	char *versions CLEANUP(freemem) = NULL;
	struct dirent **names = NULL;
	int n, i;

	versions = xasprintf("%s/versions", dirname(copy));
	n = scandir(versions, &names, NULL, alphasort);
	if (n < 0)
		return;
	hostwatch(host, versions);
	for (i = 0; i < n; i++) {
		char *bin CLEANUP(freemem) = xasprintf("%s/%s/bin", versions, names[i]->d_name);

		if (names[i]->d_name[0] != '.' && access(bin, X_OK) == 0)
			trydirectory(host, ar, bin);
		free(names[i]);
	}
	free(names);
}

static int
endswith(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && strcmp(s + n - k, end) == 0;
}

void
pythonsfindonpath(struct host *host, const struct archive *ar)
{
	const char *path = getenv("PATH"), *p;
	size_t n;

	host->path_consulted = 1;
	for (p = path ? path : ""; *p; p += n + (p[n] == ':')) {
		char *dir CLEANUP(freemem) = NULL;

		n = strcspn(p, ":");
		/* a relative entry would make the choice depend on the working directory */
		if (*p != '/')
			continue;
		dir = xasprintf("%.*s", (int)n, p);
		trydirectory(host, ar, dir);
		if (endswith(dir, "/shims"))
			tryshims(host, ar, dir);
	}
}

void
pythonsfind(struct host *host, const struct archive *ar)
{
	static const char *const system[] = {"/usr/bin", "/usr/local/bin", "/bin", "/usr/libexec"};
	struct stat st;
	size_t i;

	for (i = 0; i < COUNTOF(system); i++)
		/* where /bin is a link to /usr/bin, it has been looked at */
		if (i == 0 || lstat(system[i], &st) < 0 || !S_ISLNK(st.st_mode))
			trydirectory(host, ar, system[i]);
}
