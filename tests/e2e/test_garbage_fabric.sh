#!/bin/bash
# Random bytes to the fabric port: the node lives.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 2
pids="$(pid_of 0) $(pid_of 1)"
for port in $(ctl node list --no-header -o ports); do
	$E2E_PYTHON - "$port" <<-'END'
		import os, random, socket, sys
		r = random.Random(1)
		for i in range(60):
		    try:
		        s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2)
		        s.settimeout(0.05)
		        s.sendall(r.randbytes(r.choice([1, 7, 64, 112, 500, 20000])))
		        if i % 3 == 0:
		            s.sendall(b"WFM1" + r.randbytes(200))
		        try:
		            s.recv(100)
		        except OSError:
		            pass
		        s.close()
		    except OSError:
		        pass
	END
done
[ "$(pid_of 0) $(pid_of 1)" = "$pids" ] || fail "a node died"
expect 0 ctl status
wfs sh -c 'mkdir /wfs/a && echo x >/wfs/a/b && cat /wfs/a/b' >/dev/null
