# The index of a shard whose node is stopped, opened to be damaged (lib.sh: damage).
import ctypes
import struct

lib = ctypes.CDLL("librocksdb.so.7.8")
for f in ("options_create", "open", "writeoptions_create", "readoptions_create", "get"):
    getattr(lib, "rocksdb_" + f).restype = ctypes.c_void_p

pointer = ctypes.c_void_p
size = ctypes.c_size_t


def inode_key(ino):  # meta/schema.h: 0x01, bucket, 'I', ino, snapshot
    return struct.pack(">BHcQI", 1, ino >> 48, b"I", ino, 0xFFFFFFFF)


class Index:
    def __init__(self, path):
        self.err = ctypes.c_char_p()
        options = pointer(lib.rocksdb_options_create())
        self.db = pointer(
            lib.rocksdb_open(options, path.encode(), ctypes.byref(self.err))
        )
        assert self.db, self.err.value
        self.w = pointer(lib.rocksdb_writeoptions_create())
        self.r = pointer(lib.rocksdb_readoptions_create())

    def get(self, key):
        n = size()
        v = lib.rocksdb_get(
            self.db, self.r, key, size(len(key)), ctypes.byref(n), ctypes.byref(self.err)
        )
        assert v, (key, self.err.value)
        return bytearray(ctypes.string_at(v, n.value))

    def put(self, key, value):
        lib.rocksdb_put(
            self.db, self.w, key, size(len(key)), bytes(value), size(len(value)),
            ctypes.byref(self.err),
        )
        assert not self.err.value, self.err.value

    def delete(self, key):
        lib.rocksdb_delete(self.db, self.w, key, size(len(key)), ctypes.byref(self.err))
        assert not self.err.value, self.err.value

    def close(self):
        lib.rocksdb_close(self.db)
