/*
 * Superblocks, and what else may be on a device.
 *
 * Both copies are written at format and at every open, the second before the first, each
 * durable before the next one starts: a cut leaves at least one whole. Opening thereby
 * repairs a damaged copy. Before format the start of the device is searched for the marks
 * of other owners, so that an operator's slip does not cost a file system.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/store_impl.h"

#define PROBE_SIZE_BYTES (128u << 10)

void refuse(struct store_refusal *refusal, const char *format, ...)
{
	va_list ap;

	if (!refusal)
		return;
	va_start(ap, format);
	vsnprintf(refusal->text, sizeof(refusal->text), format, ap);
	va_end(ap);
}

/* --- one synchronous I/O ------------------------------------------------------------ */

struct store_io_wait {
	struct device_io io;
	bool finished;
	int status;
};

static void io_wait_done(struct device_io *io, int status)
{
	struct store_io_wait *w = container_of(io, struct store_io_wait, io);

	w->finished = true;
	w->status = status;
}

/*
 * Submit a copy of *io and pump until it is done. A device that is silent for a minute
 * gives -ETIMEDOUT; the wait and the memory of the I/O must then stay, as the device may
 * still write to them.
 */
int store_io_sync(struct device *dev, struct env *env, void (*pump)(void *ctx), void *ctx,
	struct device_io *io)
{
	struct store_io_wait *w = mem_zalloc(sizeof(*w));
	uint64_t start_us = env_now_us(env);
	int rc;

	if (!w)
		return -ENOMEM;
	w->io = *io;
	w->io.done = io_wait_done;
	while ((rc = device_submit(dev, &w->io)) == -EAGAIN &&
		env_now_us(env) - start_us <= STORE_IO_TIMEOUT_US)
		pump(ctx);
	while (!rc && !w->finished) {
		if (env_now_us(env) - start_us > STORE_IO_TIMEOUT_US)
			return -ETIMEDOUT;
		pump(ctx);
	}
	if (!rc)
		rc = w->status;
	mem_free(w);
	return rc;
}

struct super_access {
	struct device *dev;
	struct env *env;
	void (*pump)(void *ctx);
	void *ctx;
};

static int access_io(struct super_access *a, enum device_op op, uint64_t offset_bytes,
	void *data, uint32_t size_bytes)
{
	struct device_io io = {
		.op = op,
		.durable = op == DEVICE_WRITE,
		.data = data,
		.size_bytes = size_bytes,
		.offset_bytes = offset_bytes,
	};

	return store_io_sync(a->dev, a->env, a->pump, a->ctx, &io);
}

static uint64_t device_usable(const struct device *dev)
{
	return dev->size_bytes / WFS_BLOCK_SIZE * WFS_BLOCK_SIZE;
}

/* --- what is there ------------------------------------------------------------------ */

static const struct {
	uint32_t offset;
	const char *bytes;
	uint32_t size;
	const char *name;
} signatures[] = {
	{0, "XFSB", 4, "an xfs file system"},
	{65536 + 64, "_BHRfS_M", 8, "a btrfs file system"},
	{512, "EFI PART", 8, "a GPT partition table"},
	{4096, "EFI PART", 8, "a GPT partition table"},
	{512, "LABELONE", 8, "an LVM physical volume"},
	{0, "LUKS\xba\xbe", 6, "a LUKS volume"},
	{4086, "SWAPSPACE2", 10, "swap space"},
	{510, "\x55\xaa", 2, "an MBR partition table or boot sector"},
};

static const char *probe_ext(const uint8_t *p)
{
	const uint8_t *super = p + 1024;

	if (super[56] != 0x53 || super[57] != 0xef)
		return NULL;
	if (super[0x60] & 0x40) /* incompat: extents */
		return "an ext4 file system";
	return super[0x5c] & 0x4 ? "an ext3 file system" : "an ext2 file system";
}

static const char *probe_foreign(const uint8_t *p, uint32_t size_bytes)
{
	const char *name = probe_ext(p);

	for (size_t i = 0; !name && i < sizeof(signatures) / sizeof(signatures[0]); i++) {
		uint32_t at = signatures[i].offset;

		if (at + signatures[i].size <= size_bytes &&
			memcmp(p + at, signatures[i].bytes, signatures[i].size) == 0)
			name = signatures[i].name;
	}
	for (uint32_t i = 0; !name && i < size_bytes && i < 65536; i++)
		if (p[i])
			name = "data of an unknown kind";
	return name;
}

static void uuid_text(const uint8_t uuid[16], char out[37])
{
	char *p = out;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		p += snprintf(p, 3, "%02x", uuid[i]);
	}
}

static int refuse_wfs(const struct super *found, struct store_refusal *refusal)
{
	char uuid[37];

	uuid_text(found->cluster_uuid, uuid);
	refuse(refusal,
		"the device holds a WFS device of cluster %s, node %u, shard %u; use "
		"--force to "
		"destroy it",
		uuid, found->node, found->shard);
	return -EBUSY;
}

static int probe_device(
	struct super_access *a, uint8_t *buffer, struct store_refusal *refusal)
{
	uint64_t last = device_usable(a->dev) - WFS_BLOCK_SIZE;
	struct super found;
	const char *name;
	int rc = access_io(a, DEVICE_READ, 0, buffer, PROBE_SIZE_BYTES);

	if (rc)
		return rc;
	if (super_decode(buffer, WFS_BLOCK_SIZE, &found) == 0)
		return refuse_wfs(&found, refusal);
	if (memcmp(buffer, FORMAT_SUPER_MAGIC, 8) == 0)
		name = "a damaged or newer WFS device";
	else
		name = probe_foreign(buffer, PROBE_SIZE_BYTES);
	if (name) {
		refuse(refusal, "the device holds %s; use --force to destroy it", name);
		return -EBUSY;
	}
	rc = access_io(a, DEVICE_READ, last, buffer, WFS_BLOCK_SIZE);
	if (!rc && super_decode(buffer, WFS_BLOCK_SIZE, &found) == 0)
		return refuse_wfs(&found, refusal);
	return rc;
}

/* --- format ------------------------------------------------------------------------- */

/* Second copy first; see the top comment. */
static int super_write(struct super_access *a, const struct super *super, void *block)
{
	uint64_t last = super->device_size_bytes - WFS_BLOCK_SIZE;
	int rc;

	super_encode(super, block);
	rc = access_io(a, DEVICE_WRITE, last, block, WFS_BLOCK_SIZE);
	if (!rc)
		rc = access_io(a, DEVICE_WRITE, 0, block, WFS_BLOCK_SIZE);
	return rc;
}

static uint64_t area_offset(uint64_t segment_size)
{
	return segment_size < FORMAT_AREA_MAX ? segment_size : FORMAT_AREA_MAX;
}

static uint64_t segments_in(uint64_t device_size, uint64_t segment_size)
{
	uint64_t around = area_offset(segment_size) + WFS_BLOCK_SIZE;

	return device_size < around ? 0 : (device_size - around) / segment_size;
}

/* 64 MiB, or on a small device what makes at least 64 segments, but not under 2 MiB. */
static uint32_t segment_size_choose(uint64_t device_size)
{
	uint32_t size = 64u << 20;

	while (size > 2u << 20 && segments_in(device_size, size) < 64)
		size /= 2;
	return size;
}

static int super_plan(struct super_access *a, const struct store_options *opt,
	struct super *super_out, struct store_refusal *refusal)
{
	uint64_t size = device_usable(a->dev);
	uint32_t segment_size = opt->segment_size_bytes;
	uint64_t count, min;

	if (segment_size == 0)
		segment_size = segment_size_choose(size);
	if (segment_size < FORMAT_SEGMENT_MIN || segment_size > FORMAT_SEGMENT_MAX ||
		segment_size & (segment_size - 1))
		return -EINVAL;
	count = segments_in(size, segment_size);
	min = area_offset(segment_size) + WFS_BLOCK_SIZE +
	      (uint64_t)FORMAT_SEGMENT_COUNT_MIN * segment_size;
	if (count < FORMAT_SEGMENT_COUNT_MIN || size < PROBE_SIZE_BYTES) {
		refuse(refusal, "the device has %llu bytes, at least %llu are needed",
			(unsigned long long)a->dev->size_bytes, (unsigned long long)min);
		return -ENOSPC;
	}
	if (count > UINT32_MAX / 2)
		count = UINT32_MAX / 2;
	*super_out = (struct super){
		.node = opt->identity.node,
		.shard = opt->identity.shard,
		.generation = 1,
		.device_size_bytes = size,
		.area_offset_bytes = area_offset(segment_size),
		.segment_size_bytes = segment_size,
		.segment_count = (uint32_t)count,
	};
	memcpy(super_out->cluster_uuid, opt->identity.cluster_uuid, 16);
	for (int i = 0; i < 2; i++) {
		uint64_t bits = env_random(a->env);

		memcpy(super_out->device_uuid + 8 * i, &bits, 8);
	}
	return 0;
}

int store_format(struct device *dev, struct env *env, const struct store_options *opt,
	void (*pump)(void *ctx), void *ctx, struct store_refusal *refusal_out)
{
	struct super_access a = {.dev = dev, .env = env, .pump = pump, .ctx = ctx};
	struct super super;
	uint8_t *buffer;
	int rc = super_plan(&a, opt, &super, refusal_out);

	if (rc)
		return rc;
	buffer = mem_aligned(WFS_BLOCK_SIZE, PROBE_SIZE_BYTES);
	if (!buffer)
		return -ENOMEM;
	rc = opt->force ? 0 : probe_device(&a, buffer, refusal_out);
	if (!rc)
		rc = super_write(&a, &super, buffer);
	if (rc != -ETIMEDOUT)
		mem_free(buffer);
	return rc == -ETIMEDOUT ? -EIO : rc;
}

/* --- open --------------------------------------------------------------------------- */

static int super_pick(struct super_access *a, uint8_t *buffer, struct super *out,
	struct store_refusal *refusal)
{
	uint64_t last = device_usable(a->dev) - WFS_BLOCK_SIZE;
	struct super copy[2];
	int rc[2];

	for (int i = 0; i < 2; i++) {
		rc[i] = access_io(a, DEVICE_READ, i ? last : 0, buffer, WFS_BLOCK_SIZE);
		if (rc[i] == -ENOMEM || rc[i] == -ETIMEDOUT)
			return rc[i];
		if (!rc[i])
			rc[i] = super_decode(buffer, WFS_BLOCK_SIZE, &copy[i]);
		/* The device has grown since: the second copy is where it was. */
		if (i == 0 && !rc[0] && copy[0].device_size_bytes <= last)
			last = copy[0].device_size_bytes - WFS_BLOCK_SIZE;
	}
	if (rc[0] == 0 && rc[1] == 0) {
		bool same = memcmp(copy[0].device_uuid, copy[1].device_uuid, 16) == 0;

		*out = same && copy[1].generation > copy[0].generation ? copy[1]
								       : copy[0];
		return 0;
	}
	if (rc[0] == 0 || rc[1] == 0) {
		*out = rc[0] == 0 ? copy[0] : copy[1];
		log_warn("store superblock copy=%d error=%d repaired", rc[0] ? 0 : 1,
			rc[0] ? rc[0] : rc[1]);
		return 0;
	}
	if (rc[0] == -EIO || rc[1] == -EIO)
		return -EIO;
	if (rc[0] == -EPROTO || rc[1] == -EPROTO) {
		refuse(refusal, "the device was written by a newer WFS");
		return -EPROTO;
	}
	if (rc[0] == -ENODEV && rc[1] == -ENODEV) {
		refuse(refusal, "not a WFS device");
		return -ENODEV;
	}
	refuse(refusal, "both superblocks are damaged");
	return -EUCLEAN;
}

static int super_match(const struct super *super, const struct store_identity *id,
	struct store_refusal *refusal)
{
	char uuid[37];

	if (memcmp(super->cluster_uuid, id->cluster_uuid, 16) == 0 &&
		super->node == id->node && super->shard == id->shard)
		return 0;
	uuid_text(super->cluster_uuid, uuid);
	refuse(refusal, "the device belongs to cluster %s, node %u, shard %u", uuid,
		super->node, super->shard);
	return -EXDEV;
}

int super_load(
	struct store *s, const struct store_options *opt, struct store_refusal *refusal)
{
	struct super_access a = {s->dev, s->env, s->pump, s->pump_ctx};
	uint8_t *buffer;
	int rc;

	if (device_usable(s->dev) < PROBE_SIZE_BYTES) {
		refuse(refusal, "not a WFS device: too small");
		return -ENODEV;
	}
	buffer = mem_aligned(WFS_BLOCK_SIZE, WFS_BLOCK_SIZE);
	if (!buffer)
		return -ENOMEM;
	rc = super_pick(&a, buffer, &s->super, refusal);
	if (!rc)
		rc = super_match(&s->super, &opt->identity, refusal);
	if (!rc && s->super.device_size_bytes > s->dev->size_bytes) {
		refuse(refusal, "the device has shrunk from %llu to %llu bytes",
			(unsigned long long)s->super.device_size_bytes,
			(unsigned long long)s->dev->size_bytes);
		rc = -EUCLEAN;
	}
	if (rc != -ETIMEDOUT)
		mem_free(buffer);
	return rc == -ETIMEDOUT ? -EIO : rc;
}

int super_store(struct store *s)
{
	struct super_access a = {s->dev, s->env, s->pump, s->pump_ctx};
	uint8_t *buffer = mem_aligned(WFS_BLOCK_SIZE, WFS_BLOCK_SIZE);
	int rc;

	if (!buffer)
		return -ENOMEM;
	rc = super_write(&a, &s->super, buffer);
	if (rc != -ETIMEDOUT)
		mem_free(buffer);
	return rc == -ETIMEDOUT ? -EIO : rc;
}
