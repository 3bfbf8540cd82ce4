/* libFuzzer: blocks and index values of the store, as a damaged device might give them. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/store/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t block[WFS_BLOCK_SIZE] = {0};
	struct commit_head commit;
	struct segment_head segment;
	struct checkpoint_mark mark;
	struct super super;

	memcpy(block, data, size < sizeof(block) ? size : sizeof(block));
	(void)super_decode(block, sizeof(block), &super);
	(void)segment_head_decode(block, sizeof(block), &segment);
	if (commit_head_decode(block, sizeof(block), &commit) == 0 && size > sizeof(block))
		(void)payload_check(&commit, data + sizeof(block), size - sizeof(block));
	(void)checkpoint_decode(data, size, &mark);
	return 0;
}
