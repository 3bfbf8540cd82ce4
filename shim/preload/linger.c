/* See linger.h. Kept files are closed by later closes, or by the session's end. */
#include "shim/preload/linger.h"

#include <sys/stat.h>
#include <time.h>

#include "shim/preload/fs.h"
#include "shim/preload/guard.h"

#define LINGER_MAX 16
#define LINGER_S   10

struct kept {
	struct client_file cf;
	uint32_t epoch; /* 0: none here */
	time_t until;
};

static struct kept kept[LINGER_MAX];
static _Atomic unsigned kept_count;
static struct guard kept_guard;

static time_t seconds(void)
{
	struct timespec now = {0};

	(void)raw(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec;
}

static void kept_drop(struct client *c, struct kept *k)
{
	if (k->epoch == fs_epoch())
		client_close(c, &k->cf);
	k->epoch = 0;
	kept_count--;
}

static bool is_nameless(struct client *c, const struct client_file *cf)
{
	struct client_attr attr;

	return S_ISREG(cf->mode) && !client_getattr(c, cf->ino, &attr) && !attr.nlink;
}

static void kept_add(struct client *c, const struct client_file *cf, time_t now)
{
	struct kept *at = NULL;

	for (int i = 0; i < LINGER_MAX; i++) {
		if (!kept[i].epoch) {
			at = &kept[i];
			break;
		}
		if (!at || kept[i].until < at->until)
			at = &kept[i];
	}
	if (at->epoch)
		kept_drop(c, at);
	client_file_copy(&at->cf, cf);
	at->until = now + LINGER_S;
	at->epoch = fs_epoch();
	kept_count++;
}

void linger_close(struct client *c, const struct client_file *cf, bool shared)
{
	bool keep = shared && is_nameless(c, cf);
	bool locked;
	time_t now;

	if (keep || kept_count) {
		locked = guard_lock(&kept_guard);
		now = seconds();
		for (int i = 0; i < LINGER_MAX; i++)
			if (kept[i].epoch && (kept[i].until < now))
				kept_drop(c, &kept[i]);
		if (keep)
			kept_add(c, cf, now);
		guard_unlock(&kept_guard, locked);
	}
	if (!keep)
		client_close(c, cf);
}

void linger_forked(void)
{
	kept_guard = (struct guard){0};
	kept_count = 0;
	for (int i = 0; i < LINGER_MAX; i++)
		kept[i].epoch = 0;
}
