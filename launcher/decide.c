#include <stdint.h>
#include "fatpar.h"
#include "archive.h"
#include "decide.h"
#include "host.h"
#include "select.h"

void
decide(struct host *host, struct selection *sel, const struct archive *ar)
{
	hostprobe(host, ar);
	selectslice(sel, ar, host);
	if (sel->slice != NONE)
		return;
	hostprobepath(host, ar);
	selectslice(sel, ar, host);
}
