#!/bin/bash
# What is open, looked up or being read while names go away; names at their limits.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

fuse_mount 0 1
a=$E2E_TMP/m0/$name b=$E2E_TMP/m1/$name
mkdir "$a"
$E2E_PYTHON - "$a" "$b" <<-'END'
	import errno, os, socket, stat, sys, threading
	a, b = sys.argv[1:]
	def fails(error, f, *args, **kw):
	    try:
	        f(*args, **kw)
	    except OSError as e:
	        assert e.errno == error, (e, errno.errorcode[error])
	        return
	    assert False, f
	# A file without a name lives while it is open, whoever took the name.
	for other in (a, b):
	    fd = os.open(a + "/f", os.O_RDWR | os.O_CREAT)
	    os.write(fd, b"still here")
	    os.unlink(other + "/f")
	    fails(errno.ENOENT, os.stat, a + "/f")
	    assert os.fstat(fd).st_nlink == 0 and os.pread(fd, 99, 0) == b"still here"
	    os.write(fd, b", and more")
	    os.ftruncate(fd, 12)
	    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
	    os.close(fd)
	    assert os.pread(again, 99, 0) == b"still here, "
	    os.close(again)
	# Replaced by rename: the old one and the new one.
	open(a + "/f", "w").write("old"); open(b + "/g", "w").write("new")
	fd = os.open(a + "/f", os.O_RDONLY)
	os.rename(b + "/g", b + "/f")
	assert os.pread(fd, 9, 0) == b"old" and open(a + "/f").read() == "new"
	os.close(fd)
	# O_PATH, and a directory that is gone under a program.
	p = os.open(a + "/f", os.O_PATH)
	os.unlink(b + "/f")
	assert os.fstat(p).st_nlink == 0
	os.close(p)
	for other in (a, b):
	    os.mkdir(a + "/d")
	    os.chdir(a + "/d")
	    d = os.open(".", os.O_RDONLY)
	    os.rmdir(other + "/d")
	    st = os.stat(".")
	    assert stat.S_ISDIR(st.st_mode) and st.st_nlink == 0
	    assert os.fstat(d).st_ino == st.st_ino
	    fails(errno.ENOENT, open, "x", "w")
	    fails(errno.ENOENT, os.mkdir, "x")
	    fails(errno.ENOENT, os.stat, "x")
	    os.chdir(a)
	    os.close(d)
	# A name that is another thing by now.
	os.mkdir(a + "/n"); os.stat(a + "/n")
	os.rmdir(b + "/n"); open(b + "/n", "w").write("file")
	assert open(a + "/n").read() == "file"
	os.unlink(b + "/n"); os.symlink("elsewhere", b + "/n")
	assert os.readlink(a + "/n") == "elsewhere"
	fails(errno.ENOENT, open, a + "/n")
	fd = os.open(a + "/n", os.O_WRONLY | os.O_CREAT)
	assert os.path.exists(b + "/elsewhere")
	os.close(fd); os.unlink(a + "/n"); os.unlink(a + "/elsewhere")
	# A directory moved elsewhere is the same one there.
	os.makedirs(a + "/p/q"); open(a + "/p/q/x", "w").write("x")
	os.chdir(a + "/p/q")
	os.mkdir(b + "/r"); os.rename(b + "/p/q", b + "/r/s")
	assert open("x").read() == "x" and open(a + "/r/s/x").read() == "x"
	assert sorted(os.listdir("..")) in (["q"], ["s"], [])
	assert os.stat(a + "/r/s").st_ino == os.stat(".").st_ino
	os.chdir(a)
	fails(errno.EINVAL, os.rename, a + "/r", a + "/r/s/t")
	# Limits.
	fails(errno.ENAMETOOLONG, open, a + "/" + "n" * 256, "w")
	open(a + "/" + "n" * 255, "w").close()
	fails(errno.ENOTEMPTY, os.rmdir, a + "/r")
	fails(errno.ENOTDIR, os.stat, a + "/" + "n" * 255 + "/x")
	fails(errno.EXDEV, os.rename, a + "/r", os.path.dirname(os.path.dirname(a)) + "/r")
	fails(errno.EEXIST, os.open, a + "/r", os.O_CREAT | os.O_EXCL)
	fails(errno.EISDIR, os.open, a + "/r", os.O_WRONLY)
	os.symlink("loop", a + "/loop")
	fails(errno.ELOOP, open, a + "/loop")
	# Hard links, sockets, fifos, extended attributes.
	open(a + "/h", "w").write("h"); os.link(a + "/h", a + "/h2")
	assert os.stat(b + "/h2").st_nlink == 2 and os.stat(b + "/h").st_ino == os.stat(b + "/h2").st_ino
	os.chdir(a)
	s = socket.socket(socket.AF_UNIX); s.bind("sock"); s.listen()
	c = socket.socket(socket.AF_UNIX); c.connect("sock")
	c.send(b"x"); assert s.accept()[0].recv(1) == b"x"
	os.setxattr("h", "user.colour", b"blue" * 1000)
	assert os.getxattr(b + "/h", "user.colour") == b"blue" * 1000
	assert os.listxattr(b + "/h") == ["user.colour"]
	fails(errno.EEXIST, os.setxattr, "h", "user.colour", b"x", os.XATTR_CREATE)
	os.removexattr(b + "/h", "user.colour")
	fails(errno.ENODATA, os.getxattr, "h", "user.colour")
	os.utime("h", ns=(1_000_000_007, 2_000_000_009))
	st = os.stat(b + "/h")
	assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_007, 2_000_000_009)
	# copy_file_range, sendfile, and positions after appending.
	fd = os.open("src", os.O_RDWR | os.O_CREAT); os.write(fd, os.urandom(5_000_001))
	to = os.open("dst", os.O_RDWR | os.O_CREAT)
	at = 0
	while n := os.copy_file_range(fd, to, 1 << 30, at, at): at += n
	assert at == 5_000_001 and open(b + "/dst", "rb").read() == open(b + "/src", "rb").read()
	ap = os.open("src", os.O_WRONLY | os.O_APPEND)
	os.write(ap, b"end")
	assert os.lseek(ap, 0, os.SEEK_CUR) == 5_000_004 == os.stat(b + "/src").st_size
	# A large directory is listed whole while others come and go.
	os.mkdir("big")
	for i in range(3000): os.close(os.open(f"big/keep{i}", os.O_CREAT))
	done = False
	def churn():
	    i = 0
	    while not done:
	        p = f"{b}/big/come{i % 50}"
	        os.close(os.open(p, os.O_CREAT)); os.unlink(p); i += 1
	t = threading.Thread(target=churn); t.start()
	for i in range(5):
	    names = os.listdir("big")
	    assert len(names) == len(set(names))
	    assert sum(n.startswith("keep") for n in names) == 3000
	done = True; t.join()
	d = os.open("big", os.O_RDONLY)
	before = set(os.listdir(d)); os.unlink("big/keep7"); open("big/new", "w").close()
	os.lseek(d, 0, os.SEEK_SET)
	assert set(os.listdir(d)) ^ before == {"keep7", "new"}
	# Many at once, more than there are workers.
	def hammer(i):
	    for j in range(30):
	        open(f"{a}/big/t{i}", "w").write(str(j))
	        assert open(f"{b}/big/t{i}").read() == str(j)
	threads = [threading.Thread(target=hammer, args=(i,)) for i in range(64)]
	for t in threads: t.start()
	for t in threads: t.join()
END
# The kernel forgets what it looked up, and nothing is lost by that.
echo 2 >/proc/sys/vm/drop_caches
[ "$(ls "$a/big" | wc -l)" = 3064 ] || fail "after the kernel forgot"
# Programs that are killed in the middle of their calls.
cat >"$E2E_TMP/busy.py" <<-'END'
	import os, sys
	while True:
	    for i in range(9):
	        fd = os.open(f"{sys.argv[1]}/k{i}", os.O_CREAT | os.O_WRONLY)
	        os.write(fd, b"x" * 300000)
	        os.unlink(f"{sys.argv[1]}/k{i}")
	        os.close(fd)
END
for i in 1 2 3 4 5; do
	$E2E_PYTHON "$E2E_TMP/busy.py" "$a" &
	sleep 0.3
	kill -9 $!
	wait $! || :
done
rm -f "$a"/k?
expect 0 ctl fsck
