#!/bin/bash
# Random bytes to the Unix socket, and connections that say nothing: the node lives.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
$E2E_PYTHON - "$WFS_CLUSTER/node0/wfsd.sock" <<-'END'
	import random, socket, sys
	r = random.Random(2)
	idle = []
	for i in range(200):
	    s = socket.socket(socket.AF_UNIX, r.choice([socket.SOCK_STREAM, socket.SOCK_SEQPACKET]))
	    s.settimeout(0.02)
	    try:
	        s.connect(sys.argv[1])
	        if i % 4:
	            s.send(r.randbytes(r.choice([1, 8, 88, 89, 5000])))
	        if i % 5 == 0:
	            s.send(b"WFS1" + r.randbytes(84))
	        try:
	            s.recv(100)
	        except OSError:
	            pass
	    except OSError:
	        pass
	    if i < 20:
	        idle.append(s)
	    else:
	        s.close()
END
expect 0 ctl status
[ "$(wfs sh -c 'echo x >/wfs/f && cat /wfs/f')" = x ] || fail "does not work"
