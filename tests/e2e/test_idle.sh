#!/bin/bash
# Idle nodes take less than 1 % of a core each.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 3
wfs sh -c 'mkdir /wfs/d && cp /bin/ls /wfs/d && cat /wfs/d/ls >/dev/null'
$E2E_PYTHON - $(pid_of 0) $(pid_of 1) $(pid_of 2) <<-'END'
	import os, sys, time
	def ticks(pid):
	    f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
	    return int(f[11]) + int(f[12])
	time.sleep(1)
	began = {p: ticks(p) for p in sys.argv[1:]}
	time.sleep(4)
	hz = os.sysconf("SC_CLK_TCK")
	for p, t in began.items():
	    percent = 100 * (ticks(p) - t) / hz / 4
	    print(p, percent)
	    assert percent <= 1, percent
END
