#!/bin/bash
# python3 threads, subprocesses, tempfile, shutil and os.walk work.
. "$(dirname "$0")/lib.sh"

work_dir
wfs $E2E_PYTHON - "$work" <<-'END'
	import os, shutil, subprocess, sys, tempfile, threading
	top = sys.argv[1]
	def work(n):
	    for i in range(20):
	        with open(f"{top}/{n}.{i}", "w") as f: f.write(f"{n} {i}\n" * 100)
	ts = [threading.Thread(target=work, args=(n,)) for n in range(6)]
	[t.start() for t in ts]; [t.join() for t in ts]
	assert len(os.listdir(top)) == 120
	out = subprocess.run(["cat", f"{top}/3.4"], capture_output=True, text=True).stdout
	assert out == "3 4\n" * 100
	with tempfile.TemporaryDirectory(dir=top) as d:
	    shutil.copy(f"{top}/1.1", d)
	    assert os.listdir(d) == ["1.1"]
	assert not os.path.exists(d)
	os.makedirs(f"{top}/a/b/c"); shutil.move(f"{top}/5.5", f"{top}/a/b/c/moved")
	assert [f for _, _, fs in os.walk(f"{top}/a") for f in fs] == ["moved"]
	shutil.rmtree(f"{top}/a")
	with open(f"{top}/rw", "w+b") as f:
	    f.write(b"x" * 3_000_000); f.seek(1_500_000); f.write(b"y"); f.seek(1_499_999)
	    assert f.read(3) == b"xyx"
	    f.truncate(10); assert os.fstat(f.fileno()).st_size == 10
END
