/*
 * peer: where a connection comes from, as far as shares go.
 *
 * Who has one IPv6 address has 2^64 of them, so of IPv6 the first 64 bits count. Behind a proxy all
 * clients have the proxy's address; a proxy that the operator has named is believed what it says in
 * X-Forwarded-For, and nobody else is.
 */
#ifndef HTTP_PEER_H
#define HTTP_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define PEER_NAME_BYTES 64
#define PEER_PROXIES_MAX 64

/* IPv4 stands in ::ffff:0:0/96. */
struct peer {
	unsigned char bytes[16];
};

struct peer_net {
	struct peer address;
	unsigned bits;
};

struct peer_nets {
	struct peer_net nets[PEER_PROXIES_MAX];
	size_t count;
};

/* "192.0.2.7", "10.0.0.0/8", "2001:db8::/32". 0, or -EINVAL. */
int peer_net_parse(const char *text, struct peer_net *out);
bool peer_in(const struct peer_nets *nets, const struct peer *p);

/* An address that is no IP address is all zeros. */
struct peer peer_of_socket(const struct sockaddr *address);

/* The client behind trusted proxies: the last address in FORWARDED (the header's text, may be NULL)
 * that is not itself in NETS. What is no address ends the list, since it cannot be believed. */
struct peer peer_forwarded(const struct peer_nets *nets, struct peer direct, const char *forwarded);

/* "192.0.2.7", "2001:db8:0:1::/64". */
void peer_name(const struct peer *p, char out[static PEER_NAME_BYTES]);

#endif
