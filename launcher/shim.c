/*
 * Preloaded into the interpreter, so that ps, pgrep and whoever watches processes see the program that the user
 * started, by its name and with its arguments, and not "python -I ...". It only renames: without it the program runs
 * as well. Runs once, before main, and takes itself out of the environment, so no child ever has it.
 *
 * It is loaded by glibc's loader and by musl's, of any version. Therefore it needs no C library and calls the kernel
 * by itself.
 */
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "identity.h"

/* fields of /proc/self/stat that are read: up to env_end */
enum { STAT_NUMBERS = 52 };

/* a word, as arguments and environment lie on the stack: argc, argv, NULL, environment, NULL */
typedef union {
	long number;
	char *text;
} word;

/* where the kernel put argc (glibc's loader); the environment (musl); what error messages call the program (both) */
extern word *__libc_stack_end __attribute__((weak));
extern char **__environ __attribute__((weak));
extern char *__progname __attribute__((weak)), *__progname_full __attribute__((weak));

/* the interpreter's options and paths, once the user's arguments stand where they stood */
static char moved[16384];

static long
syscall5(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
	                 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
#else
#error "no system calls for this machine"
#endif
}

/* volatile: or the compiler calls memmove and memset, which are not there */
static void
copy(volatile char *to, const volatile char *from, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		to[i] = from[i];
}

static void
wipe(volatile char *from, const volatile char *end)
{
	while (from < end)
		*from++ = '\0';
}

static size_t
length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

/* whether a text begins with another: the rest of it, or NULL */
static char *
after(const char *s, const char *start, size_t n)
{
	while (n && *s == *start)
		n--, s++, start++;
	return n ? NULL : (char *)(uintptr_t)s;
}

static char *
basename(char *path)
{
	char *s, *name = path;

	for (s = path; *s; s++)
		if (*s == '/' && s[1])
			name = s + 1;
	return name;
}

/* argc and what follows, as the kernel wrote it; or NULL */
static word *
findstack(void)
{
	word *w;
	long n;

	if (&__libc_stack_end)
		return __libc_stack_end;
	if (!&__environ || !__environ)
		return NULL;
	/* back from the environment, over the NULL, to a number that is as large as the words since then are many */
	w = (word *)(void *)__environ - 2;
	for (n = 0; n < 1 << 22; n++, w--)
		if (w->number == n)
			return w;
	return NULL;
}

/*
 * Take the shim, the last of it, out of LD_PRELOAD, the last of the environment, and give back the user's own: the
 * shim's path, and where the environment's text ends now; or NULL.
 */
static char *
forget(word *environment, char **end)
{
	char *path = NULL, *s;
	word *w;

	for (w = environment; w->text; w++)
		if ((s = after(w->text, SHIM_KEPT, sizeof(SHIM_KEPT) - 1)))
			*w->text = *SHIM_VARIABLE;
	if (w == environment)
		return NULL;
	s = path = after(w[-1].text, SHIM_VARIABLE, sizeof(SHIM_VARIABLE) - 1);
	if (!path)
		return NULL;
	for (; *s; s++)
		if (*s == ':')
			path = s + 1;
	*end = w[-1].text;
	w[-1].text = NULL;
	return path;
}

/* the numbers of /proc/self/stat as proc(5) counts them, from 3 on: how many there are, and 3 */
static int
readstat(uint64_t numbers[STAT_NUMBERS])
{
	static char text[2048];
	long fd = syscall5(SYS_openat, AT_FDCWD, (long)"/proc/self/stat", O_RDONLY | O_CLOEXEC, 0, 0), n;
	char *s, *end;
	int i = 3;

	if (fd < 0)
		return 0;
	n = syscall5(SYS_read, fd, (long)text, sizeof(text) - 1, 0, 0);
	syscall5(SYS_close, fd, 0, 0, 0, 0);
	/* a process's name may have anything in it */
	for (end = s = text; n > 0 && *s; s++)
		if (*s == ')')
			end = s;
	for (s = end; *s && i < STAT_NUMBERS; i++) {
		while (*s && *s != ' ')
			s++;
		while (*s == ' ')
			s++;
		for (numbers[i] = 0; *s >= '0' && *s <= '9'; s++)
			numbers[i] = numbers[i] * 10 + (uint64_t)(*s - '0');
	}
	return i;
}

/* tell the kernel where arguments and environment end; without it NULs follow them, as many as bytes were taken away */
static void
setends(char *start, char *arguments, char *environment)
{
	uint64_t n[STAT_NUMBERS];
	struct prctl_mm_map map;

	if (readstat(n) < STAT_NUMBERS || n[48] != (uintptr_t)start)
		return;
	map.start_code = n[26];
	map.end_code = n[27];
	map.start_stack = n[28];
	map.start_data = n[45];
	map.end_data = n[46];
	map.start_brk = n[47];
	map.brk = (uint64_t)syscall5(SYS_brk, 0, 0, 0, 0, 0);
	map.arg_start = n[48];
	map.arg_end = (uintptr_t)arguments;
	map.env_start = n[50];
	map.env_end = (uintptr_t)environment;
	map.auxv = NULL;
	map.auxv_size = 0;
	map.exe_fd = (uint32_t)-1;
	syscall5(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)&map, sizeof(map), 0);
}

/* let the user's arguments, from the given one on, stand first, as if there had been no others: where they end, or NULL */
static char *
moveup(word *argv, long argc, long first)
{
	char *start = argv[0].text, *typed = argv[first].text, *end = start;
	size_t before = (size_t)(typed - start);
	long i;

	/* whoever put arguments elsewhere knows why */
	for (i = 0; i < argc; i++) {
		if (argv[i].text != end)
			return NULL;
		end += length(end) + 1;
	}
	if (before > sizeof(moved))
		return NULL;
	copy(moved, start, before);
	copy(start, typed, (size_t)(end - typed));
	wipe(end - before, end);
	for (i = 0; i < argc; i++)
		if (i < first)
			argv[i].text = moved + (argv[i].text - start);
		else
			argv[i].text -= before;
	return end - before;
}

static void
rename(char *typed)
{
	char *name = basename(typed);

	if (&__progname)
		__progname = name;
	if (&__progname_full)
		__progname_full = typed;
	syscall5(SYS_prctl, PR_SET_NAME, (long)name, 0, 0, 0);
}

/* the argument that the user typed first; 0: the interpreter was not started by the launcher that made this view */
static long
findtyped(word *argv, long argc, const char *shim)
{
	static const char file[] = "/" SHIM_FILE, python[] = "/tree/bin/python";
	size_t n = length(shim);
	const char *rest;
	long i;

	if (n < sizeof(file) || !after(shim + n - (sizeof(file) - 1), file, sizeof(file)))
		return 0;
	rest = after(argv[0].text, shim, n - (sizeof(file) - 1));
	if (!rest || !after(rest, python, sizeof(python)))
		return 0;
	/* options, which never begin with a slash, nor do their values; the boot file */
	for (i = 1; i < argc && *argv[i].text != '/'; i++)
		;
	return i + 1 < argc ? i + 1 : 0;
}

__attribute__((constructor)) static void
shim(void)
{
	word *stack = findstack(), *argv;
	char *path, *environment = NULL, *arguments, *s;
	long argc, first;

	if (!stack)
		return;
	argc = stack->number;
	argv = stack + 1;
	path = forget(argv + argc + 1, &environment);
	first = path && argc ? findtyped(argv, argc, path) : 0;
	if (!first)
		return;
	for (s = path; *s; s++)
		;
	wipe(environment, s);
	arguments = moveup(argv, argc, first);
	if (!arguments)
		return;
	rename(argv[first].text);
	setends(argv[first].text, arguments, environment);
}
