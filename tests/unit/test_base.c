/* The base library: known answers for everything that formats depend on. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/crc.h"
#include "core/base/env.h"
#include "core/base/hash.h"
#include "core/base/le.h"
#include "core/base/list.h"
#include "core/base/mem.h"

Test(base, crc32c_known_answers)
{
	uint8_t bytes[32];

	cr_assert_eq(crc32c("", 0), 0);
	cr_assert_eq(crc32c("123456789", 9), 0xE3069283);
	/* RFC 3720, B.4 */
	memset(bytes, 0, sizeof(bytes));
	cr_assert_eq(crc32c(bytes, sizeof(bytes)), 0x8A9136AA);
	memset(bytes, 0xff, sizeof(bytes));
	cr_assert_eq(crc32c(bytes, sizeof(bytes)), 0x62A8AB43);
	for (uint8_t i = 0; i < 32; i++)
		bytes[i] = i;
	cr_assert_eq(crc32c(bytes, sizeof(bytes)), 0x46DD794E);
}

Test(base, crc32c_continues)
{
	uint8_t bytes[5000];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	for (size_t cut = 0; cut < sizeof(bytes); cut += 331)
		cr_assert_eq(crc32c_more(crc32c(bytes, cut), bytes + cut,
				     sizeof(bytes) - cut),
			crc32c(bytes, sizeof(bytes)));
}

Test(base, little_and_big_endian)
{
	le16 a = le16_put(0x1234);
	le32 b = le32_put(0x12345678);
	le64 c = le64_put(0x123456789abcdef0);
	uint8_t p[9];

	cr_assert_arr_eq(&a, "\x34\x12", 2);
	cr_assert_arr_eq(&b, "\x78\x56\x34\x12", 4);
	cr_assert_arr_eq(&c, "\xf0\xde\xbc\x9a\x78\x56\x34\x12", 8);
	cr_assert_eq(le16_get(a), 0x1234);
	cr_assert_eq(le32_get(b), 0x12345678);
	cr_assert_eq(le64_get(c), 0x123456789abcdef0);
	be64_write(p + 1, 0x123456789abcdef0);
	cr_assert_arr_eq(p + 1, "\x12\x34\x56\x78\x9a\xbc\xde\xf0", 8);
	cr_assert_eq(be64_read(p + 1), 0x123456789abcdef0);
	cr_assert_eq(be32_read(p + 1), 0x12345678);
	cr_assert_eq(be16_read(p + 1), 0x1234);
	be32_write(p + 1, 0xcafebabe);
	be16_write(p + 5, 0xbeef);
	cr_assert_arr_eq(p + 1, "\xca\xfe\xba\xbe\xbe\xef", 6);
}

Test(base, hashes_never_change)
{
	cr_assert_eq(hash64("", 0, 0), 0x2d06800538d394c2);
	cr_assert_eq(hash64("wfs", 3, 0), 0x2ee3d4b1eece63d1);
	cr_assert_eq(hash64("wfs", 3, 42), 0xd26f16352a5eb23);
	cr_assert_eq(name_hash63("file.txt", 8, 7), 0x6f4dfdfdef6c290a);
	cr_assert_eq(chunk_bucket(ino_make(3, 9), 0, 256), 3);
	cr_assert_eq(chunk_bucket(ino_make(3, 9), 1, 256), 231);
	cr_assert_eq(chunk_bucket(ino_make(3, 9), 12345, 256), 31);
}

Test(base, name_hash_in_bounds)
{
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t h = name_hash63((char *)&i, sizeof(i), i);

		cr_assert(h > 0 && h <= INT64_MAX);
	}
}

Test(base, buf_grows_and_keeps)
{
	struct buf b;

	buf_init(&b);
	for (unsigned i = 0; i < 10000; i++)
		buf_append(&b, &i, sizeof(i));
	cr_assert_eq(buf_error(&b), 0);
	cr_assert_eq(b.size_bytes, 40000);
	for (unsigned i = 0, v; i < 10000; i++) {
		memcpy(&v, b.data + (size_t)i * sizeof(v), sizeof(v));
		cr_assert_eq(v, i);
	}
	buf_reset(&b);
	cr_assert_eq(b.size_bytes, 0);
	cr_assert_not_null(buf_extend(&b, 3));
	cr_assert_eq(b.size_bytes, 3);
	buf_release(&b);
	cr_assert_eq(mem_live_count(), 0);
}

Test(base, buf_error_sticks_until_reset)
{
	struct buf b;

	buf_init(&b);
	mem_fault_arm(1);
	buf_append(&b, "x", 1);
	cr_assert(mem_fault_fired());
	cr_assert_eq(buf_error(&b), -ENOMEM);
	buf_append(&b, "y", 1);
	cr_assert_eq(b.size_bytes, 0);
	cr_assert_null(buf_extend(&b, 1));
	buf_reset(&b);
	buf_append(&b, "z", 1);
	cr_assert_eq(buf_error(&b), 0);
	cr_assert_eq(b.size_bytes, 1);
	buf_release(&b);
}

struct item {
	int value;
	struct list link;
};

static int list_digits(struct list *head)
{
	int digits = 0;

	list_for_each(it, tmp, head)
		digits = digits * 10 + container_of(it, struct item, link)->value;
	return digits;
}

Test(base, list_order)
{
	struct item items[5];
	struct list a, b;

	list_init(&a);
	list_init(&b);
	cr_assert(list_empty(&a));
	for (int i = 0; i < 5; i++)
		items[i].value = i + 1;
	list_push_back(&a, &items[1].link);
	list_push_back(&a, &items[2].link);
	list_push_front(&a, &items[0].link);
	cr_assert_eq(list_digits(&a), 123);
	list_remove(&items[1].link);
	list_remove(&items[1].link);
	cr_assert_eq(list_digits(&a), 13);
	list_push_back(&b, &items[3].link);
	list_push_back(&b, &items[4].link);
	list_splice_back(&a, &b);
	cr_assert_eq(list_digits(&a), 1345);
	cr_assert(list_empty(&b));
	list_splice_back(&a, &b);
	cr_assert_eq(list_first(&a, struct item, link)->value, 1);
	list_for_each(it, tmp, &a)
		list_remove(it);
	cr_assert(list_empty(&a));
}

Test(base, env_sim_repeats_itself)
{
	struct env_sim a, b;

	env_sim_init(&a, 1);
	env_sim_init(&b, 1);
	/* splitmix64 from its published reference, seed 1 */
	cr_assert_eq(env_random(&a.env), 0x910a2dec89025cc1);
	cr_assert_eq(env_random(&a.env), 0xbeeb8da1658eec67);
	cr_assert_eq(env_random(&b.env), 0x910a2dec89025cc1);
	env_sim_init(&b, 2);
	cr_assert_neq(env_random(&b.env), 0x910a2dec89025cc1);
}

Test(base, env_sim_owns_time)
{
	struct env_sim sim;
	uint64_t start_us;
	int64_t start_ns;

	env_sim_init(&sim, 1);
	start_us = env_now_us(&sim.env);
	start_ns = env_wall_ns(&sim.env);
	cr_assert_eq(env_now_us(&sim.env), start_us);
	env_sim_advance(&sim, 1500);
	cr_assert_eq(env_now_us(&sim.env), start_us + 1500);
	cr_assert_eq(env_wall_ns(&sim.env), start_ns + 1500000);
}

Test(base, env_real_moves)
{
	struct env *env = env_real();
	uint64_t at = env_now_us(env);

	cr_assert_neq(env_random(env), env_random(env));
	cr_assert(env_wall_ns(env) > 1700000000000000000);
	cr_assert(env_now_us(env) >= at);
}

Test(base, mem_faults_and_counts)
{
	void *p, *q;

	mem_fault_arm(2);
	p = mem_alloc(10);
	cr_assert_not_null(p);
	cr_assert_not(mem_fault_fired());
	cr_assert_null(mem_realloc(p, 20));
	cr_assert(mem_fault_fired());
	p = mem_realloc(p, 20);
	q = mem_aligned(4096, 8192);
	cr_assert_eq((uintptr_t)q % 4096, 0);
	cr_assert_eq(mem_live_count(), 2);
	mem_free(p);
	mem_free(q);
	mem_free(NULL);
	cr_assert_eq(mem_live_count(), 0);
}
