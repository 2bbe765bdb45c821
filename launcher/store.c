#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "fault.h"
#include "object.h"
#include "store.h"
#include "util.h"

#define SYSTEM_STORE "/var/lib/fatpar"
#define TAG "Signature: 8a477f597d28d172789f06886806bc55\n# This directory holds unpacked programs; it can be removed.\n"

static void
candidate(struct stores *s, const char *prefix, const char *suffix, int only_existing)
{
	struct store *store = &s->list[s->count];
	uint32_t i;

	if (!prefix || *prefix != '/' || strlen(prefix) + strlen(suffix) >= MAX_PATH || s->count == MAX_STORES)
		return;
	memset(store, 0, sizeof(*store));
	store->base = xasprintf("%s%s", prefix, suffix);
	store->fd = store->layers = store->views = store->plans = -1;
	store->only_existing = only_existing;
	for (i = 0; i < s->count; i++)
		if (strcmp(s->list[i].base, store->base) == 0) {
			free(store->base);
			return;
		}
	s->count++;
}

void
storescandidates(struct stores *s)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	char user[40];

	memset(s, 0, sizeof(*s));
	/* no look-up in passwd: the user may be known to nobody, or to a service a static program cannot ask */
	snprintf(user, sizeof(user), "/fatpar-%lu", (unsigned long)geteuid());
	candidate(s, getenv("FATPAR_STORE"), "", 0);
	candidate(s, SYSTEM_STORE, "", 1);
	candidate(s, cache, "/fatpar", 0);
	candidate(s, getenv("HOME"), "/.cache/fatpar", 0);
	candidate(s, "/var/tmp", user, 0);
	candidate(s, getenv("XDG_RUNTIME_DIR"), "/fatpar", 0);
	candidate(s, "/dev/shm", user, 0);
}

void
storesonly(struct stores *s, const char *base)
{
	memset(s, 0, sizeof(*s));
	candidate(s, base, "", 0);
}

static int
refuse(struct store *s, const char *why)
{
	snprintf(s->why, sizeof(s->why), "%s", why);
	return -1;
}

static int
refuseerrno(struct store *s)
{
	return refuse(s, strerror(errno));
}

const char *
distrust(const struct stat *st)
{
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return "it belongs to somebody else";
	return st->st_mode & 022 ? "others can write to it" : NULL;
}

static int
checktrust(struct store *s, int fd)
{
	struct stat st;
	const char *why;

	if (fstat(fd, &st) < 0)
		return refuseerrno(s);
	why = distrust(&st);
	return why ? refuse(s, why) : 0;
}

/* make the directories above the store, unless the first one that exists belongs to somebody else (HOME under sudo) */
static int
makebase(struct store *s)
{
	char *path CLEANUP(freemem) = xstrdup(s->base);
	struct stat st;
	int denied = 0;
	char *slash;

	for (slash = path + strlen(path); slash > path; slash--) {
		if (*slash != '/' && *slash != '\0')
			continue;
		*slash = '\0';
		if (stat(path, &st) == 0)
			break;
		if (errno != ENOENT)
			return refuseerrno(s);
	}
	/* a directory for everybody, like /var/tmp, must be sticky */
	if (slash > path && st.st_uid != geteuid() && (st.st_mode & 01002) != 01002 && geteuid() == 0)
		return refuse(s, "the directory it would be made in belongs to somebody else");
	strcpy(path, s->base);
	for (slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		/* some filesystems deny to make what is there already: the next one will tell */
		if (mkdir(path, 0700) == 0) {
			s->made = s->made ? s->made : (uint32_t)strlen(path);
		} else if (errno != EEXIST) {
			if (errno != EROFS && errno != EACCES)
				return refuseerrno(s);
			denied = errno;
		}
		*slash = '/';
	}
	if (mkdir(path, 0700) == 0) {
		s->made = s->made ? s->made : (uint32_t)strlen(path);
		return 0;
	}
	if (errno == EEXIST)
		return 0;
	if (errno == ENOENT && denied)
		errno = denied;
	return refuseerrno(s);
}

static int
opendirectory(int parent, const char *name, int create)
{
	if (create && mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
		return -1;
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int
isnetwork(long type)
{
	/* NFS, SMB, CIFS, SMB2, FUSE, AFS, 9P, Ceph, Lustre, GPFS: statfs(2), linux/magic.h */
	static const uint32_t types[] = {
		0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x5346414f, 0x01021997, 0x00c36400, 0x0bd00bd0, 0x47504653,
	};
	size_t i;

	for (i = 0; i < COUNTOF(types); i++)
		if ((uint32_t)type == types[i])
			return 1;
	return 0;
}

int
storeisfirst(const struct store *s)
{
	char *path CLEANUP(freemem) = s->only_existing ? NULL : xasprintf("%s/v1/plans", s->base);
	struct statvfs vfs;
	struct statfs fs;
	struct stat st;

	if (!path || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return 0;
	return statvfs(path, &vfs) == 0 && !(vfs.f_flag & (ST_RDONLY | ST_NOEXEC)) && statfs(path, &fs) == 0 &&
	       !isnetwork(fs.f_type);
}

/* whether it was made */
static int
maketag(int base)
{
	int fd CLEANUP(closefd) = openat(base, "CACHEDIR.TAG", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	struct stat st;

	/* for backup programs only; that it fails changes nothing. A launch that was killed here left it empty */
	if (fd < 0 || (fstat(fd, &st) == 0 && st.st_size))
		return 0;
	if (writeall(fd, TAG, sizeof(TAG) - 1) == 0)
		return 1;
	unlinkat(base, "CACHEDIR.TAG", 0);
	return 0;
}

/* what a filesystem allows: -1 if programs cannot be run from it */
static int
checkfilesystem(struct store *s, int base)
{
	struct statvfs vfs;
	struct statfs fs;

	if (fstatvfs(base, &vfs) < 0 || fstatfs(base, &fs) < 0)
		return refuseerrno(s);
	if (vfs.f_flag & ST_NOEXEC)
		return refuse(s, "its filesystem is mounted noexec");
	s->network = isnetwork(fs.f_type);
	s->writable = !(vfs.f_flag & ST_RDONLY) && faccessat(base, ".", W_OK, AT_EACCESS) == 0;
	if (!s->writable)
		refuse(s, vfs.f_flag & ST_RDONLY ? "its filesystem is read-only" : "it is not writable");
	return 0;
}

static int
openstore(struct store *s, int create)
{
	int base CLEANUP(closefd) = -1;

	create = create && !s->only_existing;
	if (create && makebase(s) < 0)
		return -1;
	base = open(s->base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (base < 0)
		return refuseerrno(s);
	if (checktrust(s, base) < 0 || checkfilesystem(s, base) < 0)
		return -1;
	s->fresh = s->writable && !isnamed(base, "v1");
	s->fd = opendirectory(base, "v1", s->writable);
	if (s->fd < 0)
		return refuseerrno(s);
	if (checktrust(s, s->fd) < 0)
		return -1;
	s->layers = opendirectory(s->fd, "layers", s->writable);
	s->views = opendirectory(s->fd, "views", s->writable);
	s->plans = opendirectory(s->fd, "plans", s->writable);
	if (s->layers < 0 || s->views < 0 || s->plans < 0)
		return refuseerrno(s);
	if (s->writable)
		s->tagged = maketag(base);
	return 0;
}

void
storeclose(struct store *s)
{
	closefd(&s->plans);
	closefd(&s->views);
	closefd(&s->layers);
	closefd(&s->fd);
	s->plans = s->views = s->layers = s->fd = -1;
	s->writable = 0;
}

void
storesforget(struct stores *s)
{
	uint32_t i;

	for (i = 0; i < s->count; i++)
		storeclose(&s->list[i]);
}

void
storesopen(struct stores *s, int create)
{
	uint32_t i;
	int found = 0;

	for (i = 0; i < s->count; i++) {
		/* once there is a place to write to, the rest is only read from: no directory is made for nothing */
		if (s->list[i].fd < 0 && openstore(&s->list[i], create && !found) < 0)
			storeclose(&s->list[i]);
		else if (s->list[i].writable && !s->list[i].network)
			found = 1;
	}
}

void
storesclose(struct stores *s)
{
	uint32_t i;

	storesforget(s);
	for (i = 0; i < s->count; i++)
		free(s->list[i].base);
	s->count = 0;
}

uint32_t
storeswritable(const struct stores *s, uint32_t order[8])
{
	uint32_t i, count = 0;
	int network;

	for (network = 0; network < 2; network++)
		for (i = 0; i < s->count; i++)
			if (s->list[i].writable && s->list[i].network == network)
				order[count++] = i;
	return count;
}

/* take away again what was made for a store that is not used: nothing is left by a launch that is refused */
static void
unmake(struct store *s)
{
	char *path CLEANUP(freemem) = xstrdup(s->base);
	char *version CLEANUP(freemem) = xasprintf("%s/v1", s->base);
	char *tag CLEANUP(freemem) = xasprintf("%s/CACHEDIR.TAG", s->base);
	int saved = errno;

	/* what is not empty is used by somebody, and stays with all that is above it */
	unlinkat(s->fd, "plans", AT_REMOVEDIR);
	unlinkat(s->fd, "views", AT_REMOVEDIR);
	unlinkat(s->fd, "layers", AT_REMOVEDIR);
	if (rmdir(version) == 0) {
		if (s->tagged)
			unlink(tag);
		while (s->made && strlen(path) >= s->made && rmdir(path) == 0)
			*strrchr(path, '/') = '\0';
	}
	errno = saved;
}

int
storehasroom(struct store *s, uint64_t bytes)
{
	struct statvfs vfs;
	uint64_t room;
	char why[80];

	if (fstatvfs(s->fd, &vfs) < 0) {
		storerefuse(s, strerror(errno));
		return 0;
	}
	room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (room >= bytes)
		return 1;
	snprintf(why, sizeof(why), "%llu MB are needed, %llu MB are free", (unsigned long long)(bytes >> 20) + 1,
	         (unsigned long long)(room >> 20));
	storerefuse(s, why);
	if (s->fresh)
		unmake(s);
	return 0;
}

void
storerefuse(struct store *s, const char *why)
{
	refuse(s, why);
	s->writable = 0;
}

int
storesfail(const struct stores *s, struct fault *fault)
{
	uint32_t i;
	size_t n;

	fail(fault, STATUS_LAUNCHER, "no directory to unpack to");
	n = strlen(fault->what);
	for (i = 0; i < s->count && n < sizeof(fault->what); i++)
		n += (size_t)snprintf(fault->what + n, sizeof(fault->what) - n, "%s %s (%s)", i ? "," : ":", s->list[i].base,
		                      *s->list[i].why ? s->list[i].why : "not there");
	snprintf(fault->hint, sizeof(fault->hint),
	         "set FATPAR_STORE to a directory of your own, on a filesystem with room that is not mounted noexec");
	return -1;
}

void
bootid(char id[64])
{
	int fd CLEANUP(closefd) = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, 36);
	struct timespec now, up;

	if (n == 36)
		id[n] = '\0';
	/* the second it began in: a clock that is set makes another boot of it, which costs a look at what is there */
	else if (clock_gettime(CLOCK_REALTIME, &now) == 0 && clock_gettime(CLOCK_BOOTTIME, &up) == 0)
		snprintf(id, 64, "began-%lld", (long long)(now.tv_sec - up.tv_sec - (now.tv_nsec < up.tv_nsec)));
	else
		strcpy(id, "unknown");
}
