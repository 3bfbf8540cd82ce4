/*
 * Who may read the map in etcd, and what is refused: certificates, passwords, addresses;
 * and members that a process adopts.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "tests/lib/etcd_world.h"

static void one_setup(void)
{
	members_start(1);
}

static void teardown(void)
{
	members_end();
	cr_assert_eq(mem_live_count(), 0);
}

TestSuite(one, .init = one_setup, .fini = teardown, .timeout = 120);
TestSuite(other, .timeout = 120);

static int spec_try(const struct map_store_spec *spec, char *reason, size_t size)
{
	struct map_store *store = NULL;
	int rc = map_store_open(spec, &store, reason, size);

	if (rc == 0) {
		rc = load_epoch(store, 0);
		snprintf(reason, size, "%s", store->reason);
		store->ops->close(store);
	}
	return rc;
}

Test(one, user_and_password, .timeout = 60)
{
	char password_file[128], reason[256];
	struct map_store_spec spec = {
		.map = map_spec, .user = "wfs", .password_file = password_file};
	struct map_store *store = NULL;
	struct map *map = sample();

	snprintf(password_file, sizeof(password_file), "%s/password", directory);
	run("echo s3cret >'%s'", password_file);
	cr_assert_eq(map_store_open(&spec, &store, reason, sizeof(reason)), 0);
	map->lease_ms = 8000; /* etcd takes its time to hash a password */
	saved(store, map);
	etcdctl("user add root:r00t");
	etcdctl("user add wfs:s3cret");
	etcdctl("role add wfs");
	etcdctl("role grant-permission wfs --prefix=true readwrite lab/one/");
	etcdctl("user grant-role root root");
	etcdctl("user grant-role wfs wfs");
	etcdctl("auth enable");
	cr_assert_eq(load_epoch(store, 0), 1, "%s", store->reason);
	map->epoch = 2;
	saved(store, map);
	renewed(store, 0, 1, 8000);
	cr_assert_not_null(lease_of(store, 0));
	cr_assert_eq(store->ops->wait(store, 2, 50), 0, "%s", store->reason);

	/* A restart forgets the tokens. */
	member_kill(0);
	member_start(0);
	for (unsigned i = 0; i < 100 && load_epoch(store, 0) != 2; i++)
		pause_ms(50);
	cr_assert_eq(load_epoch(store, 0), 2, "%s", store->reason);
	renewed(store, 0, 1, 8000);
	cr_assert_eq(store->ops->release(store, 0, 1), 0, "%s", store->reason);
	store->ops->close(store);

	spec.user = spec.password_file = NULL;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, "password_file"), "%s", reason);
	spec.user = "wfs";
	spec.password_file = password_file;
	run("echo wrong >'%s'", password_file);
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, "refuses user wfs"), "%s", reason);
	cr_assert_null(strstr(reason, "wrong"));
	run("rm '%s'", password_file);
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, password_file), "%s", reason);
	map_free(map);
}

static const char make_certificates[] =
	"cd '%s' && exec >/dev/null 2>&1 && "
	"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key "
	"-out ca.pem && for n in server client; do "
	"openssl req -newkey rsa:2048 -nodes -subj /CN=$n -keyout $n.key -out $n.csr && "
	"printf "
	"'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' "
	">ext && openssl x509 -req -days 2 -in $n.csr -CA ca.pem -CAkey ca.key "
	"-CAcreateserial -extfile ext -out $n.pem; done";

/* The members of wfsd have no TLS; this is an etcd as operators run it. */
static void tls_start(void)
{
	run("cd '%s' && U=%s && { etcd --data-dir d --listen-client-urls $U "
	    "--advertise-client-urls $U --listen-peer-urls %s "
	    "--initial-advertise-peer-urls %s --initial-cluster default=%s "
	    "--cert-file server.pem --key-file server.key --trusted-ca-file ca.pem "
	    "--client-cert-auth >log0 2>&1 & echo $! >pid; }",
		directory, map_spec + 5, members[0].peer, members[0].peer,
		members[0].peer);
}

Test(other, tls)
{
	char ca[128], cert[128], key[128], url[128], reason[256];
	struct map_store_spec spec = {.map = url, .ca = ca, .cert = cert, .key = key};
	uint64_t until_ms = now_ms() + 30000;
	int rc;

	members_name(1);
	run(make_certificates, directory);
	snprintf(map_spec, sizeof(map_spec), "etcd:https://127.0.0.1:%u", port_free());
	snprintf(url, sizeof(url), "%s/lab", map_spec);
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	snprintf(cert, sizeof(cert), "%s/client.pem", directory);
	snprintf(key, sizeof(key), "%s/client.key", directory);
	tls_start();
	while ((rc = spec_try(&spec, reason, sizeof(reason))) == -EIO &&
		now_ms() < until_ms)
		pause_ms(100);
	cr_assert_eq(rc, -ENOENT, "%s", reason);
	spec.ca = NULL;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, "certificate"), "%s", reason);
	spec.ca = ca;
	spec.cert = spec.key = NULL;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	spec.cert = cert;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EINVAL);
	run("kill -9 $(cat '%s/pid')", directory);
	teardown();
}

Test(other, addresses)
{
	static const char *const bad[] = {"etcd:", "etcd:/x", "etcd:127.0.0.1:2379",
		"etcd:ftp://a:1", "etcd:http://", "etcd:http://a:1,",
		"etcd:http://a:1, http://b", "etcd:http://u:p@a:1",
		"etcd:http://a:1/a b"};
	char reason[256];
	struct map_store *store = NULL;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct map_store_spec spec = {.map = bad[i]};

		cr_assert_eq(map_store_open(&spec, &store, reason, sizeof(reason)),
			-EINVAL, "%s", bad[i]);
		cr_assert_not_null(strstr(reason, "etcd:http"), "%s", reason);
	}
	cr_assert_eq(
		map_store_open(&(struct map_store_spec){.map = "etcd:https://[::1]:2,"
							       "http://b.c:3/p/q/"},
			&store, reason, sizeof(reason)),
		0, "%s", reason);
	store->ops->close(store);
	cr_assert_eq(map_store_open(&(struct map_store_spec){.map = "/tmp/x"}, &store,
			     reason, sizeof(reason)),
		0);
	store->ops->close(store);
	cr_assert_eq(map_store_open(&(struct map_store_spec){.map = ""}, &store, reason,
			     sizeof(reason)),
		-EINVAL);
	cr_assert_eq(mem_live_count(), 0);
}

/* A member outlives who started it, and is found again. */
Test(one, adopted)
{
	struct world_member *m = &members[0];
	struct etcd_member_options opt;
	struct etcd_member again;
	char reason[256];
	bool adopted;

	member_options(0, &opt);
	cr_assert_eq(
		etcd_member_start(&opt, &again, &adopted, reason, sizeof(reason)), 0);
	cr_assert(adopted);
	cr_assert_eq(again.pid, m->member.pid);
	close(again.pid_fd);
	member_kill(0);
	cr_assert(!etcd_member_find(m->pidfile, &again), "it is dead");
	run("echo %d 12345 >'%s'", getpid(), m->pidfile);
	cr_assert(!etcd_member_find(m->pidfile, &again), "that is not etcd");
	member_start(0);
	members_await();
}
