/*
 * The model map: a treap in memory, shared copy-on-write between its holders.
 *
 * Nodes and items are counted. A writer takes a second reference to the root, and copies
 * each node on its way that somebody else holds too; so
 *
 *   - apply is atomic: it works on its own root, and drops it when anything fails;
 *   - an iterator is a snapshot, as in RocksDB: it keeps the root of its opening;
 *   - a flush is a reference: flush_begin keeps the root, flush_done hands it to the
 *     disk, and a close in between drops it, which is what a crash does.
 *
 * A node's priority is a hash of its key: the shape of the tree depends on nothing but
 * the set of keys, so that a run can be repeated from its seed.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/mem.h"
#include "core/kv/kv.h"

#define PRIORITY_SEED 0x7472656170u

struct item {
	uint32_t ref_count;
	uint32_t key_size;
	uint32_t value_size;
	uint8_t bytes[]; /* key, then value */
};

struct node {
	uint64_t priority;
	struct item *item;
	struct node *left;
	struct node *right;
	uint32_t ref_count;
};

struct kv_model_disk {
	struct node *root;
	uint64_t size_bytes;
	unsigned flush_delay;
	unsigned fault_nth;
	bool fault_fired;
	bool is_open;
};

struct kv_model {
	struct kv kv;
	struct kv_model_disk *disk;
	struct node *root;
	uint64_t size_bytes;
	struct node *flush_root;
	uint64_t flush_size_bytes;
	unsigned flush_polls_left;
	bool flush_active;
};

struct kv_model_iter {
	struct kv_iter iter;
	struct node *root;
	struct node *at;
};

static struct item *item_new(const struct batch_entry *entry)
{
	struct item *item =
		mem_alloc(sizeof(*item) + entry->key_size + entry->value_size);

	if (!item)
		return NULL;
	item->ref_count = 1;
	item->key_size = entry->key_size;
	item->value_size = entry->value_size;
	memcpy(item->bytes, entry->key, entry->key_size);
	memcpy(item->bytes + entry->key_size, entry->value, entry->value_size);
	return item;
}

static void item_unref(struct item *item)
{
	if (item && --item->ref_count == 0)
		mem_free(item);
}

static uint64_t item_size_bytes(const struct item *item)
{
	return (uint64_t)item->key_size + item->value_size;
}

static int key_compare(const void *key, size_t key_size, const struct item *item)
{
	size_t common = key_size < item->key_size ? key_size : item->key_size;
	int order = memcmp(key, item->bytes, common);

	if (order)
		return order;
	return (key_size > item->key_size) - (key_size < item->key_size);
}

static struct node *node_ref(struct node *node)
{
	if (node)
		node->ref_count++;
	return node;
}

static void node_unref(struct node *node)
{
	while (node && --node->ref_count == 0) {
		struct node *right = node->right;

		node_unref(node->left);
		item_unref(node->item);
		mem_free(node);
		node = right;
	}
}

/* Make the node in *slot, whose parents are ours already, ours alone. */
static int node_own(struct node **slot)
{
	struct node *old = *slot, *copy;

	assert(old);
	if (old->ref_count == 1)
		return 0;
	copy = mem_alloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *old;
	copy->ref_count = 1;
	copy->item->ref_count++;
	node_ref(copy->left);
	node_ref(copy->right);
	old->ref_count--;
	*slot = copy;
	return 0;
}

/* The left child of *slot goes up into its place; both are ours. */
static void rotate_right(struct node **slot)
{
	struct node *top = *slot, *left = top->left;

	top->left = left->right;
	left->right = top;
	*slot = left;
}

static void rotate_left(struct node **slot)
{
	struct node *top = *slot, *right = top->right;

	top->right = right->left;
	right->left = top;
	*slot = right;
}

static struct item *tree_find(struct node *node, const void *key, size_t key_size)
{
	while (node) {
		int order = key_compare(key, key_size, node->item);

		if (order == 0)
			return node->item;
		node = order < 0 ? node->left : node->right;
	}
	return NULL;
}

/* The first node with a key >= key, or > key when `after`. */
static struct node *tree_seek(struct node *node, const void *key, size_t key_size,
	bool after)
{
	struct node *best = NULL;

	while (node) {
		int order = key_compare(key, key_size, node->item);

		if (order < 0 || (order == 0 && !after)) {
			best = node;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return best;
}

/* Takes the item over when it succeeds; *size_bytes follows. */
static int tree_put(struct node **slot, struct item *item, uint64_t *size_bytes)
{
	struct node *node;
	int order, rc;

	if (!*slot) {
		node = mem_zalloc(sizeof(*node));
		if (!node)
			return -ENOMEM;
		node->ref_count = 1;
		node->item = item;
		node->priority = hash64(item->bytes, item->key_size, PRIORITY_SEED);
		*slot = node;
		*size_bytes += item_size_bytes(item);
		return 0;
	}
	rc = node_own(slot);
	if (rc)
		return rc;
	node = *slot;
	order = key_compare(item->bytes, item->key_size, node->item);
	if (order == 0) {
		*size_bytes += item_size_bytes(item) - item_size_bytes(node->item);
		item_unref(node->item);
		node->item = item;
		return 0;
	}
	rc = tree_put(order < 0 ? &node->left : &node->right, item, size_bytes);
	if (rc)
		return rc;
	if (order < 0 && node->left->priority > node->priority)
		rotate_right(slot);
	else if (order > 0 && node->right->priority > node->priority)
		rotate_left(slot);
	return 0;
}

/* Rotate the node down until it has one child at most, then cut it out. */
static int tree_cut(struct node **slot)
{
	struct node *node;

	for (;;) {
		int rc;

		node = *slot;
		if (!node->left || !node->right)
			break;
		if (node->left->priority > node->right->priority) {
			rc = node_own(&node->left);
			if (rc)
				return rc;
			rotate_right(slot);
			slot = &(*slot)->right;
		} else {
			rc = node_own(&node->right);
			if (rc)
				return rc;
			rotate_left(slot);
			slot = &(*slot)->left;
		}
	}
	*slot = node->left ? node->left : node->right;
	node->left = node->right = NULL;
	node_unref(node);
	return 0;
}

static int tree_del(struct node **slot, const void *key, size_t key_size,
	uint64_t *size_bytes)
{
	const struct item *found = tree_find(*slot, key, key_size);

	if (!found)
		return 0;
	*size_bytes -= item_size_bytes(found);
	for (;;) {
		int order, rc = node_own(slot);

		if (rc)
			return rc;
		order = key_compare(key, key_size, (*slot)->item);
		if (order == 0)
			return tree_cut(slot);
		slot = order < 0 ? &(*slot)->left : &(*slot)->right;
	}
}

static struct kv_model *model_of(struct kv *kv)
{
	return container_of(kv, struct kv_model, kv);
}

static int fault_check(struct kv_model_disk *disk)
{
	if (disk->fault_nth == 0 || --disk->fault_nth != 0)
		return 0;
	disk->fault_fired = true;
	return -EIO;
}

static int model_get(struct kv *kv, const void *key, size_t key_size, struct buf *out)
{
	struct kv_model *model = model_of(kv);
	const struct item *item;
	int rc = fault_check(model->disk);

	if (rc)
		return rc;
	item = tree_find(model->root, key, key_size);
	if (!item)
		return -ENOENT;
	buf_append(out, item->bytes + item->key_size, item->value_size);
	return buf_error(out);
}

static int entry_apply(struct node **root, const struct batch_entry *entry,
	uint64_t *size_bytes)
{
	struct item *item;
	int rc;

	if (entry->type != BATCH_PUT && entry->type != BATCH_DEL)
		return 0;
	if (entry->type == BATCH_DEL)
		return tree_del(root, entry->key, entry->key_size, size_bytes);
	item = item_new(entry);
	if (!item)
		return -ENOMEM;
	rc = tree_put(root, item, size_bytes);
	if (rc)
		item_unref(item);
	return rc;
}

static int model_apply(struct kv *kv, const void *bytes, size_t size_bytes)
{
	struct kv_model *model = model_of(kv);
	uint64_t map_size_bytes = model->size_bytes;
	struct batch_entry entry;
	struct node *root;
	size_t offset = 0;
	int rc = fault_check(model->disk);

	if (rc)
		return rc;
	root = node_ref(model->root);
	while ((rc = batch_next(bytes, size_bytes, &offset, &entry)) > 0) {
		rc = entry_apply(&root, &entry, &map_size_bytes);
		if (rc)
			break;
	}
	if (rc) {
		node_unref(root);
		return rc;
	}
	node_unref(model->root);
	model->root = root;
	model->size_bytes = map_size_bytes;
	return 0;
}

static struct kv_model_iter *iter_of(struct kv_iter *it)
{
	return container_of(it, struct kv_model_iter, iter);
}

static void iter_seek(struct kv_iter *it, const void *key, size_t key_size)
{
	iter_of(it)->at = tree_seek(iter_of(it)->root, key, key_size, false);
}

static bool iter_valid(struct kv_iter *it)
{
	return iter_of(it)->at != NULL;
}

static void iter_next(struct kv_iter *it)
{
	struct kv_model_iter *mit = iter_of(it);
	const struct item *item;

	assert(mit->at);
	item = mit->at->item;
	mit->at = tree_seek(mit->root, item->bytes, item->key_size, true);
}

static const void *iter_key(struct kv_iter *it, size_t *size_out)
{
	const struct item *item = iter_of(it)->at->item;

	*size_out = item->key_size;
	return item->bytes;
}

static const void *iter_value(struct kv_iter *it, size_t *size_out)
{
	const struct item *item = iter_of(it)->at->item;

	*size_out = item->value_size;
	return item->bytes + item->key_size;
}

static int iter_error(struct kv_iter *it)
{
	(void)it;
	return 0;
}

static void iter_close(struct kv_iter *it)
{
	node_unref(iter_of(it)->root);
	mem_free(iter_of(it));
}

static const struct kv_iter_ops model_iter_ops = {
	.seek = iter_seek,
	.valid = iter_valid,
	.next = iter_next,
	.key = iter_key,
	.value = iter_value,
	.error = iter_error,
	.close = iter_close,
};

static int model_iter_open(struct kv *kv, struct kv_iter **iter_out)
{
	struct kv_model *model = model_of(kv);
	struct kv_model_iter *it;
	int rc = fault_check(model->disk);

	if (rc)
		return rc;
	it = mem_zalloc(sizeof(*it));
	if (!it)
		return -ENOMEM;
	it->iter.ops = &model_iter_ops;
	it->root = node_ref(model->root);
	*iter_out = &it->iter;
	return 0;
}

static int model_flush_begin(struct kv *kv)
{
	struct kv_model *model = model_of(kv);
	int rc = fault_check(model->disk);

	if (rc)
		return rc;
	if (model->flush_active)
		return -EBUSY;
	model->flush_root = node_ref(model->root);
	model->flush_size_bytes = model->size_bytes;
	model->flush_polls_left = model->disk->flush_delay;
	model->flush_active = true;
	return 0;
}

static int model_flush_done(struct kv *kv)
{
	struct kv_model *model = model_of(kv);

	if (!model->flush_active)
		return 0;
	if (model->flush_polls_left > 0) {
		model->flush_polls_left--;
		return -EINPROGRESS;
	}
	node_unref(model->disk->root);
	model->disk->root = model->flush_root;
	model->disk->size_bytes = model->flush_size_bytes;
	model->flush_root = NULL;
	model->flush_active = false;
	return 0;
}

static uint64_t model_size_bytes(struct kv *kv)
{
	return model_of(kv)->size_bytes;
}

static void model_close(struct kv *kv)
{
	struct kv_model *model = model_of(kv);

	model->disk->is_open = false;
	node_unref(model->flush_root);
	node_unref(model->root);
	mem_free(model);
}

static const struct kv_ops model_ops = {
	.get = model_get,
	.apply = model_apply,
	.iter_open = model_iter_open,
	.flush_begin = model_flush_begin,
	.flush_done = model_flush_done,
	.size_bytes = model_size_bytes,
	.close = model_close,
};

struct kv_model_disk *kv_model_disk_new(void)
{
	return mem_zalloc(sizeof(struct kv_model_disk));
}

void kv_model_disk_free(struct kv_model_disk *disk)
{
	if (!disk)
		return;
	assert(!disk->is_open);
	node_unref(disk->root);
	mem_free(disk);
}

int kv_model_open(struct kv_model_disk *disk, struct kv **kv_out)
{
	struct kv_model *model;

	assert(!disk->is_open);
	model = mem_zalloc(sizeof(*model));
	if (!model)
		return -ENOMEM;
	model->kv.ops = &model_ops;
	model->disk = disk;
	model->root = node_ref(disk->root);
	model->size_bytes = disk->size_bytes;
	disk->is_open = true;
	*kv_out = &model->kv;
	return 0;
}

void kv_model_flush_delay_set(struct kv_model_disk *disk, unsigned polls)
{
	disk->flush_delay = polls;
}

void kv_model_fault_arm(struct kv_model_disk *disk, unsigned nth)
{
	disk->fault_nth = nth;
	disk->fault_fired = false;
}

bool kv_model_fault_fired(struct kv_model_disk *disk)
{
	return disk->fault_fired;
}
