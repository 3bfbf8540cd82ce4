/* libFuzzer: batches, parts and every value of the namespace's index. */
#include <stddef.h>
#include <stdint.h>

#include "core/kv/batch.h"
#include "meta/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void values(const uint8_t *data, size_t size)
{
	uint16_t buckets[TXN_PARTS_MAX];
	struct bucket_header header;
	struct name_target target;
	struct intent intent;
	struct inode inode;
	struct job job;
	uint32_t count;
	uint64_t id;

	(void)inode_decode(data, size, &inode);
	(void)name_target_decode(data, size, &target);
	(void)extent_decode(data, size, size ? data[0] : 0, &id, &count);
	(void)chunk_decode(data, size, &count);
	(void)bucket_decode(data, size, &header);
	(void)job_decode(data, size, &job);
	(void)intent_decode(data, size, &intent);
	(void)decision_decode(data, size, buckets, &count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dirent_record record;
	struct batch_entry entry;
	struct part part;
	const char *name;
	size_t offset = 0;

	while (batch_next(data, size, &offset, &entry) == 1)
		;
	offset = 0;
	while (dirent_next(data, size, &offset, &record, &name) == 1)
		;
	(void)part_decode(data, size, &part);
	values(data, size);
	return 0;
}
