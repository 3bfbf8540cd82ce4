/*
 * POSIX asynchronous I/O on WFS files: done at once, in the call. libc's threads would
 * not come by here; its aio_error and aio_return read the result out of the block.
 */
#include <aio.h>
#include <signal.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/real.h"

static bool is_wfs(int fd)
{
	struct file *f = fd_file(fd);

	fd_put(f);
	return f != NULL;
}

static void notify(const struct sigevent *event)
{
	if (event->sigev_notify == SIGEV_SIGNAL && event->sigev_signo)
		(void)sigqueue(getpid(), event->sigev_signo, event->sigev_value);
	else if (event->sigev_notify == SIGEV_THREAD && event->sigev_notify_function)
		event->sigev_notify_function(event->sigev_value);
}

static int finish(struct aiocb *cb, ssize_t done, int saved)
{
	cb->__error_code = done < 0 ? errno : 0;
	cb->__return_value = done;
	errno = saved;
	notify(&cb->aio_sigevent);
	return 0;
}

static int WFS_USED wfs_aio_read(struct aiocb *cb)
{
	int saved = errno;

	if (!is_wfs(cb->aio_fildes))
		return REAL(aio_read)(cb);
	return finish(cb,
		wfs_pread(cb->aio_fildes, (void *)cb->aio_buf, cb->aio_nbytes, cb->aio_offset),
		saved);
}
EXPORT(aio_read, wfs_aio_read);
EXPORT(aio_read64, wfs_aio_read);

static int WFS_USED wfs_aio_write(struct aiocb *cb)
{
	int saved = errno;

	if (!is_wfs(cb->aio_fildes))
		return REAL(aio_write)(cb);
	return finish(cb,
		wfs_pwrite(cb->aio_fildes, (void *)cb->aio_buf, cb->aio_nbytes, cb->aio_offset),
		saved);
}
EXPORT(aio_write, wfs_aio_write);
EXPORT(aio_write64, wfs_aio_write);

static int WFS_USED wfs_aio_fsync(int operation, struct aiocb *cb)
{
	int saved = errno;

	if (!is_wfs(cb->aio_fildes))
		return REAL(aio_fsync)(operation, cb);
	return finish(cb, wfs_fsync(cb->aio_fildes), saved);
}
EXPORT(aio_fsync, wfs_aio_fsync);
EXPORT(aio_fsync64, wfs_aio_fsync);

/* With a WFS file among them, all are done here, one by one. */
static int WFS_USED wfs_lio_listio(
	int mode, struct aiocb *const list[], int count, struct sigevent *event)
{
	bool ours = false;

	for (int i = 0; i < count; i++)
		ours |= list[i] && list[i]->aio_lio_opcode != LIO_NOP &&
			is_wfs(list[i]->aio_fildes);
	if (!ours)
		return REAL(lio_listio)(mode, list, count, event);
	for (int i = 0; i < count; i++) {
		if (!list[i] || list[i]->aio_lio_opcode == LIO_NOP)
			continue;
		if (list[i]->aio_lio_opcode == LIO_READ)
			(void)wfs_aio_read(list[i]);
		else
			(void)wfs_aio_write(list[i]);
		while (mode == LIO_WAIT && aio_error(list[i]) == EINPROGRESS) {
			const struct aiocb *one[1] = {list[i]};

			(void)aio_suspend(one, 1, NULL);
		}
	}
	if (mode == LIO_NOWAIT && event)
		notify(event);
	return 0;
}
EXPORT(lio_listio, wfs_lio_listio);
EXPORT(lio_listio64, wfs_lio_listio);
