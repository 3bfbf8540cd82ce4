/*
 * meta: random operations on a namespace over 16 buckets against a simple model, through
 * the two-phase protocol as a shard would drive it, with aborts, and with restarts
 * between its phases. Every operation is planned from the model and must give the errno
 * that the model foretells; now and then everything is compared.
 */
#include "tests/unit/test_meta_world.h"

#define NODES  400
#define NAMES  12
#define ROUNDS 20000

struct node {
	ino_id ino;
	uint8_t dtype; /* 0: free */
	uint32_t links;
	int parent;       /* directories */
	int names[NAMES]; /* directories: node or -1 */
};

struct game {
	struct world *w;
	struct node nodes[NODES];
	uint64_t next_tx;
	uint64_t decided[4];
};

static uint64_t rnd(struct game *g, uint64_t below)
{
	return env_random(&g->w->env.env) % below;
}

static const char *name_of(int i)
{
	static const char *const names[NAMES] = {"a", "b", "c", "dd", "ee", "ff", "ggg",
		"hhh", "iii", "a long name with spaces in it", ".hidden", "...."};

	return names[i];
}

static int node_new(struct game *g, ino_id ino, uint8_t dtype, int parent)
{
	for (int i = 0; i < NODES; i++) {
		struct node *n = &g->nodes[i];

		if (n->dtype)
			continue;
		*n = (struct node){
			.ino = ino, .dtype = dtype, .links = 1, .parent = parent};
		memset(n->names, 0xff, sizeof(n->names));
		return i;
	}
	return -1;
}

static int random_node(struct game *g, bool dir)
{
	for (;;) {
		int i = (int)rnd(g, NODES);

		if (g->nodes[i].dtype && (!dir || g->nodes[i].dtype == DT_DIR))
			return i;
	}
}

static bool is_full(struct game *g)
{
	int count = 0;

	for (int i = 0; i < NODES; i++)
		count += g->nodes[i].dtype != 0;
	return count > NODES - 10;
}

/* --- a shard's planner --- */

struct plan {
	struct part parts[TXN_PARTS_MAX];
	uint32_t part_count;
	ino_id new_ino;
};

static void plan_add(struct plan *p, struct step s)
{
	bool entry = s.type == STEP_ENTRY_INSERT || s.type == STEP_ENTRY_REMOVE ||
		     s.type == STEP_ENTRY_REPLACE;
	uint16_t bucket = ino_bucket(entry ? s.dir : s.ino);
	uint32_t i = 0;

	while (i < p->part_count && p->parts[i].bucket != bucket)
		i++;
	if (i == p->part_count)
		p->parts[p->part_count++] = (struct part){.bucket = bucket};
	p->parts[i].steps[p->parts[i].step_count++] = s;
}

static void plan_new_dir(struct game *g, struct plan *p, uint16_t bucket, ino_id parent)
{
	uint32_t i = 0;

	while (i < p->part_count && p->parts[i].bucket != bucket)
		i++;
	if (i == p->part_count)
		p->parts[p->part_count++] = (struct part){.bucket = bucket};
	p->parts[i].steps[p->parts[i].step_count++] =
		step_new_dir(parent, 0755, &g->w->cred);
}

static void game_found(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
	const uint16_t *buckets, uint32_t bucket_count)
{
	(void)ctx, (void)bucket, (void)txid, (void)buckets, (void)bucket_count,
		(void)role;
}

static void maybe_restart(struct game *g)
{
	if (rnd(g, 10))
		return;
	world_restart(g->w);
	cr_assert_eq(meta_recover(g->w->m, game_found, g), 0);
}

static void plan_resolve(struct game *g, struct plan *p, uint64_t txid)
{
	struct world *w = g->w;
	bool commit = meta_decision(w->m, txid) == 1;

	for (uint32_t i = 1; i < p->part_count; i++) {
		int rc = meta_resolve(
			w->m, &w->batch, p->parts[i].bucket, txid, commit, NULL);

		cr_assert(rc == 0 || (!commit && rc == -ENOENT));
		cr_assert_eq(world_commit(w), 0);
		if (rnd(g, 4) == 0)
			cr_assert_eq(meta_resolve(w->m, &w->batch, p->parts[i].bucket,
					     txid, commit, NULL),
				-ENOENT);
		meta_unlock(w->m, txid);
		maybe_restart(g);
	}
	meta_unlock(w->m, txid);
	OK(w, meta_forget(w->m, &w->batch, txid));
}

/* Prepare all but the first part; the ino of a new directory goes into part 0. */
static int plan_prepare(struct game *g, struct plan *p, uint64_t txid)
{
	struct world *w = g->w;

	for (uint32_t i = 1; i < p->part_count; i++) {
		ino_id new_ino = 0;
		int rc = meta_prepare(w->m, &w->c, txid, &p->parts[i], &new_ino);

		if (rc) {
			batch_reset(&w->batch);
			return rc;
		}
		cr_assert_eq(world_commit(w), 0);
		if (new_ino)
			p->new_ino = new_ino;
	}
	for (uint32_t k = 0; k < p->parts[0].step_count; k++)
		if (p->parts[0].steps[k].type == STEP_ENTRY_INSERT && p->new_ino &&
			p->parts[0].steps[k].ino == 0)
			p->parts[0].steps[k].ino = p->new_ino;
	return 0;
}

/* -ECANCELED: aborted by the dice. */
static int plan_run(struct game *g, struct plan *p)
{
	uint64_t txid = ((uint64_t)p->parts[0].bucket << 48) | ++g->next_tx;
	uint16_t buckets[TXN_PARTS_MAX];
	struct world *w = g->w;
	int rc;

	if (p->part_count == 1) {
		rc = meta_part_build(w->m, &w->c, 0, &p->parts[0], &p->new_ino, NULL);
		if (rc == 0)
			cr_assert_eq(world_commit(w), 0);
		batch_reset(&w->batch);
		return rc;
	}
	cr_assert_eq(meta_lock(w->m, txid, &p->parts[0]), 0);
	rc = plan_prepare(g, p, txid);
	if (rc == 0 && rnd(g, 8) == 0)
		rc = -ECANCELED;
	if (rc == 0)
		rc = meta_part_build(w->m, &w->c, txid, &p->parts[0], NULL, NULL);
	if (rc == 0) {
		for (uint32_t i = 1; i < p->part_count; i++)
			buckets[i - 1] = p->parts[i].bucket;
		OK(w, meta_decide(w->m, &w->batch, txid, buckets, p->part_count - 1));
	}
	batch_reset(&w->batch);
	maybe_restart(g);
	plan_resolve(g, p, txid);
	return rc;
}

/* --- operations --- */

static void play_create(struct game *g)
{
	int dir = random_node(g, true), name = (int)rnd(g, NAMES);
	struct attr a;
	int rc;

	if (is_full(g))
		return;
	rc = rnd(g, 4) ? create_mode(g->w, g->nodes[dir].ino, name_of(name), 0644, &a)
		       : meta_symlink(g->w->m, &g->w->c, g->nodes[dir].ino, name_of(name),
				 strlen(name_of(name)), "t", 1, &a);
	cr_assert_eq(rc, g->nodes[dir].names[name] >= 0 ? -EEXIST : 0);
	if (rc == 0)
		cr_assert_eq(world_commit(g->w), 0);
	batch_reset(&g->w->batch);
	if (rc == 0)
		g->nodes[dir].names[name] = node_new(g, a.ino, mode_dtype(a.mode), dir);
}

static void play_mkdir(struct game *g)
{
	int dir = random_node(g, true), name = (int)rnd(g, NAMES), rc;
	ino_id parent = g->nodes[dir].ino;
	struct plan p = {0};

	if (is_full(g))
		return;
	plan_add(&p, step_insert(parent, name_of(name), 0, DT_DIR));
	plan_new_dir(g, &p, (uint16_t)rnd(g, BUCKETS), parent);
	rc = plan_run(g, &p);
	if (rc == -ECANCELED)
		return;
	cr_assert_eq(rc, g->nodes[dir].names[name] >= 0 ? -ESTALE : 0, "%d", rc);
	if (rc == 0)
		g->nodes[dir].names[name] = node_new(g, p.new_ino, DT_DIR, dir);
}

static bool dir_is_empty(const struct node *n)
{
	for (int i = 0; i < NAMES; i++)
		if (n->names[i] >= 0)
			return false;
	return true;
}

static void plan_drop(struct plan *p, const struct node *n)
{
	plan_add(p,
		step_inode_of(n->dtype == DT_DIR ? STEP_INODE_RMDIR : STEP_INODE_UNLINK,
			n->ino, 0));
}

static void model_drop(struct node *n)
{
	if (n->dtype == DT_DIR || --n->links == 0)
		n->dtype = 0;
}

static void play_remove(struct game *g)
{
	int dir = random_node(g, true), name = (int)rnd(g, NAMES);
	int victim = g->nodes[dir].names[name], rc;
	struct plan p = {0};

	if (victim < 0)
		return;
	plan_add(&p, step_remove(g->nodes[dir].ino, name_of(name), g->nodes[victim].ino));
	plan_drop(&p, &g->nodes[victim]);
	rc = plan_run(g, &p);
	if (rc == -ECANCELED)
		return;
	cr_assert_eq(rc, dir_is_empty(&g->nodes[victim]) ? 0 : -ENOTEMPTY, "%d", rc);
	if (rc)
		return;
	g->nodes[dir].names[name] = -1;
	model_drop(&g->nodes[victim]);
}

static void play_link(struct game *g)
{
	int dir = random_node(g, true), name = (int)rnd(g, NAMES),
	    n = random_node(g, false);
	struct plan p = {0};
	int rc;

	if (g->nodes[n].dtype == DT_DIR)
		return;
	plan_add(&p, step_insert(g->nodes[dir].ino, name_of(name), g->nodes[n].ino,
			     g->nodes[n].dtype));
	plan_add(&p, step_inode_of(STEP_INODE_LINK, g->nodes[n].ino, 0));
	rc = plan_run(g, &p);
	if (rc == -ECANCELED)
		return;
	cr_assert_eq(rc, g->nodes[dir].names[name] >= 0 ? -ESTALE : 0);
	if (rc)
		return;
	g->nodes[dir].names[name] = n;
	g->nodes[n].links++;
}

static bool is_below(struct game *g, int dir, int above)
{
	while (dir != above && g->nodes[dir].parent != dir)
		dir = g->nodes[dir].parent;
	return dir == above;
}

static void play_rename(struct game *g)
{
	int from = random_node(g, true), to = random_node(g, true), rc;
	int old = (int)rnd(g, NAMES), new = (int)rnd(g, NAMES);
	int moved = g->nodes[from].names[old], victim = g->nodes[to].names[new];
	struct plan p = {0};
	struct step insert;

	if (moved < 0 || moved == victim)
		return;
	if (g->nodes[moved].dtype == DT_DIR && is_below(g, to, moved))
		return;
	if (victim >= 0 &&
		(g->nodes[victim].dtype == DT_DIR) != (g->nodes[moved].dtype == DT_DIR))
		return;
	insert = step_insert(g->nodes[to].ino, name_of(new), g->nodes[moved].ino,
		g->nodes[moved].dtype);
	plan_add(&p, step_remove(g->nodes[from].ino, name_of(old), g->nodes[moved].ino));
	if (victim >= 0) {
		insert.expect = g->nodes[victim].ino;
		plan_drop(&p, &g->nodes[victim]);
	}
	plan_add(&p, insert);
	plan_add(&p,
		step_inode_of(STEP_INODE_MOVED, g->nodes[moved].ino, g->nodes[to].ino));
	rc = plan_run(g, &p);
	if (rc == -ECANCELED)
		return;
	cr_assert_eq(rc, victim < 0 || dir_is_empty(&g->nodes[victim]) ? 0 : -ENOTEMPTY,
		"%d", rc);
	if (rc)
		return;
	g->nodes[from].names[old] = -1;
	g->nodes[to].names[new] = moved;
	if (g->nodes[moved].dtype == DT_DIR)
		g->nodes[moved].parent = to;
	if (victim >= 0)
		model_drop(&g->nodes[victim]);
}

static void play_exchange(struct game *g)
{
	int from = random_node(g, true), to = random_node(g, true);
	int old = (int)rnd(g, NAMES), new = (int)rnd(g, NAMES);
	int a = g->nodes[from].names[old], b = g->nodes[to].names[new];
	struct plan p = {0};
	struct step s;

	if (a < 0 || b < 0 || a == b)
		return;
	if ((g->nodes[a].dtype == DT_DIR && is_below(g, to, a)) ||
		(g->nodes[b].dtype == DT_DIR && is_below(g, from, b)))
		return;
	s = step_insert(
		g->nodes[from].ino, name_of(old), g->nodes[b].ino, g->nodes[b].dtype);
	s.type = STEP_ENTRY_REPLACE;
	s.expect = g->nodes[a].ino;
	plan_add(&p, s);
	s = step_insert(
		g->nodes[to].ino, name_of(new), g->nodes[a].ino, g->nodes[a].dtype);
	s.type = STEP_ENTRY_REPLACE;
	s.expect = g->nodes[b].ino;
	plan_add(&p, s);
	plan_add(&p, step_inode_of(STEP_INODE_MOVED, g->nodes[a].ino, g->nodes[to].ino));
	plan_add(
		&p, step_inode_of(STEP_INODE_MOVED, g->nodes[b].ino, g->nodes[from].ino));
	if (plan_run(g, &p))
		return;
	g->nodes[from].names[old] = b;
	g->nodes[to].names[new] = a;
	if (g->nodes[a].dtype == DT_DIR)
		g->nodes[a].parent = to;
	if (g->nodes[b].dtype == DT_DIR)
		g->nodes[b].parent = from;
}

/* --- comparing --- */

static void compare_dir(struct game *g, const struct node *n)
{
	struct world *w = g->w;
	uint64_t cookie = COOKIE_DOTDOT;
	bool eof = false;
	int seen = 0, names = 0;
	struct buf out;

	buf_init(&out);
	while (!eof) {
		struct dirent_record r;
		size_t offset = 0;
		const char *name;

		buf_reset(&out);
		cr_assert_eq(meta_readdir(w->m, &w->c, n->ino, cookie, 300, &out, &cookie,
				     &eof),
			0);
		while (dirent_next(out.data, out.size_bytes, &offset, &r, &name) == 1) {
			int i = 0;

			while (strlen(name_of(i)) != le16_get(r.name_size) ||
				memcmp(name_of(i), name, le16_get(r.name_size)) != 0)
				i++;
			cr_assert_geq(n->names[i], 0);
			cr_assert_eq(le64_get(r.ino), g->nodes[n->names[i]].ino);
			cr_assert_eq(r.dtype, g->nodes[n->names[i]].dtype);
			cr_assert_eq(r.flags, DIRENT_HAS_ATTR);
			seen++;
		}
	}
	for (int i = 0; i < NAMES; i++)
		names += n->names[i] >= 0;
	cr_assert_eq(seen, names);
	buf_release(&out);
}

static void compare(struct game *g)
{
	struct purge_job job;

	while (meta_purge_next(g->w->m, 0, &job) == 0)
		OK(g->w, meta_purge_done(g->w->m, &g->w->batch, &job));
	for (int i = 0; i < NODES; i++) {
		struct node *n = &g->nodes[i];
		struct attr a;

		if (!n->dtype)
			continue;
		a = world_attr(g->w, n->ino);
		cr_assert_eq(mode_dtype(a.mode), n->dtype);
		if (n->dtype == DT_DIR) {
			cr_assert_eq(a.parent, g->nodes[n->parent].ino);
			compare_dir(g, n);
		} else {
			cr_assert_eq(a.nlink, n->links);
		}
	}
	world_check(g->w);
}

META_TEST(meta_random, namespace_agrees_with_a_model)
{
	static void (*const plays[])(struct game * g) = {play_create, play_create,
		play_mkdir, play_remove, play_remove, play_link, play_rename, play_rename,
		play_exchange};
	struct game *g = calloc(1, sizeof(*g));

	g->w = w;
	cr_assert_eq(node_new(g, WFS_ROOT_INO, DT_DIR, 0), 0);
	for (int i = 0; i < ROUNDS; i++) {
		w->c.now_ns++;
		plays[rnd(g, sizeof(plays) / sizeof(plays[0]))](g);
		if (i % 500 == 499)
			compare(g);
	}
	compare(g);
	free(g);
}
