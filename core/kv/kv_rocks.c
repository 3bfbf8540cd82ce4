/*
 * The map on RocksDB, through its C API. No other file knows RocksDB.
 *
 * What makes it the map that kv.h promises:
 *
 *   - the WAL is off, and the write buffer so large that RocksDB never flushes by
 *     itself. Only flush_begin makes state durable, and all of it at once: one column
 *     family has one memtable, which is on disk as a whole or not at all;
 *   - avoid_flush_during_shutdown, which the C API can set only through an options
 *     string: with the WAL off RocksDB would flush at close otherwise, and closing is to
 *     be a crash;
 *   - writes never wait (no_slowdown): the stall triggers are out of reach, because the
 *     shard's thread must not sleep. Compaction that falls behind makes reads slower;
 *   - automatic recovery from background errors is off. A failed flush is reported, the
 *     owner closes and opens again.
 *
 * RocksDB's own text log is silent after open: in builds with assertions the second write
 * to a log that could not be written aborts the process, so a full file system would kill
 * the node when it is about to report that.
 *
 * A flush is done when no immutable memtable is left, which RocksDB says only after the
 * new manifest is on stable storage.
 */
#include <assert.h>
#include <errno.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/list.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/types.h"
#include "core/kv/kv.h"

#define WRITE_BUFFER_SIZE ((size_t)1 << 30)
/* Of RocksDB's log levels: nothing but the header at open. */
#define LOG_LEVEL_FATAL   4
#define LOG_FILE_SIZE     ((size_t)4 << 20)
#define NEVER_FILES       (1 << 20)

struct kv_rocks {
	struct kv kv;
	rocksdb_t *db;
	rocksdb_options_t *options;
	rocksdb_cache_t *block_cache;
	rocksdb_readoptions_t *read_options;
	rocksdb_writeoptions_t *write_options;
	rocksdb_flushoptions_t *flush_options;
	rocksdb_writebatch_t *writes;
	unsigned iter_count;
	bool flush_active;
};

struct kv_rocks_iter {
	struct kv_iter iter;
	struct kv_rocks *rocks;
	rocksdb_iterator_t *it;
};

static struct kv_rocks *rocks_of(struct kv *kv)
{
	return container_of(kv, struct kv_rocks, kv);
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Takes RocksDB's message and makes an errno of it; NULL is success. */
static int rocks_error(char *message)
{
	int rc = -EIO;

	if (!message)
		return 0;
	if (strstr(message, "While lock file") || strstr(message, "lock hold by"))
		rc = -EBUSY;
	else if (starts_with(message, "Corruption"))
		rc = -EUCLEAN;
	/* The text is lost after this, and the errno alone is not enough to act on. */
	if (rc != -EBUSY)
		log_error("kv rocksdb_error=\"%s\"", message);
	rocksdb_free(message);
	return rc;
}

static int rocks_get(struct kv *kv, const void *key, size_t key_size, struct buf *out)
{
	struct kv_rocks *rocks = rocks_of(kv);
	rocksdb_pinnableslice_t *slice;
	const char *value;
	char *error = NULL;
	size_t value_size;

	slice = rocksdb_get_pinned(rocks->db, rocks->read_options, key, key_size, &error);
	if (error)
		return rocks_error(error);
	if (!slice)
		return -ENOENT;
	value = rocksdb_pinnableslice_value(slice, &value_size);
	buf_append(out, value, value_size);
	rocksdb_pinnableslice_destroy(slice);
	return buf_error(out);
}

static int rocks_apply(struct kv *kv, const void *bytes, size_t size_bytes)
{
	struct kv_rocks *rocks = rocks_of(kv);
	struct batch_entry entry;
	char *error = NULL;
	size_t offset = 0;
	int rc;

	rocksdb_writebatch_clear(rocks->writes);
	while ((rc = batch_next(bytes, size_bytes, &offset, &entry)) > 0) {
		if (entry.type == BATCH_PUT)
			rocksdb_writebatch_put(rocks->writes, (const char *)entry.key,
				entry.key_size, (const char *)entry.value,
				entry.value_size);
		else if (entry.type == BATCH_DEL)
			rocksdb_writebatch_delete(rocks->writes, (const char *)entry.key,
				entry.key_size);
	}
	if (rc)
		return rc;
	if (rocksdb_writebatch_count(rocks->writes) == 0)
		return 0;
	rocksdb_write(rocks->db, rocks->write_options, rocks->writes, &error);
	return rocks_error(error);
}

static struct kv_rocks_iter *iter_of(struct kv_iter *it)
{
	return container_of(it, struct kv_rocks_iter, iter);
}

static void iter_seek(struct kv_iter *it, const void *key, size_t key_size)
{
	rocksdb_iter_seek(iter_of(it)->it, key, key_size);
}

static bool iter_valid(struct kv_iter *it)
{
	return rocksdb_iter_valid(iter_of(it)->it);
}

static void iter_next(struct kv_iter *it)
{
	rocksdb_iter_next(iter_of(it)->it);
}

static const void *iter_key(struct kv_iter *it, size_t *size_out)
{
	return rocksdb_iter_key(iter_of(it)->it, size_out);
}

static const void *iter_value(struct kv_iter *it, size_t *size_out)
{
	return rocksdb_iter_value(iter_of(it)->it, size_out);
}

static int iter_error(struct kv_iter *it)
{
	char *error = NULL;

	rocksdb_iter_get_error(iter_of(it)->it, &error);
	return rocks_error(error);
}

static void iter_close(struct kv_iter *it)
{
	struct kv_rocks_iter *rit = iter_of(it);

	rocksdb_iter_destroy(rit->it);
	rit->rocks->iter_count--;
	mem_free(rit);
}

static const struct kv_iter_ops rocks_iter_ops = {
	.seek = iter_seek,
	.valid = iter_valid,
	.next = iter_next,
	.key = iter_key,
	.value = iter_value,
	.error = iter_error,
	.close = iter_close,
};

static int rocks_iter_open(struct kv *kv, struct kv_iter **iter_out)
{
	struct kv_rocks *rocks = rocks_of(kv);
	struct kv_rocks_iter *rit = mem_zalloc(sizeof(*rit));

	if (!rit)
		return -ENOMEM;
	rit->iter.ops = &rocks_iter_ops;
	rit->rocks = rocks;
	rit->it = rocksdb_create_iterator(rocks->db, rocks->read_options);
	rocks->iter_count++;
	*iter_out = &rit->iter;
	return 0;
}

static uint64_t rocks_property(struct kv_rocks *rocks, const char *name)
{
	uint64_t value = 0;

	return rocksdb_property_int(rocks->db, name, &value) == 0 ? value : 0;
}

static int rocks_flush_done(struct kv *kv)
{
	struct kv_rocks *rocks = rocks_of(kv);
	uint64_t left;

	if (!rocks->flush_active)
		return 0;
	/* In this order: an error after the flush went away is of no interest to it. */
	left = rocks_property(rocks, "rocksdb.num-immutable-mem-table");
	if (left && rocks_property(rocks, "rocksdb.background-errors")) {
		rocks->flush_active = false;
		log_error("kv flush failed memtables_left=%lu", (unsigned long)left);
		return -EIO;
	}
	if (left)
		return -EINPROGRESS;
	rocks->flush_active = false;
	return 0;
}

static int rocks_flush_begin(struct kv *kv)
{
	struct kv_rocks *rocks = rocks_of(kv);
	char *error = NULL;
	int rc;

	if (rocks->flush_active)
		return -EBUSY;
	rocksdb_flush(rocks->db, rocks->flush_options, &error);
	rc = rocks_error(error);
	rocks->flush_active = rc == 0;
	return rc;
}

static uint64_t rocks_size_bytes(struct kv *kv)
{
	struct kv_rocks *rocks = rocks_of(kv);

	return rocks_property(rocks, "rocksdb.live-sst-files-size") +
		rocks_property(rocks, "rocksdb.size-all-mem-tables");
}

static void rocks_close(struct kv *kv)
{
	struct kv_rocks *rocks = rocks_of(kv);

	assert(rocks->iter_count == 0);
	if (rocks->db)
		rocksdb_close(rocks->db);
	if (rocks->writes)
		rocksdb_writebatch_destroy(rocks->writes);
	if (rocks->flush_options)
		rocksdb_flushoptions_destroy(rocks->flush_options);
	if (rocks->write_options)
		rocksdb_writeoptions_destroy(rocks->write_options);
	if (rocks->read_options)
		rocksdb_readoptions_destroy(rocks->read_options);
	if (rocks->options)
		rocksdb_options_destroy(rocks->options);
	if (rocks->block_cache)
		rocksdb_cache_destroy(rocks->block_cache);
	mem_free(rocks);
}

static const struct kv_ops rocks_ops = {
	.get = rocks_get,
	.apply = rocks_apply,
	.iter_open = rocks_iter_open,
	.flush_begin = rocks_flush_begin,
	.flush_done = rocks_flush_done,
	.size_bytes = rocks_size_bytes,
	.close = rocks_close,
};

static int options_make(struct kv_rocks *rocks)
{
	rocksdb_options_t *base = rocksdb_options_create();
	char *error = NULL;

	rocks->options = rocksdb_options_create();
	rocksdb_get_options_from_string(base,
		"avoid_flush_during_shutdown=true;max_bgerror_resume_count=0",
		rocks->options, &error);
	rocksdb_options_destroy(base);
	return rocks_error(error);
}

static void options_set_buffers(rocksdb_options_t *options)
{
	rocksdb_options_set_write_buffer_size(options, WRITE_BUFFER_SIZE);
	rocksdb_options_set_db_write_buffer_size(options, 0);
	rocksdb_options_set_max_write_buffer_number(options, 4);
	rocksdb_options_set_allow_concurrent_memtable_write(options, 0);
	rocksdb_options_set_max_background_jobs(options, 2);
	rocksdb_options_set_level0_slowdown_writes_trigger(options, NEVER_FILES);
	rocksdb_options_set_level0_stop_writes_trigger(options, NEVER_FILES);
	rocksdb_options_set_soft_pending_compaction_bytes_limit(options, 0);
	rocksdb_options_set_hard_pending_compaction_bytes_limit(options, 0);
	rocksdb_options_set_info_log_level(options, LOG_LEVEL_FATAL);
	rocksdb_options_set_keep_log_file_num(options, 2);
	rocksdb_options_set_max_log_file_size(options, LOG_FILE_SIZE);
	rocksdb_options_set_stats_dump_period_sec(options, 0);
	rocksdb_options_set_stats_persist_period_sec(options, 0);
}

static void options_set_tables(struct kv_rocks *rocks, uint64_t memory_bytes)
{
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

	rocks->block_cache = rocksdb_cache_create_lru((size_t)(memory_bytes / 2));
	rocksdb_block_based_options_set_block_cache(table, rocks->block_cache);
	/* The options take the policy over. */
	rocksdb_block_based_options_set_filter_policy(table,
		rocksdb_filterpolicy_create_bloom_full(10));
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
	rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
	rocksdb_options_set_block_based_table_factory(rocks->options, table);
	rocksdb_block_based_options_destroy(table);
}

static int rocks_db_open(struct kv_rocks *rocks, const char *path, bool create)
{
	char *error = NULL;

	rocksdb_options_set_create_if_missing(rocks->options, create);
	rocksdb_options_set_compression(rocks->options, rocksdb_lz4_compression);
	rocks->db = rocksdb_open(rocks->options, path, &error);
	if (error && strstr(error, "ompression type")) {
		/* A RocksDB built without LZ4. */
		rocksdb_free(error);
		error = NULL;
		rocksdb_options_set_compression(rocks->options, rocksdb_no_compression);
		rocks->db = rocksdb_open(rocks->options, path, &error);
	}
	return rocks_error(error);
}

static void call_options_make(struct kv_rocks *rocks)
{
	rocks->read_options = rocksdb_readoptions_create();
	rocksdb_readoptions_set_total_order_seek(rocks->read_options, 1);
	rocksdb_readoptions_set_readahead_size(rocks->read_options, 0);
	rocks->write_options = rocksdb_writeoptions_create();
	rocksdb_writeoptions_disable_WAL(rocks->write_options, 1);
	rocksdb_writeoptions_set_no_slowdown(rocks->write_options, 1);
	rocks->flush_options = rocksdb_flushoptions_create();
	rocksdb_flushoptions_set_wait(rocks->flush_options, 0);
	rocks->writes = rocksdb_writebatch_create();
}

int kv_rocks_open(const char *path, bool create, uint64_t memory_bytes,
	struct kv **kv_out)
{
	struct kv_rocks *rocks;
	char current[WFS_PATH_MAX];
	int rc;

	if (snprintf(current, sizeof(current), "%s/CURRENT", path) >=
		(int)sizeof(current))
		return -ENAMETOOLONG;
	if (!create && access(current, F_OK) < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	rocks = mem_zalloc(sizeof(*rocks));
	if (!rocks)
		return -ENOMEM;
	rocks->kv.ops = &rocks_ops;
	rc = options_make(rocks);
	if (rc)
		goto fail;
	options_set_buffers(rocks->options);
	options_set_tables(rocks, memory_bytes);
	call_options_make(rocks);
	rc = rocks_db_open(rocks, path, create);
	if (rc)
		goto fail;
	*kv_out = &rocks->kv;
	return 0;
fail:
	rocks_close(&rocks->kv);
	return rc;
}
