/*
 * Requests in, answers out: the table of operations, and the life of an exec.
 */
#include "core/shard/shard_impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/mutate.h"
#include "core/shard/member.h"
#include "core/shard/once.h"
#include "core/shard/reply.h"
#include "meta/schema.h"

/* How long files stay open that a session held when it ended. */
#define LINGER_US 5000000u
/* Full with so much left: for what is on its way. */
#define FULL_BYTES ((uint64_t)8 << 20)
/* What an inode counts for in shard_fill: about what it and its name take. */
#define INODE_FILL_BYTES 4096u

static const struct op_desc ops[OP_MAX] = {
	[OP_PING] = {.handler = op_ping, .whole_shard = true},
	[OP_WALK] = {.handler = op_walk},
	[OP_OPEN] = {.handler = op_open, .writes = true, .remember = true},
	[OP_SETATTR] = {.start = setattr_start, .remember = true},
	[OP_MKNOD] = {.handler = op_mknod, .writes = true, .remember = true},
	[OP_MKDIR] = {.start = txn_start, .remember = true},
	[OP_SYMLINK] = {.handler = op_symlink, .writes = true, .remember = true},
	[OP_READLINK] = {.handler = op_readlink},
	[OP_UNLINK] = {.start = txn_start, .remember = true},
	[OP_RMDIR] = {.start = txn_start, .remember = true},
	[OP_LINK] = {.start = txn_start, .remember = true},
	[OP_GETXATTR] = {.handler = op_getxattr},
	[OP_SETXATTR] = {.handler = op_setxattr, .writes = true, .remember = true},
	[OP_LISTXATTR] = {.handler = op_listxattr},
	[OP_REMOVEXATTR] = {.handler = op_removexattr, .writes = true, .deletes = true,
		.remember = true},
	[OP_RENAME] = {.start = txn_start, .remember = true},
	[OP_READDIR] = {.handler = op_readdir},
	[OP_CLOSE] = {.handler = op_close},
	[OP_READ] = {.start = read_start},
	[OP_WRITE] = {.start = write_start, .remember = true},
	[OP_EXTEND] = {.handler = op_extend, .writes = true},
	[OP_APPEND] = {.handler = op_append, .writes = true, .remember = true},
	[OP_REOPEN] = {.handler = op_reopen},
	[OP_REPAIRS] = {.handler = op_repairs, .whole_shard = true},
	[OP_SHARD_STATS] = {.handler = op_shard_stats, .whole_shard = true},
	[OP_SESSION_END] = {.handler = op_session_end, .whole_shard = true},
	[OP_SCAN] = {.handler = op_scan, .root_only = true, .whole_shard = true},
	[OP_MAKE_ROOT] = {.handler = op_make_root, .writes = true, .root_only = true},
	[OP_ENTRY] = {.handler = op_entry, .node_only = true},
	[OP_PREPARE] = {.handler = op_prepare, .writes = true, .node_only = true},
	[OP_RESOLVE] = {.handler = op_resolve, .writes = true, .deletes = true,
		.node_only = true},
	[OP_TXN_STATUS] = {.handler = op_txn_status, .node_only = true},
	[OP_RENAME_LOCK] = {.handler = op_rename_lock, .node_only = true},
	[OP_RENAME_UNLOCK] = {.handler = op_rename_unlock, .node_only = true},
	[OP_CHUNK_PURGE] = {.start = chunk_purge_start, .node_only = true},
	[OP_JOIN] = {.start = join_start, .node_only = true, .whole_shard = true,
		.member = true},
	[OP_REPLICATE] = {.start = replicate_start, .node_only = true,
		.whole_shard = true, .member = true},
	[OP_BLOCKS] = {.start = blocks_start, .node_only = true, .whole_shard = true,
		.member = true},
};

bool shard_owns(void *ctx, uint16_t bucket)
{
	const struct shard *s = ctx;

	return bucket < s->map->bucket_count && s->buckets[bucket].role == ROLE_PRIMARY;
}

bool shard_leased(const struct shard *s)
{
	/* A clock is read for each request: not where there is nothing to run out. */
	return s->lease_until_us == UINT64_MAX ||
	       env_now_us(s->env) < s->lease_until_us || MUTATED(SERVE_WITHOUT_LEASE);
}

static bool shard_is_open(void *ctx, ino_id ino)
{
	const struct shard *s = ctx;

	return s->grace_until_us != 0 || s->buckets[ino_bucket(ino)].grace_until_us != 0 ||
	       open_table_has(s->opens, ino);
}

static void shard_unlocked(void *ctx)
{
	struct shard *s = ctx;

	s->rerun_parked = true;
	if (meta_purge_locked(s->meta))
		purge_kick(s);
}

static void shard_room(void *ctx)
{
	((struct shard *)ctx)->rerun_room = true;
}

void shard_call_init(struct shard *s, const struct cred *cred, struct meta_call *c)
{
	batch_reset(&s->batch);
	*c = (struct meta_call){
		.cred = cred, .now_ns = env_wall_ns(s->env), .batch = &s->batch};
}

/* --- exec --- */

struct exec *exec_new(struct shard *s, struct request *req)
{
	struct exec *x = mem_zalloc(sizeof(*x));

	if (!x)
		return NULL;
	x->s = s;
	x->req = req;
	list_init(&x->link);
	list_init(&x->commit.link);
	list_push_back(&s->execs, &x->all_link);
	return x;
}

void exec_finish_now(struct exec *x, int status)
{
	struct shard *s = x->s;
	struct request *req = x->req;

	if (x->begun && s->store)
		exec_abort(x);
	if (x->io)
		io_free(x->io);
	if (x->txn)
		txn_exec_gone(x);
	if (status < 0 && x->opened && open_table_remove(s->opens, req->session, x->opened))
		purge_kick(s);
	if (x->op && req)
		once_end(s, x->op, req, status);
	list_remove(&x->link);
	list_remove(&x->all_link);
	list_remove(&x->commit.link);
	mem_free(x);
	if (req)
		req->done(req, status);
}

static bool exec_is_member(const struct exec *x)
{
	return x->op && x->op->member;
}

static void exec_barrier_done(struct store_barrier *b, int status)
{
	struct exec *x = container_of(b, struct exec, barrier);

	exec_finish_now(x, status ? -EIO : x->status);
}

void exec_finish(struct exec *x, int status)
{
	struct shard *s = x->s;

	if (x->begun)
		exec_abort(x);
	if (s->closing || store_error(s->store) != 0) {
		exec_finish_now(x, status ? status : -EIO);
		return;
	}
	x->status = status;
	if (!exec_is_member(x) && !s->alone) {
		commit_barrier(x);
		return;
	}
	if (store_durable_sequence(s->store) == store_committed_sequence(s->store)) {
		exec_finish_now(x, status);
		return;
	}
	x->barrier.done = exec_barrier_done;
	store_barrier(s->store, &x->barrier);
}

void exec_wait(struct exec *x, struct list *queue)
{
	if (x->begun)
		exec_abort(x);
	list_remove(&x->link);
	list_push_back(queue, &x->link);
}

void exec_park(struct exec *x)
{
	if (x->parked_us == 0)
		x->parked_us = env_now_us(x->s->env);
	exec_wait(x, &x->s->parked);
}

void exec_again(struct exec *x)
{
	exec_wait(x, &x->s->room);
	x->s->rerun_room = true;
}

int exec_begin(struct exec *x, uint16_t bucket, uint32_t block_count, bool deletes)
{
	struct shard *s = x->s;
	int rc;

	if (!exec_is_member(x) && !shard_owns(s, bucket))
		return -EREMCHG; /* not ours any more */
	if (!deletes && members_full(s, bucket))
		return -ENOSPC;
	x->bucket = bucket;
	x->record = (struct store_record){
		.bucket = bucket,
		.block_count = block_count,
		.deletes = deletes,
	};
	rc = store_begin(s->store, &x->record);
	if (rc == -EAGAIN) {
		exec_wait(x, &s->room);
		return -EINPROGRESS;
	}
	x->begun = rc == 0;
	return rc;
}

void exec_abort(struct exec *x)
{
	store_abort(x->s->store, &x->record);
	x->begun = false;
}

/* The bucket's own log position rides in each of its records. */
static void batch_put_lsn(struct batch *batch, uint16_t bucket, uint64_t lsn,
	uint32_t epoch)
{
	uint8_t key[4] = {0x01, 0, 0, 'A'};
	struct bucket_position value = {.lsn = le64_put(lsn), .epoch = le32_put(epoch)};

	be16_write(key + 1, bucket);
	batch_put(batch, key, sizeof(key), &value, sizeof(value));
}

/* The record is in the log. */
static void exec_appended(struct exec *x)
{
	struct shard *s = x->s;
	struct bucket_state *b = &s->buckets[x->bucket];
	/* The parts of a copy are no records, though the last carries what one carries. */
	bool is_record = x->record.lsn == s->lsn[x->bucket] + 1;

	s->lsn[x->bucket] = x->record.lsn;
	b->record_epoch = x->record.bucket_epoch;
	s->fill = 0;
	if (s->alone)
		return;
	if (b->record_epoch && (is_record || MUTATED(COPY_IN_HISTORY)))
		history_add(s, x->bucket, b->record_epoch, x->record.lsn, &x->record,
			s->batch.bytes.data, s->batch.bytes.size_bytes,
			!x->follows && b->stream_count > 0);
	if (!x->follows)
		commit_push(x);
}

int exec_commit(struct exec *x, void (*done)(struct store_record *r, int status))
{
	struct shard *s = x->s;
	uint16_t bucket = x->bucket;
	int rc;

	x->record.bucket = bucket;
	x->record.bucket_epoch = x->follows ? x->record_epoch : s->buckets[bucket].epoch;
	x->record.lsn = x->follows ? x->record_lsn : s->lsn[bucket] + 1;
	reply_remember(x);
	batch_put_lsn(&s->batch, bucket, x->record.lsn, x->record.bucket_epoch);
	x->record.done = done;
	if (!s->alone && !x->follows)
		commit_init(x, done);
	rc = batch_error(&s->batch);
	if (rc < 0) {
		exec_abort(x);
	} else {
		/* Whatever comes of it, what was begun has ended. */
		rc = store_commit(s->store, &x->record, &s->batch);
		x->begun = false;
	}
	if (rc == 0)
		exec_appended(x);
	else
		meta_batch_dropped(s->meta);
	batch_reset(&s->batch);
	return rc;
}

static void exec_committed(struct store_record *r, int status)
{
	exec_finish_now(container_of(r, struct exec, record), status);
}

/* A participant's record is committed, or not: what becomes of its locks. */
static void exec_locks(struct exec *x, int rc)
{
	if (x->unlock && rc == 0)
		intent_ended(x->s, x->txid, x->bucket);
	if ((x->unlock && rc == 0) || (x->prepared && rc < 0))
		meta_unlock_bucket(x->s->meta, x->txid, x->bucket);
}

void exec_conclude(struct exec *x, int rc)
{
	struct shard *s = x->s;

	if (rc == 0)
		rc = batch_error(&s->batch);
	if (rc < 0) {
		if (s->batch.count > 0 || batch_error(&s->batch))
			meta_batch_dropped(s->meta);
		batch_reset(&s->batch);
		if (rc == -EINPROGRESS)
			exec_park(x);
		else
			exec_finish(x, rc);
		return;
	}
	if (s->batch.count == 0) {
		exec_locks(x, 0);
		exec_finish(x, 0);
		return;
	}
	if (x->begun) {
		rc = exec_commit(x, exec_committed);
	} else {
		/* It had to change something, and there was no room to. */
		meta_batch_dropped(s->meta);
		batch_reset(&s->batch);
		rc = -ENOSPC;
	}
	exec_locks(x, rc);
	if (rc < 0)
		exec_finish(x, rc);
}

static void exec_run_plain(struct exec *x)
{
	struct shard *s = x->s;
	struct meta_call c;

	assert(x->req); /* the shard's own work has a start of its own */
	if (x->op->writes) {
		bool deletes = x->req->op == OP_PREPARE ? prepare_deletes(x->req)
						       : x->op->deletes;
		int rc = exec_begin(x, x->req->bucket, 0, deletes);

		if (rc == -EINPROGRESS)
			return;
		/* Full: it may still turn out to change nothing. */
		if (rc < 0 && rc != -ENOSPC) {
			exec_finish(x, rc);
			return;
		}
	}
	shard_call_init(s, &x->req->cred, &c);
	x->req->reply_size = 0;
	x->req->reply_data_size = 0;
	x->opened = 0;
	x->bucket = x->req->bucket;
	exec_conclude(x, x->op->handler(x, &c));
}

void exec_start(struct exec *x)
{
	if (x->s->closing || store_error(x->s->store) != 0)
		exec_finish_now(x, -EIO);
	else if (x->req && !(x->req->flags & HEAD_TO_SHARD) &&
		!shard_owns(x->s, x->req->bucket))
		exec_finish_now(x, -EREMCHG);
	else if (x->op->start)
		x->op->start(x);
	else
		exec_run_plain(x);
}

uint64_t exec_timeout_ms(const struct exec *x)
{
	uint64_t now = env_now_us(x->s->env);
	uint64_t deadline = x->req ? x->req->deadline_us : now + 5000000;

	return deadline > now ? (deadline - now) / 1000 + 1 : 1;
}

/* --- requests --- */

void shard_handle(struct shard *s, struct request *req)
{
	const struct op_desc *op = req->op < OP_MAX ? &ops[req->op] : NULL;
	struct exec *x;
	int status;

	s->requests++;
	if (!op || (!op->handler && !op->start)) {
		req->done(req, -EOPNOTSUPP);
		return;
	}
	if (op->root_only && req->cred.uid != 0) {
		req->done(req, -EPERM);
		return;
	}
	if ((req->flags & HEAD_TO_SHARD) && !op->whole_shard) {
		req->done(req, -EINVAL);
		return;
	}
	if (!(req->flags & HEAD_TO_SHARD) &&
		(!shard_owns(s, req->bucket) || !shard_leased(s))) {
		/* An older or newer map than ours, or our time is up. */
		req->done(req, -EREMCHG);
		return;
	}
	if (s->closing || store_error(s->store) != 0) {
		req->done(req, -EIO);
		return;
	}
	if (!once_begin(s, op, req, &status)) {
		req->done(req, status);
		return;
	}
	x = exec_new(s, req);
	if (!x) {
		once_end(s, op, req, -ENOMEM);
		req->done(req, -ENOMEM);
		return;
	}
	if (!s->alone && !op->member && !op->whole_shard)
		s->served_us = env_now_us(s->env);
	x->op = op;
	exec_start(x);
	if (s->store)
		store_kick(s->store);
}

/* --- the loop --- */

static void queue_rerun(struct list *queue)
{
	struct list ready;

	list_init(&ready);
	list_splice_back(&ready, queue);
	while (!list_empty(&ready)) {
		struct exec *x = list_first(&ready, struct exec, link);

		list_remove(&x->link);
		exec_start(x);
	}
}

/*
 * Only the purge of a long file keeps a getattr waiting. As long as that goes on, whoever
 * asks is told to ask again, well before he gives up.
 */
static bool parked_for_purge(const struct exec *x, uint64_t now)
{
	const struct wire_path *wp = x->req->body;
	uint64_t quarter_us = (x->req->deadline_us - x->parked_us) / 4;

	return x->req->op == OP_WALK && wp->mode == WIRE_NOFOLLOW &&
	       le16_get(wp->path_size) == 0 && now >= x->parked_us + 3 * quarter_us &&
	       purge_moves(x->s, x->parked_us, now - quarter_us);
}

static void parked_expire(struct shard *s)
{
	uint64_t now = env_now_us(s->env);

	list_for_each(it, tmp, &s->parked)
	{
		struct exec *x = container_of(it, struct exec, link);

		if (x->req && x->req->deadline_us <= now)
			exec_finish_now(x, -ETIMEDOUT);
		else if (x->req && parked_for_purge(x, now))
			exec_finish_now(x, -EINPROGRESS);
	}
}

/* The log failed: whoever waits for something gets its answer. */
static void failed_poll(struct shard *s)
{
	queue_rerun(&s->parked);
	queue_rerun(&s->room);
	queue_rerun(&s->chunk_waiters);
	queue_rerun(&s->buffers);
	txn_fail_waiting(s);
}

/* Programs have had their time to say what they hold open. */
static void grace_poll(struct shard *s, uint64_t *next_us)
{
	uint64_t now = env_now_us(s->env);

	if (s->grace_until_us == 0)
		return;
	if (now < s->grace_until_us) {
		if (s->grace_until_us - now < *next_us)
			*next_us = s->grace_until_us - now;
		return;
	}
	s->grace_until_us = 0;
	purge_kick(s);
}

uint64_t shard_poll(struct shard *s)
{
	uint64_t next_us = UINT64_MAX;

	if (store_error(s->store) != 0) {
		failed_poll(s);
		return next_us;
	}
	for (unsigned turns = 0; turns < 8; turns++) {
		if (s->rerun_parked) {
			s->rerun_parked = false;
			queue_rerun(&s->parked);
		} else if (s->rerun_room) {
			s->rerun_room = false;
			queue_rerun(&s->room);
		} else if (s->rerun_chunks) {
			s->rerun_chunks = false;
			queue_rerun(&s->chunk_waiters);
		} else if (s->rerun_buffers) {
			s->rerun_buffers = false;
			queue_rerun(&s->buffers);
		} else {
			break;
		}
	}
	parked_expire(s);
	grace_poll(s, &next_us);
	if (open_table_expire(s->opens, env_now_us(s->env), &next_us))
		purge_kick(s);
	if (!list_empty(&s->parked) && next_us > 20000)
		next_us = 20000;
	txn_poll(s, &next_us);
	intent_poll(s, &next_us);
	purge_poll(s, &next_us);
	member_poll(s, env_now_us(s->env), &next_us);
	if (s->rerun_parked || s->rerun_room || s->rerun_chunks || s->rerun_buffers)
		next_us = 0;
	return next_us;
}

void shard_session_end(struct shard *s, uint64_t session)
{
	open_table_end(s->opens, session, env_now_us(s->env) + LINGER_US);
}

void shard_map_set(struct shard *s, const struct map *map)
{
	s->map = map;
	meta_owner_changed(s->meta);
	s->fill = 0;
	member_map(s);
}

void shard_lease_set(struct shard *s, uint64_t until_us)
{
	s->lease_until_us = until_us;
}

uint32_t shard_fill(struct shard *s)
{
	struct store_stats st;
	uint64_t used, unit;

	if (s->fill || s->closing)
		return s->fill;
	store_stats(s->store, &st);
	used = st.live_bytes + meta_inode_count(s->meta) * INODE_FILL_BYTES;
	/* used * 2^32 / size would overflow: 16 bits at a time. */
	unit = (st.size_bytes >> 16) + 1;
	used = (used / unit << 16) + (used % unit << 16) / unit;
	s->fill = used >= SHARD_FULL ? SHARD_FULL - 1 : (uint32_t)used + 1;
	if (st.free_bytes < FULL_BYTES && st.free_bytes < st.size_bytes / 32)
		s->fill = SHARD_FULL;
	return s->fill;
}

void shard_process_stats_set(struct shard *s, const struct shard_process_stats *ps)
{
	s->process = *ps;
}

/* --- life --- */

static void root_made(struct store_record *r, int status)
{
	exec_finish_now(container_of(r, struct exec, record), status);
}

/* The first filesystem's root is WFS_ROOT_INO and comes into being with its bucket. */
int root_ensure(struct shard *s)
{
	static const struct cred root_cred;
	struct meta_call c;
	struct attr attr;
	struct exec *x;
	ino_id ino;
	int rc;

	if (!shard_owns(s, ino_bucket(WFS_ROOT_INO)))
		return 0;
	rc = meta_getattr(s->meta, WFS_ROOT_INO, &attr);
	if (rc == -EINPROGRESS) /* there, and in a transaction */
		return 0;
	if (rc != -ESTALE)
		return rc;
	x = exec_new(s, NULL);
	if (!x)
		return -ENOMEM;
	rc = exec_begin(x, ino_bucket(WFS_ROOT_INO), 0, false);
	if (rc == 0) {
		shard_call_init(s, &root_cred, &c);
		rc = meta_make_root(s->meta, &c, ino_bucket(WFS_ROOT_INO),
			s->map->filesystem_count ? s->map->filesystems[0].fsid : 1, &ino);
	}
	if (rc == 0)
		rc = exec_commit(x, root_made);
	if (rc < 0)
		exec_finish_now(x, rc);
	return rc;
}

/* Whether it has ever served: then files may be open that it does not know of. */
static bool has_past(const struct shard *s)
{
	for (uint32_t b = 0; b < s->map->bucket_count; b++)
		if (s->lsn[b] != 0)
			return true;
	return false;
}

static int shard_init(struct shard *s, const struct shard_options *opt)
{
	struct meta_options mo = {
		.kv = s->kv,
		.env = s->env,
		.bucket_count = s->map->bucket_count,
		.owns = shard_owns,
		.is_open = shard_is_open,
		.ctx = s,
	};
	int rc;

	s->lsn = mem_zalloc(sizeof(*s->lsn) * s->map->bucket_count);
	if (!s->lsn)
		return -ENOMEM;
	rc = member_new(s, opt);
	if (rc == 0)
		rc = open_table_new(&s->opens);
	if (rc == 0)
		rc = place_new((uint32_t)env_random(s->env), &s->place);
	if (rc == 0)
		rc = meta_new(&mo, &s->meta);
	if (rc == 0)
		rc = positions_load(s);
	if (rc == 0)
		rc = purge_new(s);
	if (rc == 0)
		rc = replies_new(s);
	if (rc == 0)
		rc = once_new(s);
	if (rc < 0)
		return rc;
	if (!s->alone && opt->history)
		history_take(s, opt->history);
	if (opt->grace_us && has_past(s))
		s->grace_until_us = s->start_us + opt->grace_us;
	meta_on_unlock(s->meta, shard_unlocked, s);
	store_on_room(s->store, shard_room, s);
	rc = txn_recover(s);
	if (rc == 0)
		rc = root_ensure(s);
	purge_kick(s);
	return rc;
}

int shard_new(const struct shard_options *opt, struct shard **shard_out)
{
	struct shard *s = mem_zalloc(sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->env = opt->env;
	s->store = opt->store;
	s->kv = opt->kv;
	s->map = opt->map;
	s->number = opt->number;
	s->alone = opt->map->copies == 1;
	s->lease_until_us = s->alone ? UINT64_MAX : 0;
	s->send = opt->send;
	s->fill_of = opt->fill_of;
	s->ctx = opt->ctx;
	s->start_us = env_now_us(s->env);
	s->grace_us = opt->grace_us;
	batch_init(&s->batch);
	list_init(&s->execs);
	list_init(&s->parked);
	list_init(&s->room);
	list_init(&s->chunks);
	list_init(&s->chunk_waiters);
	list_init(&s->buffers);
	list_init(&s->txns);
	list_init(&s->intents);
	list_init(&s->mends);
	rc = shard_init(s, opt);
	if (rc < 0) {
		s->store = NULL; /* the caller's still */
		shard_free(s);
		return rc;
	}
	*shard_out = s;
	return 0;
}

static void stop(struct shard *s, void (*end)(struct store *store))
{
	struct store *store = s ? s->store : NULL;

	if (!store)
		return;
	s->closing = true;
	end(store);
	s->store = NULL;
	while (!list_empty(&s->execs))
		exec_finish_now(list_first(&s->execs, struct exec, all_link), -EIO);
}

void shard_stop(struct shard *s)
{
	stop(s, store_close);
}

void shard_abandon(struct shard *s)
{
	stop(s, store_abandon);
}

void shard_free(struct shard *s)
{
	if (!s)
		return;
	shard_stop(s);
	txn_free_all(s);
	mends_free(s);
	member_free(s);
	replies_free(s);
	once_free(s);
	purge_free(s);
	place_free(s->place);
	open_table_free(s->opens);
	meta_free(s->meta);
	batch_release(&s->batch);
	mem_free(s->lsn);
	mem_free(s);
}
