/* meta: formats. Golden bytes, and decoders that survive any bytes. */
#include "tests/unit/test_meta_world.h"

#define ROUNDS 100000

Test(meta_schema, keys_sort_as_they_should)
{
	struct meta_key a, b;

	meta_key_inode(&a, ino_make(0x0102, 0x030405));
	cr_assert_eq(a.size, 16);
	cr_assert_arr_eq(
		a.bytes, "\x01\x01\x02I\x01\x02\0\0\0\x03\x04\x05\xff\xff\xff\xff", 16);
	meta_key_extent(&a, 3, 9, 1, 0x102);
	cr_assert_arr_eq(a.bytes,
		"\x01\0\x03"
		"E\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x01\x01\x02\xff\xff\xff\xff",
		26);
	meta_key_extent(&b, 3, 9, 1, 0x103);
	cr_assert_lt(memcmp(a.bytes, b.bytes, 26), 0);
	meta_key_dirent(&a, 9, "name", 4);
	cr_assert_eq(a.size, 4 + 16 + 4 + 4);
	cr_assert_eq(be64_read(a.bytes + 12), name_hash63("name", 4, 9));
	meta_key_header(&a, 7);
	cr_assert_arr_eq(a.bytes, "\x01\0\x07N", 4);
	meta_key_decision(&a, ((uint64_t)2 << 48) | 1);
	cr_assert_arr_eq(a.bytes, "\x01\0\x02T\0\x02\0\0\0\0\0\x01", 12);
	meta_key_intent(&a, 5, ((uint64_t)2 << 48) | 1);
	cr_assert_arr_eq(a.bytes, "\x01\0\x05t\0\x02\0\0\0\0\0\x01", 12);
}

Test(meta_schema, golden_values)
{
	struct inode_value iv;
	struct dirent_value dv;
	struct job_value jv;
	struct bucket_value bv;
	const struct inode in = {.attr = {.mode = S_IFREG | 0644,
					 .nlink = 1,
					 .uid = 2,
					 .gid = 3,
					 .fsid = 4,
					 .generation = 5,
					 .size_bytes = 0x10,
					 .atime_ns = -1,
					 .mtime_ns = 7,
					 .ctime_ns = 8,
					 .btime_ns = 9,
					 .parent = 1},
		.flags = INODE_HAS_DATA};

	inode_encode(&in, &iv);
	cr_assert_arr_eq(&iv,
		"\x01\0\0\0\xa4\x81\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\0\0\0"
		"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0"
		"\xff\xff\xff\xff\xff\xff\xff\xff\x07\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0"
		"\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
		"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
		128);
	name_target_encode(&(struct name_target){.ino = 0x11, .dtype = DT_REG}, &dv);
	cr_assert_arr_eq(&dv, "\x11\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0", 16);
	job_encode(&(struct job){.flags = JOB_TRUNCATE,
			   .keep_bytes = 1,
			   .first_chunk = 2,
			   .end_chunk = 3,
			   .generation = 4},
		&jv);
	cr_assert_arr_eq(&jv,
		"\x02\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0"
		"\x04\0\0\0\0\0\0\0",
		32);
	bucket_encode(
		&(struct bucket_header){
			.next_counter = 16, .inode_count = 1, .data_bytes = 4096},
		&bv);
	cr_assert_arr_eq(&bv,
		"\x01\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
		"\0\x10\0\0\0\0\0\0",
		32);
}

struct samples {
	struct buf values[9];
};

/* One good value of each type. */
static void samples_make(struct samples *s)
{
	const struct inode link = {
		.attr = {.mode = S_IFLNK | 0777, .nlink = 1, .size_bytes = 6},
		.target_size = 6};
	struct inode_value iv;
	struct dirent_value dv;
	struct extent_value ev;
	struct chunk_value cv;
	struct bucket_value bv;
	struct job_value jv;
	struct dirent_record dr = {.name_size = le16_put(3)};
	struct batch b;
	struct intent intent = {
		.new_ino = 5, .inode_delta = -1, .lock_count = 2, .locks = {1, 2}};
	uint16_t buckets[] = {1, 2, 3};

	for (int i = 0; i < 9; i++)
		buf_init(&s->values[i]);
	inode_encode(&link, &iv);
	buf_append(&s->values[0], &iv, sizeof(iv));
	buf_append(&s->values[0], "target", 6);
	name_target_encode(&(struct name_target){.ino = 9, .dtype = DT_DIR}, &dv);
	buf_append(&s->values[1], &dv, sizeof(dv));
	extent_encode(7, 2, &ev);
	buf_append(&s->values[2], &ev, sizeof(ev));
	buf_append(&s->values[2], "crc1crc2", 8);
	chunk_encode(3, &cv);
	buf_append(&s->values[3], &cv, sizeof(cv));
	bucket_encode(&(struct bucket_header){.next_counter = 20}, &bv);
	buf_append(&s->values[4], &bv, sizeof(bv));
	job_encode(&(struct job){.flags = JOB_TRUNCATE, .first_chunk = 1, .end_chunk = 3},
		&jv);
	buf_append(&s->values[5], &jv, sizeof(jv));
	batch_init(&b);
	batch_put(&b, "key", 3, "value", 5);
	batch_del(&b, "key2", 4);
	intent.batch = b.bytes.data;
	intent.batch_size_bytes = b.bytes.size_bytes;
	intent_encode(&intent, &s->values[6]);
	batch_release(&b);
	decision_encode(buckets, 3, &s->values[7]);
	buf_append(&s->values[8], &dr, sizeof(dr));
	buf_append(&s->values[8], "abc", 3);
}

static int decode(int type, const uint8_t *bytes, size_t size)
{
	struct inode in;
	struct name_target target;
	struct bucket_header header;
	struct intent intent;
	struct job job;
	struct dirent_record record;
	uint16_t buckets[TXN_PARTS_MAX];
	uint32_t n;
	uint64_t id;
	size_t offset = 0;
	const char *name;
	int rc;

	switch (type) {
	case 0:
		rc = inode_decode(bytes, size, &in);
		if (rc == 0 && in.target)
			cr_assert(
				in.target + in.target_size == (const char *)bytes + size);
		return rc;
	case 1: return name_target_decode(bytes, size, &target);
	case 2:
		rc = extent_decode(bytes, size, 3, &id, &n);
		cr_assert(rc || (id && n >= 1 && n + 3 <= WFS_CHUNK_BLOCKS));
		return rc;
	case 3: return chunk_decode(bytes, size, &n);
	case 4: return bucket_decode(bytes, size, &header);
	case 5: return job_decode(bytes, size, &job);
	case 6:
		rc = intent_decode(bytes, size, &intent);
		cr_assert(rc || !batch_validate(intent.batch, intent.batch_size_bytes));
		return rc;
	case 7:
		rc = decision_decode(bytes, size, buckets, &n);
		cr_assert(rc || n <= TXN_PARTS_MAX);
		return rc;
	default:
		while ((rc = dirent_next(bytes, size, &offset, &record, &name)) == 1)
			cr_assert_leq(offset, size);
		return rc;
	}
}

Test(meta_schema, decoders_survive_any_bytes)
{
	struct samples s;
	struct env_sim env;

	env_sim_init(&env, 3);
	samples_make(&s);
	for (int type = 0; type < 9; type++) {
		size_t full = s.values[type].size_bytes;

		cr_assert_eq(decode(type, s.values[type].data, full), 0, "type %d", type);
		/* Copies of the exact size, so that the sanitizer sees a byte too far. */
		for (size_t size = 0; size < full; size++) {
			uint8_t *copy = malloc(size + !size);

			memcpy(copy, s.values[type].data, size);
			cr_assert(decode(type, copy, size) == -EUCLEAN ||
				  (type == 8 && !size));
			free(copy);
		}
		for (int i = 0; i < ROUNDS; i++) {
			size_t size = full - (env_random(&env.env) % 16 == 0
							     ? env_random(&env.env) % full
							     : 0);
			uint8_t *copy = malloc(size + 1);

			memcpy(copy, s.values[type].data, size);
			for (uint64_t k = env_random(&env.env) % 5; k; k--)
				copy[env_random(&env.env) % size] =
					(uint8_t)(1u << env_random(&env.env) % 9);
			decode(type, copy, size);
			free(copy);
		}
		buf_release(&s.values[type]);
	}
}

Test(meta_schema, attributes_go_there_and_back)
{
	const struct attr a = {.ino = 1,
		.mode = 2,
		.nlink = 3,
		.uid = 4,
		.gid = 5,
		.rdev = 6,
		.size_bytes = 7,
		.blocks_512 = 8,
		.atime_ns = -9,
		.mtime_ns = 10,
		.ctime_ns = 11,
		.btime_ns = 12,
		.generation = 13,
		.fsid = 14,
		.parent = 15,
		.entries = 16};
	struct attr_record r;
	struct attr b;

	attr_record_encode(&a, &r);
	attr_record_decode(&r, &b);
	cr_assert_arr_eq(&a, &b, sizeof(a));
}
