#!/bin/bash
# Random bytes in the shared memory of a session: that session ends, the node lives.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
wfs sh -c 'echo x >/wfs/f'
for seed in 1 2 3 4 5 6; do
	$E2E_PYTHON - "$WFS_CLUSTER/node0/wfsd.sock" $seed <<-'END'
		import array, mmap, os, random, socket, struct, sys, time
		r = random.Random(int(sys.argv[2]))
		for kind in socket.SOCK_STREAM, socket.SOCK_SEQPACKET:
		    s = socket.socket(socket.AF_UNIX, kind)
		    try:
		        s.connect(sys.argv[1])
		        break
		    except OSError:
		        continue
		s.settimeout(2)
		s.send(struct.pack("<II64sQQ", 0x31534657, 4, b"", 0, 0))
		data, fds, _, _ = socket.recv_fds(s, 64, 4)
		magic, error, size = struct.unpack_from("<IiQ", data)
		assert error == 0 and len(fds) == 2, (error, fds)
		m = mmap.mmap(fds[0], size)
		slots_at, data_at = struct.unpack_from("<QQ", m, 56)
		kind = int(sys.argv[2]) % 3
		for n in range(200):
		    slot = slots_at + 12288 * r.randrange(32)
		    if kind == 0:    # noise all over
		        at = r.randrange(size - 4096)
		        m[at:at + 512] = r.randbytes(512)
		    else:            # plausible head, wild body
		        m[slot + 64:slot + 64 + 112] = (struct.pack("<IBBH", 0x314d4657, 1, 1,
		            r.randrange(80)) + r.randbytes(104)) if kind == 1 else r.randbytes(112)
		        m[slot + 176:slot + 176 + 256] = r.randbytes(256)
		        m[slot:slot + 4] = struct.pack("<I", 1)
		        m[slot + 8:slot + 12] = struct.pack("<I", 1)
		    m[128:136] = r.randbytes(8) if kind == 0 else b"\xff" * 8  # submitted
		    try:
		        os.write(fds[1], struct.pack("<Q", 1))
		    except OSError:
		        pass
		    time.sleep(0.001)
	END
done
[ "$(wfs cat /wfs/f)" = x ] || fail "does not work"
[ "$(grep -c 'session ended reason' "$WFS_CLUSTER/node0/wfsd.log")" -ge 4 ] || fail "was not noticed"
expect 0 ctl status
expect 0 ctl fsck
