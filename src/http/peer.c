#include "http/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define MAPPED_BITS 96
#define NETWORK_BYTES 8 /* of an IPv6 address, that one holder has */

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static struct peer from_ipv4(const void *bytes)
{
	struct peer p;
	memcpy(p.bytes, mapped, sizeof(mapped));
	memcpy(p.bytes + sizeof(mapped), bytes, 4);
	return p;
}

static bool is_ipv4(const struct peer *p)
{
	return memcmp(p->bytes, mapped, sizeof(mapped)) == 0;
}

/* Reads an address. 4 or 6, or 0 when TEXT is none. */
static int read_address(const char *text, struct peer *out)
{
	struct peer p;
	if (inet_pton(AF_INET, text, p.bytes) == 1) {
		*out = from_ipv4(p.bytes);
		return 4;
	}
	if (inet_pton(AF_INET6, text, p.bytes) == 1) {
		*out = p;
		return 6;
	}
	return 0;
}

int peer_net_parse(const char *text, struct peer_net *out)
{
	char address[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "/");
	if (len >= sizeof(address)) {
		return -EINVAL;
	}
	memcpy(address, text, len);
	address[len] = '\0';
	int family = read_address(address, &out->address);
	if (family == 0) {
		return -EINVAL;
	}
	unsigned before = family == 4 ? MAPPED_BITS : 0;
	uint64_t bits = 128 - before;
	if (text[len] == '/' && text_to_u64(text + len + 1, bits, &bits) < 0) {
		return -EINVAL;
	}
	out->bits = before + (unsigned)bits;
	return 0;
}

static bool net_has(const struct peer_net *n, const struct peer *p)
{
	size_t whole = n->bits / 8;
	unsigned rest = n->bits % 8;
	if (memcmp(n->address.bytes, p->bytes, whole) != 0) {
		return false;
	}
	return rest == 0 || ((n->address.bytes[whole] ^ p->bytes[whole]) >> (8 - rest)) == 0;
}

bool peer_in(const struct peer_nets *nets, const struct peer *p)
{
	for (size_t i = 0; i < nets->count; i++) {
		if (net_has(&nets->nets[i], p)) {
			return true;
		}
	}
	return false;
}

struct peer peer_of_socket(const struct sockaddr *address)
{
	struct peer p = {0};
	if (address->sa_family == AF_INET) {
		p = from_ipv4(&((const struct sockaddr_in *)address)->sin_addr);
	} else if (address->sa_family == AF_INET6) {
		memcpy(p.bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
	}
	return p;
}

/* One element of X-Forwarded-For: an address, in brackets and with a port as some write it. */
static bool read_element(const char *text, size_t len, struct peer *out)
{
	char address[INET6_ADDRSTRLEN + 8];
	while (len > 0 && strchr(" \t", text[0]) != NULL) {
		text++;
		len--;
	}
	while (len > 0 && strchr(" \t", text[len - 1]) != NULL) {
		len--;
	}
	if (len == 0 || len >= sizeof(address)) {
		return false;
	}
	memcpy(address, text, len);
	address[len] = '\0';
	char *start = address;
	char *colon = strchr(address, ':');
	if (address[0] == '[') {
		start++;
		address[strcspn(address, "]")] = '\0';
	} else if (colon != NULL && strchr(colon + 1, ':') == NULL) {
		*colon = '\0'; /* IPv4 and a port */
	}
	return read_address(start, out) != 0;
}

struct peer peer_forwarded(const struct peer_nets *nets, struct peer direct, const char *forwarded)
{
	struct peer found = direct;
	size_t end = forwarded != NULL ? strlen(forwarded) : 0;
	while (end > 0 && peer_in(nets, &found)) {
		size_t start = end;
		while (start > 0 && forwarded[start - 1] != ',') {
			start--;
		}
		if (!read_element(forwarded + start, end - start, &found)) {
			break;
		}
		end = start > 0 ? start - 1 : 0;
	}
	return found;
}

void peer_name(const struct peer *p, char out[static PEER_NAME_BYTES])
{
	char address[INET6_ADDRSTRLEN] = "";
	if (is_ipv4(p)) {
		(void)inet_ntop(AF_INET, p->bytes + sizeof(mapped), address, sizeof(address));
		(void)snprintf(out, PEER_NAME_BYTES, "%s", address);
		return;
	}
	struct peer network = *p;
	memset(network.bytes + NETWORK_BYTES, 0, sizeof(network.bytes) - NETWORK_BYTES);
	(void)inet_ntop(AF_INET6, network.bytes, address, sizeof(address));
	(void)snprintf(out, PEER_NAME_BYTES, "%s/64", address);
}
