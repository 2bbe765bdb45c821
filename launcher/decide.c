#include <stdint.h>
#include "fatpar.h"
#include "archive.h"
#include "decide.h"
#include "host.h"
#include "phases.h"
#include "select.h"

void
decide(struct host *host, struct selection *sel, const struct archive *ar)
{
	hostprobe(host, ar);
	phaseended("probe the host");
	selectslice(sel, ar, host);
	phaseended("select a slice");
	if (sel->slice != NONE)
		return;
	hostprobepath(host, ar);
	phaseended("probe the Pythons on PATH");
	selectslice(sel, ar, host);
	phaseended("select a slice");
}
