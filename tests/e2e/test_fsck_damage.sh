#!/bin/bash
# fsck finds an inode that is gone and a link count that is wrong.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
wfs sh -c 'mkdir /wfs/d && echo x >/wfs/d/gone && echo y >/wfs/d/count'
gone=$(wfs stat -c %i /wfs/d/gone)
count=$(wfs stat -c %i /wfs/d/count)
expect 0 ctl fsck
ctl cluster stop >/dev/null
$E2E_PYTHON - "$WFS_CLUSTER/node0/index0" "$gone" "$count" <<-'END'
	import ctypes, struct, sys
	lib = ctypes.CDLL("librocksdb.so.7.8")
	for f in ("rocksdb_options_create", "rocksdb_open", "rocksdb_writeoptions_create",
	          "rocksdb_readoptions_create", "rocksdb_get"):
	    getattr(lib, f).restype = ctypes.c_void_p
	err = ctypes.c_char_p()
	p = ctypes.c_void_p
	db = lib.rocksdb_open(p(lib.rocksdb_options_create()), sys.argv[1].encode(),
	                      ctypes.byref(err))
	assert db, err.value
	w, r = p(lib.rocksdb_writeoptions_create()), p(lib.rocksdb_readoptions_create())
	def key(ino): # meta/schema.h: 0x01, bucket, 'I', ino, snapshot
	    return struct.pack(">BHcQI", 1, ino >> 48, b"I", ino, 0xffffffff)
	def get(k):
	    n = ctypes.c_size_t()
	    v = lib.rocksdb_get(p(db), r, k, ctypes.c_size_t(len(k)), ctypes.byref(n),
	                        ctypes.byref(err))
	    assert v, k
	    return bytearray(ctypes.string_at(v, n.value))
	gone, count = int(sys.argv[2]), int(sys.argv[3])
	get(key(gone))
	lib.rocksdb_delete(p(db), w, key(gone), ctypes.c_size_t(16), ctypes.byref(err))
	v = get(key(count))
	assert struct.unpack_from("<I", v, 8)[0] == 1
	struct.pack_into("<I", v, 8, 3)
	lib.rocksdb_put(p(db), w, key(count), ctypes.c_size_t(16), bytes(v),
	                ctypes.c_size_t(len(v)), ctypes.byref(err))
	assert not err.value, err.value
	lib.rocksdb_close(p(db))
END
ctl cluster start >/dev/null
expect 1 ctl fsck
says dangling-name gone main:/d nlink main:/d/count DAMAGED
expect 1 ctl fsck --json
printf '%s' "$out" | $E2E_PYTHON -m json.tool >/dev/null || fail "not JSON"
ctl cluster stop >/dev/null
expect 2 ctl fsck
