/*
 * Noticing that a peer's process is gone.
 *
 * libfabric tells nothing when a connection without operations in flight breaks, and
 * takes sends to nobody for as long as one likes. So a peer that has calls of ours and
 * has been silent for PROBE_AFTER_US is asked by a plain TCP connection to its address,
 * closed as soon as it is there: if it is refused, nobody listens, whoever had our calls
 * is dead, and they fail with -ECONNRESET instead of waiting for their deadline. Any other
 * outcome says nothing. Only for providers whose addresses are TCP listeners.
 *
 *   idle --silent for long--> connecting --refused--> calls fail
 *     ^                           `------ else ------> idle, again after PROBE_AGAIN_US
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/rpc_impl.h"

#define PROBE_AFTER_US   250000u
#define PROBE_AGAIN_US   500000u
#define PROBE_GIVE_UP_US 2000000u

void probe_end(struct peer *peer)
{
	if (peer->probe_fd >= 0)
		close(peer->probe_fd);
	peer->probe_fd = -1;
}

static void probe_result(struct rpc *rpc, struct peer *peer, int error)
{
	probe_end(peer);
	peer->probe_us = rpc->now_us + PROBE_AGAIN_US;
	if (error != ECONNREFUSED)
		return;
	peer_lost(rpc, peer);
	client_peer_dead(rpc, peer);
}

static void probe_begin(struct rpc *rpc, struct peer *peer)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	peer->probe_us = rpc->now_us + PROBE_AGAIN_US;
	if (fd < 0)
		return;
	peer->probe_fd = fd;
	peer->probe_since_us = rpc->now_us;
	if (connect(fd, (const struct sockaddr *)&peer->addr, sizeof(peer->addr)) == 0)
		probe_result(rpc, peer, 0);
	else if (errno != EINPROGRESS)
		probe_result(rpc, peer, errno);
}

static void probe_look(struct rpc *rpc, struct peer *peer)
{
	struct pollfd p = {.fd = peer->probe_fd, .events = POLLOUT};
	int error = 0;
	socklen_t size = sizeof(error);

	if (poll(&p, 1, 0) == 1) {
		if (getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
			error = errno;
		probe_result(rpc, peer, error);
	} else if (rpc->now_us - peer->probe_since_us > PROBE_GIVE_UP_US) {
		probe_result(rpc, peer, ETIMEDOUT);
	}
}

void probe_poll(struct rpc *rpc)
{
	if (rpc->now_us < rpc->probe_us || list_empty(&rpc->asked))
		return;
	rpc->probe_us = rpc->now_us + RPC_PROBE_TICK_US;
	if (!fabric_is_tcp(rpc->fabric))
		return;
	list_for_each(it, tmp, &rpc->asked)
	{
		struct peer *peer = container_of(it, struct peer, asked);
		if (peer->probe_fd >= 0)
			probe_look(rpc, peer);
		else if (peer->probe_us <= rpc->now_us &&
			 rpc->now_us - peer->heard_us > PROBE_AFTER_US)
			probe_begin(rpc, peer);
	}
}

void probe_asked(struct rpc *rpc, struct peer *peer)
{
	if (peer->call_count++ > 0)
		return;
	peer->heard_us = rpc->now_us;
	list_push_back(&rpc->asked, &peer->asked);
}

void probe_answered(struct peer *peer)
{
	if (--peer->call_count > 0)
		return;
	probe_end(peer);
	list_remove(&peer->asked);
}
