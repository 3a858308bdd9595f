/* Where a client is: addresses, networks, and what a trusted proxy says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>

#include "base/compiler.h"
#include "http/peer.h"

static struct peer peer_at(const char *address)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
		return peer_of_socket((struct sockaddr *)&v4);
	}
	assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
	return peer_of_socket((struct sockaddr *)&v6);
}

static void expect_name(const char *address, const char *name)
{
	char got[PEER_NAME_BYTES];
	struct peer p = peer_at(address);
	peer_name(&p, got);
	assert_string_equal(got, name);
}

static void names_are_addresses_and_networks(void **state)
{
	(void)state;
	expect_name("192.0.2.7", "192.0.2.7");
	expect_name("::ffff:192.0.2.7", "192.0.2.7");
	expect_name("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64");
	expect_name("2001:db8:1:2::", "2001:db8:1:2::/64");
	expect_name("2001:db8:1:3::", "2001:db8:1:3::/64");
	expect_name("::1", "::/64");
}

static void networks_have_bits(void **state)
{
	(void)state;
	static const struct {
		const char *net, *in, *out;
	} cases[] = {
	    {"192.0.2.7", "192.0.2.7", "192.0.2.6"},
	    {"192.0.2.7/32", "::ffff:192.0.2.7", "192.0.2.8"},
	    {"10.0.0.0/8", "10.255.1.2", "11.0.0.0"},
	    {"10.128.0.0/9", "10.128.0.0", "10.127.255.255"},
	    {"192.0.2.4/31", "192.0.2.5", "192.0.2.6"},
	    {"0.0.0.0/0", "203.0.113.9", "2001:db8::1"},
	    {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
	    {"::/0", "192.0.2.1", NULL},
	    {"::1", "::1", "::2"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct peer_nets nets = {.count = 1};
		assert_int_equal(peer_net_parse(cases[i].net, &nets.nets[0]), 0);
		struct peer in = peer_at(cases[i].in);
		assert_true(peer_in(&nets, &in));
		if (cases[i].out != NULL) {
			struct peer out = peer_at(cases[i].out);
			assert_false(peer_in(&nets, &out));
		}
	}
	static const char *const bad[] = {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
	    "10.0.0/8", "2001:db8::/129", "localhost", "10.0.0.0/8/8", "10.0.0.0 /8", "[::1]",
	    "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc/8"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct peer_net n;
		assert_int_equal(peer_net_parse(bad[i], &n), -EINVAL);
	}
}

static void only_a_trusted_proxy_is_believed(void **state)
{
	(void)state;
	static const struct {
		const char *direct, *header, *client;
	} cases[] = {
	    {"10.0.0.1", NULL, "10.0.0.1"},
	    {"10.0.0.1", "", "10.0.0.1"},
	    {"192.0.2.1", "198.51.100.1", "192.0.2.1"},
	    {"10.0.0.1", "198.51.100.1", "198.51.100.1"},
	    {"10.0.0.1", " 198.51.100.1\t", "198.51.100.1"},
	    {"10.0.0.1", "203.0.113.1, 198.51.100.1", "198.51.100.1"},
	    {"10.0.0.1", "203.0.113.1,198.51.100.1, 10.9.9.9", "198.51.100.1"},
	    {"10.0.0.1", "10.9.9.8, 10.9.9.9", "10.9.9.8"},
	    {"10.0.0.1", "198.51.100.1:4711", "198.51.100.1"},
	    {"10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"},
	    {"10.0.0.1", "2001:db8::1", "2001:db8::1"},
	    {"10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"},
	    {"10.0.0.1", "198.51.100.1, 10.9.9.9, _hidden", "10.0.0.1"},
	    {"10.0.0.1", "198.51.100.1,", "10.0.0.1"},
	    {"10.0.0.1", "[", "10.0.0.1"},
	};
	struct peer_nets nets = {.count = 1};
	assert_int_equal(peer_net_parse("10.0.0.0/8", &nets.nets[0]), 0);
	for (size_t i = 0; i < array_len(cases); i++) {
		struct peer want = peer_at(cases[i].client);
		struct peer got = peer_forwarded(&nets, peer_at(cases[i].direct), cases[i].header);
		assert_memory_equal(&got, &want, sizeof(want));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_are_addresses_and_networks),
	    cmocka_unit_test(networks_have_bits),
	    cmocka_unit_test(only_a_trusted_proxy_is_believed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
