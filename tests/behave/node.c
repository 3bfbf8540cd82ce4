/* FIFOs, sockets, devices; statfs, pathconf; trees walked by nftw, fts and glob. */
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "tests/behave/behave.h"

/* --- FIFOs -----------------------------------------------------------------------------
 */

TEST(fifo_mode_less_umask)
{
	umask(027);
	OK(mkfifo("p", 0666) == 0);
	EQ(mode_of("p"), 0640);
}

TEST(fifo_existing)
{
	put("f", "");
	FAILS(mkfifo("f", 0644), EEXIST);
}

TEST(fifo_passes_bytes)
{
	pid_t pid;
	char text[8] = "";
	int fd;

	OK(mkfifo("p", 0644) == 0);
	pid = fork();
	if (!pid) {
		EQ(write(open("p", O_WRONLY), "hello", 5), 5);
		_exit(0);
	}
	fd = open("p", O_RDONLY);
	OK(read(fd, text, 5) == 5 && !strcmp(text, "hello"));
	EQ(read(fd, text, 5), 0);
	EQ(finish(pid), 0);
}

TEST(fifo_write_nonblock_without_reader)
{
	OK(mkfifo("p", 0644) == 0);
	FAILS(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
}

TEST(fifo_read_nonblock_without_writer)
{
	char byte;
	int fd;

	OK(mkfifo("p", 0644) == 0);
	fd = open("p", O_RDONLY | O_NONBLOCK);
	OK(fd >= 0 && read(fd, &byte, 1) == 0);
}

TEST(fifo_read_write_does_not_wait)
{
	char byte;
	int fd;

	OK(mkfifo("p", 0644) == 0);
	fd = open("p", O_RDWR);
	OK(write(fd, "x", 1) == 1 && read(fd, &byte, 1) == 1);
}

TEST(fifo_broken_pipe)
{
	int in, out;
	char byte = 'x';

	OK(mkfifo("p", 0644) == 0);
	in = open("p", O_RDONLY | O_NONBLOCK);
	out = open("p", O_WRONLY);
	signal(SIGPIPE, SIG_IGN);
	OK(close(in) == 0);
	FAILS(write(out, &byte, 1), EPIPE);
}

TEST(fifo_lseek_is_espipe)
{
	OK(mkfifo("p", 0644) == 0);
	FAILS(lseek(open("p", O_RDWR), 0, SEEK_CUR), ESPIPE);
}

TEST(fifo_polls)
{
	struct pollfd p = {.events = POLLIN};

	OK(mkfifo("p", 0644) == 0);
	p.fd = open("p", O_RDWR);
	EQ(poll(&p, 1, 0), 0);
	EQ(write(p.fd, "x", 1), 1);
	EQ(poll(&p, 1, 0), 1);
}

TEST(fifo_fstat_agrees)
{
	OK(mkfifo("p", 0640) == 0);
	struct stat st = fsee(open("p", O_RDWR));
	OK(S_ISFIFO(st.st_mode) && st.st_ino == see("p").st_ino);
	EQ(st.st_mode & 07777, 0640);
}

TEST(fifo_needs_permission)
{
	OK(mkfifo("p", 0600) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(open("p", O_RDONLY | O_NONBLOCK), EACCES);
	}
}

TEST(fifo_survives_rename_and_unlink)
{
	char byte;
	int fd;

	OK(mkfifo("p", 0644) == 0 && rename("p", "q") == 0);
	fd = open("q", O_RDWR);
	OK(unlink("q") == 0 && write(fd, "x", 1) == 1 && read(fd, &byte, 1) == 1);
}

TEST(fifo_of_a_new_file_of_the_same_name_is_another)
{
	char byte;
	int fd;

	OK(mkfifo("p", 0644) == 0);
	fd = open("p", O_RDWR | O_NONBLOCK);
	OK(write(fd, "x", 1) == 1 && unlink("p") == 0 && mkfifo("p", 0644) == 0);
	fd = open("p", O_RDWR | O_NONBLOCK);
	FAILS(read(fd, &byte, 1), EAGAIN);
}

TEST(fifo_in_the_shell)
{
	EQ(shell("mkfifo p; echo through >p & read a <p; test $a = through"), 0);
}

/* --- sockets ---------------------------------------------------------------------- */

static struct sockaddr_un named(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		skip("the path is too long");
	strcpy(address.sun_path, path);
	return address;
}

static int listening(const char *path)
{
	struct sockaddr_un address = named(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	OK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		listen(fd, 5) == 0);
	return fd;
}

static int connected(const char *path)
{
	struct sockaddr_un address = named(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -1 : fd;
}

TEST(socket_bind_makes_a_node)
{
	listening("s");
	OK(S_ISSOCK(see("s").st_mode));
	EQ(mode_of("s"), 0755);
}

TEST(socket_bind_existing)
{
	struct sockaddr_un address = named("f");

	put("f", "");
	FAILS(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
		      sizeof(address)),
		EADDRINUSE);
}

TEST(socket_bind_in_absent_directory)
{
	struct sockaddr_un address = named("absent/s");

	FAILS(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
		      sizeof(address)),
		ENOENT);
}

TEST(socket_connects_and_talks)
{
	char byte = 0;
	int server = listening("s"), client = connected("s"),
	    peer = accept(server, NULL, NULL);

	OK(client >= 0 && write(client, "x", 1) == 1 && read(peer, &byte, 1) == 1);
	EQ(byte, 'x');
}

TEST(socket_connects_absolute)
{
	listening("s");
	OK(connected(full("s")) >= 0);
}

TEST(socket_connects_from_another_process)
{
	listening("s");
	CHILD
	{
		OK(connected("s") >= 0);
	}
}

TEST(socket_connect_absent)
{
	FAILS(connected("absent"), ENOENT);
}

TEST(socket_connect_to_file)
{
	put("f", "");
	FAILS(connected("f"), ECONNREFUSED);
}

TEST(socket_connect_to_closed)
{
	close(listening("s"));
	FAILS(connected("s"), ECONNREFUSED);
}

TEST(socket_open_is_enxio)
{
	listening("s");
	FAILS(open("s", O_RDONLY), ENXIO);
}

TEST(socket_after_unlink_and_bind_again)
{
	close(listening("s"));
	OK(unlink("s") == 0);
	listening("s");
	OK(connected("s") >= 0);
}

TEST(socket_after_rename)
{
	listening("s");
	OK(rename("s", "t") == 0 && connected("t") >= 0);
}

TEST(socket_name_is_what_was_bound)
{
	struct sockaddr_un address;
	socklen_t size = sizeof(address);

	OK(getsockname(listening("s"), (struct sockaddr *)&address, &size) == 0);
	OK(!strcmp(address.sun_path, "s"));
}

TEST(socket_datagrams)
{
	struct sockaddr_un address = named("s");
	int server = socket(AF_UNIX, SOCK_DGRAM, 0),
	    client = socket(AF_UNIX, SOCK_DGRAM, 0);
	char byte = 0;

	OK(bind(server, (struct sockaddr *)&address, sizeof(address)) == 0);
	EQ(sendto(client, "x", 1, 0, (struct sockaddr *)&address, sizeof(address)), 1);
	OK(recv(server, &byte, 1, 0) == 1 && byte == 'x');
}

/* --- devices ---------------------------------------------------------------------- */

TEST(mknod_regular_file)
{
	OK(mknod("f", S_IFREG | 0640, 0) == 0 && mknod("g", 0600, 0) == 0);
	OK(S_ISREG(see("f").st_mode) && S_ISREG(see("g").st_mode));
}

TEST(mknod_directory_is_eperm)
{
	FAILS(mknod("d", S_IFDIR | 0755, 0), EPERM);
}

TEST(mknod_of_nonsense)
{
	FAILS(mknod("x", S_IFLNK | 0755, 0), EINVAL);
}

TEST(mknod_device_by_others_is_eperm)
{
	OK(chmod(".", 0777) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(mknod("n", S_IFCHR | 0600, makedev(1, 3)), EPERM);
	}
}

TEST(mknod_device_keeps_its_number)
{
	need_root();
	OK(mknod("b", S_IFBLK | 0600, makedev(259, 70000)) == 0);
	OK(S_ISBLK(see("b").st_mode));
	EQ(see("b").st_rdev, makedev(259, 70000));
}

TEST(device_null_opens)
{
	char byte;
	int fd;

	need_root();
	OK(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0);
	fd = open("null", O_RDWR);
	OK(fd >= 0 && write(fd, "x", 1) == 1 && read(fd, &byte, 1) == 0);
}

TEST(device_needs_permission)
{
	need_root();
	OK(mknod("null", S_IFCHR | 0600, makedev(1, 3)) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(open("null", O_RDWR), EACCES);
	}
}

TEST(device_zero_opens)
{
	char byte = 'x';

	need_root();
	OK(mknod("zero", S_IFCHR | 0666, makedev(1, 5)) == 0);
	OK(read(open("zero", O_RDONLY), &byte, 1) == 1 && byte == 0);
}

/* --- the file system -------------------------------------------------------------- */

TEST(statvfs_has_room)
{
	struct statvfs st;

	OK(statvfs(".", &st) == 0 && st.f_blocks && st.f_bavail &&
		st.f_bavail <= st.f_bfree);
	OK(st.f_bfree <= st.f_blocks && st.f_frsize >= 512 && st.f_bsize >= 512);
	EQ(st.f_namemax, 255);
}

TEST(statvfs_has_inodes)
{
	struct statvfs st;

	OK(statvfs(".", &st) == 0 && st.f_files && st.f_ffree &&
		st.f_ffree <= st.f_files);
}

TEST(statvfs_sees_use)
{
	struct statvfs before, after;
	int fd;

	OK(statvfs(".", &before) == 0);
	put_size("f", 8 << 20);
	fd = rw("f");
	OK(fsync(fd) == 0 && statvfs(".", &after) == 0);
	OK(after.f_bfree < before.f_bfree);
}

TEST(statvfs_writable)
{
	struct statvfs st;

	OK(statvfs(".", &st) == 0 && !(st.f_flag & ST_RDONLY));
}

TEST(statvfs_errors)
{
	struct statvfs st;

	FAILS(statvfs("absent", &st), ENOENT);
	FAILS(fstatvfs(99, &st), EBADF);
}

TEST(fstatvfs_agrees)
{
	struct statvfs a, b;

	OK(statvfs(".", &a) == 0 && fstatvfs(rw("f"), &b) == 0);
	OK(a.f_blocks == b.f_blocks && a.f_bsize == b.f_bsize);
}

TEST(statfs_has_a_type)
{
	struct statfs st;

	OK(statfs(".", &st) == 0 && st.f_type && st.f_bsize && st.f_namelen == 255);
	OK(fstatfs(rw("f"), &st) == 0 && st.f_blocks);
}

TEST(statfs_of_symlink_out)
{
	struct statfs st, proc;

	sym("/proc", "l");
	OK(statfs("l", &st) == 0 && statfs("/proc", &proc) == 0 &&
		st.f_type == proc.f_type);
}

TEST(pathconf_of_names_and_paths)
{
	EQ(pathconf(".", _PC_NAME_MAX), 255);
	EQ(pathconf(".", _PC_PATH_MAX), 4096);
	EQ(pathconf(".", _PC_NO_TRUNC), 1);
	EQ(pathconf(".", _PC_CHOWN_RESTRICTED), 1);
	EQ(pathconf(".", _PC_PIPE_BUF), 4096);
}

TEST(pathconf_links)
{
	OK(pathconf(".", _PC_LINK_MAX) >= 1000);
}

TEST(pathconf_file_size_bits)
{
	EQ(pathconf(".", _PC_FILESIZEBITS), 64);
}

TEST(pathconf_symlinks)
{
	OK(pathconf(".", _PC_2_SYMLINKS) == 1);
}

TEST(pathconf_errors)
{
	FAILS(pathconf(".", 9999), EINVAL);
	FAILS(pathconf("absent", _PC_LINK_MAX), ENOENT);
}

TEST(fpathconf_of_file)
{
	EQ(fpathconf(rw("f"), _PC_NAME_MAX), 255);
	FAILS(fpathconf(99, _PC_NAME_MAX), EBADF);
}

TEST(df_by_the_tool)
{
	EQ(shell("df . >/dev/null && df -i . >/dev/null"), 0);
}

TEST(du_counts_blocks)
{
	dir("d");
	put_size("d/f", 1 << 20);
	EQ(shell("test $(du -k d/f | cut -f1) = 1024 && test $(du -sb d/f | cut -f1) = "
		 "1048576"),
		0);
}

/* --- trees ------------------------------------------------------------------------ */

/* t: f, link -> f, d: g, e: h. */
static void tree(void)
{
	dir("t");
	dir("t/d");
	dir("t/d/e");
	put("t/f", "f");
	put("t/d/g", "g");
	put("t/d/e/h", "h");
	sym("f", "t/link");
}

static char walked[1000];
static int walk_stop;

static int note(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	sprintf(walked + strlen(walked), "%s%s:%d:%d", *walked ? " " : "",
		path + ftw->base, type, ftw->level);
	return walk_stop && type == walk_stop ? 9 : 0;
}

static bool noted(const char *what)
{
	return strstr(walked, what) != NULL;
}

TEST(nftw_sees_all_once)
{
	tree();
	EQ(nftw("t", note, 5, FTW_PHYS), 0);
	OK(noted("t:1:0") && noted("f:0:1") && noted("d:1:1") && noted("h:0:3"));
	OK(noted("link:4:1"));
}

TEST(nftw_directory_before_its_files)
{
	tree();
	EQ(nftw("t", note, 5, FTW_PHYS), 0);
	OK(strstr(walked, "d:1:1") < strstr(walked, "g:0:2"));
}

TEST(nftw_depth)
{
	tree();
	EQ(nftw("t", note, 5, FTW_PHYS | FTW_DEPTH), 0);
	OK(strstr(walked, "g:0:2") < strstr(walked, "d:5:1") && noted("t:5:0"));
}

TEST(nftw_follows_symlinks_without_phys)
{
	tree();
	EQ(nftw("t", note, 5, 0), 0);
	OK(noted("link:0:1"));
}

TEST(nftw_dangling_symlink)
{
	dir("t");
	sym("nothing", "t/l");
	EQ(nftw("t", note, 5, 0), 0);
	OK(noted("l:6:1"));
}

TEST(nftw_stops)
{
	tree();
	walk_stop = FTW_SL;
	EQ(nftw("t", note, 5, FTW_PHYS), 9);
}

static int note_here(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	struct stat own;

	(void)type;
	if (ftw->level)
		OK(lstat(path + ftw->base, &own) == 0 && own.st_ino == st->st_ino);
	return 0;
}

TEST(nftw_chdir)
{
	char now[PATH_MAX];

	tree();
	EQ(nftw("t", note_here, 5, FTW_PHYS | FTW_CHDIR), 0);
	OK(getcwd(now, sizeof(now)) && !strcmp(now, test_dir));
}

TEST(nftw_few_descriptors)
{
	tree();
	EQ(nftw("t", note, 1, FTW_PHYS), 0);
	OK(noted("h:0:3"));
}

TEST(nftw_absent)
{
	FAILS(nftw("absent", note, 5, 0), ENOENT);
}

TEST(nftw_of_file)
{
	put("f", "");
	EQ(nftw("f", note, 5, 0), 0);
	OK(!strcmp(walked, "f:0:0"));
}

TEST(nftw_actionretval_skips)
{
	tree();
	walk_stop = 0;
	EQ(nftw("t", note, 5, FTW_PHYS | FTW_ACTIONRETVAL), 0);
	OK(noted("h:0:3"));
}

static int count_old(const char *path, const struct stat *st, int type)
{
	(void)path;
	(void)st;
	(void)type;
	walk_stop++;
	return 0;
}

TEST(ftw_counts)
{
	tree();
	EQ(ftw("t", count_old, 5), 0);
	EQ(walk_stop, 7);
}

static int fts_by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static const char *fts_walk(int options, const char *skip_name)
{
	static char got[500];
	char *paths[] = {(char *)"t", NULL};
	FTS *fts = fts_open(paths, options, fts_by_name);

	OK(fts);
	got[0] = 0;
	for (FTSENT *e; (e = fts_read(fts));) {
		sprintf(got + strlen(got), "%s%s%s", *got ? " " : "", e->fts_name,
			e->fts_info == FTS_D    ? "{"
			: e->fts_info == FTS_DP ? "}"
			: e->fts_info == FTS_SL ? "@"
			: e->fts_info == FTS_F  ? ""
						: "?");
		if (skip_name && e->fts_info == FTS_D && !strcmp(e->fts_name, skip_name))
			fts_set(fts, e, FTS_SKIP);
	}
	OK(fts_close(fts) == 0);
	return got;
}

TEST(fts_physical_in_order)
{
	tree();
	OK(!strcmp(fts_walk(FTS_PHYSICAL, NULL), "t{ d{ e{ h e} g d} f link@ t}"));
}

TEST(fts_logical_follows)
{
	tree();
	OK(!strcmp(fts_walk(FTS_LOGICAL, NULL), "t{ d{ e{ h e} g d} f link t}"));
}

TEST(fts_skip)
{
	tree();
	OK(!strcmp(fts_walk(FTS_PHYSICAL, "d"), "t{ d{ d} f link@ t}"));
}

TEST(fts_nochdir)
{
	tree();
	OK(!strcmp(fts_walk(FTS_PHYSICAL | FTS_NOCHDIR, NULL),
		"t{ d{ e{ h e} g d} f link@ t}"));
}

TEST(fts_absent)
{
	char *paths[] = {(char *)"absent", NULL};
	FTS *fts = fts_open(paths, FTS_PHYSICAL, NULL);
	FTSENT *e = fts_read(fts);

	OK(e && e->fts_info == FTS_NS && e->fts_errno == ENOENT);
}

static const char *globbed(const char *pattern, int flags)
{
	static char got[500];
	glob_t g;
	int rc = glob(pattern, flags, NULL, &g);

	got[0] = 0;
	if (rc)
		return rc == GLOB_NOMATCH ? "none" : "error";
	for (size_t i = 0; i < g.gl_pathc; i++)
		sprintf(got + strlen(got), "%s%s", i ? " " : "", g.gl_pathv[i]);
	globfree(&g);
	return got;
}

TEST(glob_star)
{
	tree();
	OK(!strcmp(globbed("t/*", 0), "t/d t/f t/link"));
}

TEST(glob_in_the_middle)
{
	tree();
	OK(!strcmp(globbed("*/d/?", 0), "t/d/e t/d/g"));
}

TEST(glob_brackets_and_mark)
{
	tree();
	OK(!strcmp(globbed("t/[df]", GLOB_MARK), "t/d/ t/f"));
}

TEST(glob_no_match)
{
	OK(!strcmp(globbed("x*", 0), "none"));
	OK(!strcmp(globbed("x*", GLOB_NOCHECK), "x*"));
}

TEST(glob_hidden)
{
	put(".hidden", "");
	put("shown", "");
	OK(!strcmp(globbed("*", 0), "shown"));
	OK(!strcmp(globbed(".h*", 0), ".hidden"));
}

TEST(glob_absolute)
{
	put("one", "");
	OK(!strcmp(globbed(full("o*"), 0), full("one")));
}

TEST(glob_braces)
{
	put("a", "");
	put("b", "");
	OK(!strcmp(globbed("{b,a}", GLOB_BRACE), "b a"));
}

TEST(glob_only_directories)
{
	tree();
	OK(strstr(globbed("t/*", GLOB_ONLYDIR), "t/d"));
	OK(!strcmp(globbed("t/*/", 0), "t/d/"));
}

TEST(find_by_the_tool)
{
	tree();
	EQ(shell("test \"$(find t -type f | sort | tr '\\n' ' ')\" = 't/d/e/h t/d/g t/f "
		 "'"),
		0);
}

TEST(ls_by_the_tool)
{
	tree();
	EQ(shell("test \"$(ls t | tr '\\n' ' ')\" = 'd f link '"), 0);
}

TEST(tar_keeps_a_tree)
{
	tree();
	EQ(shell("tar cf a.tar t && mkdir x && tar xf a.tar -C x && diff -r "
		 "--no-dereference t x/t"),
		0);
}
