/*
 * The wire: every message between a client's ring, its host's wfsd, and other nodes.
 * This header is the specification; net/wire.c validates.
 *
 * A message is a head, then group_count le32 groups, then body_size bytes of body, then,
 * if HEAD_INLINE, data_size bytes of data. At most WIRE_MESSAGE_MAX in all. Larger data
 * goes by RMA that only the server issues: it reads a request's data from, or writes a
 * reply's data to, (data_addr, data_key) of the caller's memory. One call moves bulk data
 * in one direction only. A reply with a status has neither body nor data.
 *
 * Requests carry map and bucket epochs, and session/slot/seq by which a resend will be
 * known; reply: the same request id, status 0 or an errno (positive on the wire).
 * All integers little-endian, all reserved bytes zero. Version 1.
 *
 * In a shared-memory slot (shim/client/shm.h) the same head and body are used; there the
 * identity (uid, gid, groups, session) is ignored and filled in by wfsd, unless a program of
 * root acts for another (HEAD_ACT_AS; the groups are in the slot).
 */
#ifndef WFS_NET_WIRE_H
#define WFS_NET_WIRE_H

#include <assert.h>

#include "core/base/le.h"
#include "core/base/types.h"

#define WIRE_MAGIC       0x314d4657u /* "WFM1" */
#define WIRE_VERSION     2
#define WIRE_INLINE_MAX  8192u   /* data that rides in the message */
#define WIRE_BODY_MAX    9216u   /* a path, a symlink target and a fixed part */
#define WIRE_MESSAGE_MAX 18432u
#define WIRE_DATA_MAX    (1u << 20) /* one chunk */

enum wire_kind { WIRE_REQUEST = 1, WIRE_REPLY = 2 };

#define HEAD_INLINE   0x01u /* data follows the body */
#define HEAD_TO_SHARD 0x02u /* addressed to shard number `bucket`, not to a bucket */
#define HEAD_ACT_AS   0x04u /* in a slot only: on behalf of uid, gid and groups */

/* The numbers of enum walk_mode and enum walk_end (meta/meta.h). */
enum wire_walk_mode { WIRE_FOLLOW, WIRE_NOFOLLOW, WIRE_PARENT };
enum wire_walk_end { WIRE_DONE, WIRE_MOVED, WIRE_SYMLINK, WIRE_ABOVE };
#define WIRE_WALK_MODE_MAX 2u    /* last of enum walk_mode (meta/meta.h) */
#define WIRE_WANT_MAX      7u
#define WIRE_WALK_END_MAX  3u    /* last of enum walk_end */
#define WIRE_STATUS_MAX    4095u /* an errno */

struct wire_head {
	le32 magic;
	uint8_t version;
	uint8_t kind;
	le16 op;
	le64 cluster;     /* first 8 bytes of the cluster uuid */
	le64 request;     /* the caller's number for it */
	le64 map_epoch;
	le32 bucket_epoch;
	le16 bucket;
	le16 flags;
	le64 session;
	le32 seq;
	le16 slot;
	le16 group_count; /* requests only, at most WFS_GROUPS_MAX */
	le32 timeout_ms;  /* how long the caller will wait from now */
	le32 status;      /* replies: 0 or errno */
	le32 uid;
	le32 gid;
	le32 body_size;
	le32 data_size;   /* request: data sent; reply: data returned */
	le32 data_max;    /* request: room for returned data */
	le32 crc;         /* crc32c of the message up to the end of the inline data,
			     this field as zero; 0 within a shared-memory slot */
	le64 data_addr;
	le64 data_key;
	le32 sender;      /* shard number of whoever sends this: where the reply goes */
	le32 fill;        /* replies: how full that shard is, a fraction of 2^32; 0: not told.
			     Requests: 0 */
	le32 data_crc; /* crc32c of data that goes by RMA: what arrives is compared; else 0 */
	le32 reserved;
};
_Static_assert(sizeof(struct wire_head) == 120, "wire head");

enum wire_op {
	OP_PING = 1,
	/* Path operations: body starts with struct wire_path; see there. */
	OP_WALK,     /* wire_walk */
	OP_OPEN,     /* wire_open */
	OP_SETATTR,  /* wire_setattr */
	OP_MKNOD,    /* wire_mknod: file, fifo, socket, device */
	OP_MKDIR,    /* wire_mknod */
	OP_SYMLINK,  /* wire_symlink */
	OP_READLINK, /* wire_path */
	OP_UNLINK,   /* wire_path */
	OP_RMDIR,    /* wire_path */
	OP_LINK,     /* wire_link: path is the new name */
	OP_GETXATTR, /* wire_xattr; value as data */
	OP_SETXATTR, /* wire_xattr; value as data */
	OP_LISTXATTR,
	OP_REMOVEXATTR,
	/* By inode. */
	OP_RENAME,   /* wire_rename */
	OP_READDIR,  /* wire_readdir -> wire_readdir_reply, records as data */
	OP_CLOSE,    /* wire_ino */
	OP_READ,     /* wire_io -> wire_io_reply, data */
	OP_WRITE,    /* wire_io, data -> wire_io_reply */
	OP_EXTEND,   /* wire_io: the inode's side of a write */
	OP_APPEND,   /* wire_io: reserve `length` at the end -> wire_io_reply.offset */
	OP_REOPEN,   /* wire_reopen: the session holds a file open, after wfsd's restart */
	/* Whole shards. */
	OP_SHARD_STATS, /* -> wire_shard_stats */
	OP_SESSION_END, /* all opens of head.session are gone */
	OP_SCAN,        /* wire_scan -> keys as data, wire_scan_reply; uid 0 only. Of the
			   bucket's primary, or, to a shard, of its copy there */
	OP_MAKE_ROOT,   /* wire_make_root -> wire_ino; uid 0 only */
	OP_REPAIRS,     /* -> wire_repairs, wire_repair records as data */
	/* Between nodes only; refused from a ring. */
	OP_NODE_FIRST = 64,
	OP_ENTRY = OP_NODE_FIRST, /* wire_ino + name -> wire_entry_reply */
	OP_PREPARE,               /* wire_txn + encoded part -> wire_ino (new directory) */
	OP_RESOLVE,               /* wire_txn */
	OP_TXN_STATUS,            /* wire_txn -> wire_txn (outcome) */
	OP_RENAME_LOCK,           /* wire_txn: the cluster-wide lock for directory moves;
				     outcome COMMIT: is it still held? */
	OP_RENAME_UNLOCK,
	OP_CHUNK_PURGE,           /* wire_purge -> wire_purge_reply */
	OP_JOIN,                  /* wire_join -> wire_join_reply, wire_held...; to a shard */
	OP_REPLICATE,             /* wire_replicate + ops, blocks as data; to a shard */
	OP_BLOCKS,                /* wire_io -> wire_io_reply, data: what a member has stored of a
				     chunk, whole blocks; to a shard */
	OP_MAX
};

struct wire_ino {
	le64 ino;
};

struct wire_reopen {
	le64 ino;
	le32 count; /* so many opens, or more */
	le32 reserved;
};
_Static_assert(sizeof(struct wire_reopen) == 16, "wire reopen");

struct wire_attr {
	le64 ino;
	le32 mode;
	le32 nlink;
	le32 uid;
	le32 gid;
	le64 rdev;
	le64 size;
	le64 blocks_512;
	le64 atime_ns; /* two's complement */
	le64 mtime_ns;
	le64 ctime_ns;
	le64 btime_ns;
	le32 generation;
	le32 fsid;
	le64 parent;
	le64 entries;
};
_Static_assert(sizeof(struct wire_attr) == 104, "wire attr");

/*
 * A path operation walks path_size bytes of path, which follow the op's fixed part, from
 * inode start (directory, or the object itself when the path is empty), as far as the
 * shard it was sent to can go. Its reply always begins with wire_walk_reply; the
 * operation was carried out, and its results are there, only if end is WALK_DONE
 * (meta/meta.h, enum walk_end). Otherwise the caller goes on from (ino, consumed).
 * Extra bytes (target, xattr name) follow the path.
 *
 * A WALK of an inode that is being cut waits for that; EINPROGRESS: it takes long, but goes
 * on, so ask again.
 */
struct wire_path {
	le64 start;
	le16 path_size;
	le16 extra_size;
	uint8_t mode; /* enum walk_mode; honoured by WALK, OPEN, SETATTR, xattrs */
	uint8_t want; /* honoured by WALK, and OPEN with PATH: what must be permitted on the object
			 (4 read, 2 write, 1 execute), else EACCES */
	uint8_t reserved[2];
};
_Static_assert(sizeof(struct wire_path) == 16, "wire path");

struct wire_walk {
	struct wire_path path;
};

#define WIRE_WALK_MUST_BE_DIR 1u
#define WIRE_WALK_HAS_ATTR    2u
#define WIRE_WALK_CREATED     4u
#define WIRE_WALK_PURGING     8u /* the file was cut, its chunks not yet: that is when a
				    getattr of it is answered */
struct wire_walk_reply { /* then target_size bytes of symlink target */
	uint8_t end;
	uint8_t flags;
	le16 target_size;
	le32 consumed;
	le64 ino;
	le32 name_at;
	le32 name_size;
	struct wire_attr attr; /* of the object, after the operation */
};
_Static_assert(sizeof(struct wire_walk_reply) == 128, "wire walk reply");

struct wire_open {
	struct wire_path path;
	le32 flags; /* O_* of Linux x86-64: ACCMODE, CREAT, EXCL, TRUNC, DIRECTORY,
		       NOFOLLOW, PATH, APPEND */
	le32 mode;  /* for O_CREAT, umask applied */
};

struct wire_setattr {
	struct wire_path path;
	le32 mask; /* SET_* */
	le32 mode;
	le32 uid;
	le32 gid;
	le64 size;
	le64 atime_ns;
	le64 mtime_ns;
	le32 by_fd;
	le32 reserved;
};

struct wire_mknod {
	struct wire_path path;
	le32 mode;
	le32 reserved;
	le64 rdev;
};

struct wire_symlink { /* target in extra */
	struct wire_path path;
};

struct wire_link {
	struct wire_path path;
	le64 ino;
};

struct wire_xattr { /* name in extra */
	struct wire_path path;
	le32 flags;
	le32 reserved;
};

struct wire_rename { /* then source name, target name */
	le64 from_dir;
	le64 to_dir;
	le16 from_size;
	le16 to_size;
	le32 flags; /* RENAME_NOREPLACE, RENAME_EXCHANGE */
};

struct wire_readdir {
	le64 ino;
	le64 cookie;
};
struct wire_readdir_reply {
	le64 cookie; /* to go on with */
	uint8_t eof;
	uint8_t reserved[7];
};
/*
 * One entry of readdir data. The name follows and then zeros up to a multiple of 8 bytes,
 * always at least one, so that it is NUL-terminated: WIRE_DIRENT_SIZE(name_size) in all.
 */
#define WIRE_DIRENT_SIZE(name_size)                                                      \
	(sizeof(struct wire_dirent) + (((size_t)(name_size) + 8) & ~(size_t)7))
#define WIRE_DIRENT_HAS_ATTR 1u
struct wire_dirent {
	le64 ino;
	le64 cookie; /* of the entry after this one */
	le16 name_size;
	uint8_t dtype;
	uint8_t flags;
	le32 reserved;
	struct wire_attr attr; /* zeros without HAS_ATTR */
};
_Static_assert(sizeof(struct wire_dirent) == 128, "wire dirent");

/*
 * offset and length in bytes; a READ or WRITE stays within one chunk. generation: of the
 * file, as its inode's owner told it; ESTALE: the chunk was cut under a newer one, or (WRITE)
 * the file was. UINT32_MAX is never refused.
 *
 * Who has learned a generation and a size together may read below that size and believe
 * what comes without asking the inode, in chunks below WIRE_CHUNKS_NAMED: if the file had
 * been cut there, the chunk would know. Of chunks further on a cut may pass over holes.
 */
#define WIRE_CHUNKS_NAMED(bucket_count) (16ull * (bucket_count))
struct wire_io {
	le64 ino;
	le64 offset; /* EXTEND: the end of the write */
	le32 length;
	le32 generation;
	le32 flags;
	le32 reserved;
};
#define WIRE_IO_APPEND 1u /* WRITE to chunk 0 of a file: at its end, wherever that is;
			     -EFBIG when it would leave chunk 0: use OP_APPEND */
#define WIRE_IO_INODE_DONE 1u /* reply: size was respected (READ), extended (WRITE) */
#define WIRE_IO_HOLE 2u /* reply to READ, without INODE_DONE: nothing is stored there, and
			   perhaps the file is gone */
struct wire_io_reply {
	le64 offset; /* APPEND: where the data goes or went */
	le64 size;   /* of the file, if INODE_DONE */
	le32 length; /* bytes read or written */
	le32 flags;
	le32 generation; /* of the file, if INODE_DONE */
	le32 reserved;
};

struct wire_scan { /* then the key after which to start */
	le16 bucket;
	le16 key_size;
	le32 reserved;
};
struct wire_scan_reply {
	uint8_t eof;
	uint8_t reserved[3];
	le32 shard; /* whose block ids they are */
};

struct wire_make_root {
	le32 fsid;
	le32 uid;
	le32 gid;
	le32 mode;
};

struct wire_entry_reply {
	le64 ino;
	uint8_t dtype;
	uint8_t reserved[7];
};

enum wire_outcome { TXN_PENDING = 0, TXN_COMMIT = 1, TXN_ABORT = 2 };
struct wire_txn { /* PREPARE: then the encoded part */
	le64 txid;
	le64 now_ns; /* the timestamps all parts use */
	uint8_t outcome;
	uint8_t reserved[7];
};

struct wire_purge {
	le64 ino;
	le64 chunk;
	le32 keep_bytes;
	le32 generation;
	uint8_t forget;
	uint8_t find; /* purge the first chunk at or after `chunk` that this bucket holds */
	uint8_t reserved[6];
};
struct wire_purge_reply {
	le64 next; /* find: where to go on; 0: the bucket holds no more */
};

/*
 * Between the members of a bucket. The primary of `epoch` opens a stream to each other
 * member with JOIN, which ends what older primaries may still say; the answer is how far
 * the member has come. REPLICATE then carries the stream.
 */
struct wire_join {
	le16 bucket;
	le16 reserved;
	le32 epoch;
	le32 stream; /* a new number for every JOIN: messages of older streams are refused */
};
struct wire_join_reply {
	le64 lsn;          /* of its last record */
	le32 record_epoch; /* in which that was written; 0: what it has is not whole */
	le32 opens_epoch;  /* it served in this one to the end, and says as data who had
			      what open then (wire_held); 0: it does not know */
	uint8_t device_uuid[16]; /* what it has is there */
};
struct wire_held {
	le64 session;
	le64 ino;
	le32 count;
	le32 linger_ms; /* its session is over; it counts as open for so long. 0: held */
};
_Static_assert(sizeof(struct wire_held) == 24, "wire held");

enum wire_replicate_kind {
	REPLICATE_RECORD, /* record `lsn`; taken after record lsn - 1 */
	REPLICATE_WIPE,   /* forget all of the bucket; the stream goes on after lsn */
	REPLICATE_UNIT,   /* a piece of a copy, taken between records lsn and lsn + 1 */
	REPLICATE_WHOLE,  /* the copy is whole; likewise */
};
#define REPLICATE_KIND_MAX REPLICATE_WHOLE
#define REPLICATE_OPS_IN_DATA 1u
struct wire_replicate { /* then ops_size bytes of ops (meta/member.c), if not in data */
	le16 bucket;
	uint8_t kind;
	uint8_t flags;
	le32 epoch;        /* of the stream */
	le64 lsn;
	le32 record_epoch; /* of the record, or of the last one */
	le32 block_count;  /* of 4 KiB, as data */
	le32 ops_size;
	le32 stream;
};
_Static_assert(sizeof(struct wire_replicate) == 32, "wire replicate");
#define REPLICATE_BODY_OPS_MAX (WIRE_BODY_MAX - sizeof(struct wire_replicate))

struct wire_shard_stats {
	le32 node;
	le32 shard;
	le64 epoch;
	le64 size_bytes; /* device */
	le64 free_bytes;
	le64 live_bytes;
	le64 inodes;
	le64 requests;    /* handled, since start */
	le64 read_bytes;  /* to clients, since start */
	le64 write_bytes; /* from clients, since start */
	le64 device_bytes;
	le64 user_bytes;
	le64 cleaned_bytes;
	le64 commits;
	le64 records;
	le64 crc_errors;
	le64 recovery_us;
	le64 uptime_us;
	le64 memory_bytes; /* resident, of the process */
	le32 sessions;
	le32 parked; /* requests waiting for a transaction */
	le64 oldest_parked_us;
	/* Repair, of the buckets that this shard leads. */
	le32 copying; /* buckets being copied now, once for each shard they go to */
	le32 waiting; /* those that have still to be */
	le64 copied_bytes; /* data sent in copies, since start */
	le64 copy_rate;    /* the same in the last second */
	le64 copy_done_bytes; /* of copy_total_bytes */
	le64 copy_total_bytes; /* in the buckets that are copied, or wait */
};

enum wire_repair_stage {
	REPAIR_WAITING,
	REPAIR_COPYING,
	REPAIR_CATCHING_UP, /* gets the last records */
};
struct wire_repair { /* a bucket that a shard should have and has not yet */
	le16 bucket;
	uint8_t stage; /* enum wire_repair_stage */
	uint8_t reserved;
	le32 to; /* shard */
	le64 done_bytes;
	le64 total_bytes; /* of data */
};
_Static_assert(sizeof(struct wire_repair) == 24, "wire repair");
struct wire_repairs {
	le32 count; /* that there are: more than the data holds, if it was too small */
	le32 reserved;
};

/*
 * Whether size_bytes at `bytes` are one whole well-formed message of this cluster: magic,
 * version, sizes that add up, bounds, known op, crc, reserved zeros. Pure; fuzzed.
 * -EPROTO: not ours or damaged; -EXDEV: another cluster's; -EPROTONOSUPPORT: version.
 */
int wire_message_check(const void *bytes, size_t size_bytes, uint64_t cluster,
	bool check_crc);
/* Put the crc into a finished message. */
void wire_message_seal(void *bytes, size_t size_bytes);
/* Whether the body fits op: fixed size, path and extra within it, names' lengths, flags.
 * is_reply: the reply's body instead. -EPROTO. Pure; fuzzed. */
int wire_body_check(uint16_t op, const void *body, size_t size_bytes, bool is_reply);
/* Human name of an op, "?" for unknown. */
const char *wire_op_name(uint16_t op);

#endif
