//go:build cgo

// This file is the connection manager.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "shim.h"

enum {
	RESOLVE_MS = 3000, // for the address, and again for the route
	// How long a peer waits that met no receive: 0.64 ms. InfiniBand Architecture Specification 1.4, volume 1, table 45 "Encoding for RNR NAK
	// Timer Field". rdma_connect(3) has 0, which is 655 ms.
	RNR_TIMER = 12,
};

static int result(int rc) {
	if (!rc) return 0;
	if (rc == -1) return -(errno ? errno : EIO);
	return rc < 0 ? rc : -rc;
}

int s_create_channel(struct s_lib *l, uintptr_t *out, int *fd) {
	errno = 0;
	struct v_event_channel *c = l->create_event_channel();
	if (!c) return -(errno ? errno : EIO);
	int flags = fcntl(c->fd, F_GETFL);
	if (flags < 0 || fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		int err = errno;
		l->destroy_event_channel(c);
		return -err;
	}
	*out = (uintptr_t)c;
	*fd = c->fd;
	return 0;
}

void s_destroy_channel(struct s_lib *l, uintptr_t channel) { l->destroy_event_channel((struct v_event_channel *)channel); }

int s_create_id(struct s_lib *l, uintptr_t channel, uint64_t number, uintptr_t *out) {
	struct v_cm_id *id = NULL;
	errno = 0;
	int rc = result(l->create_id((struct v_event_channel *)channel, &id, (void *)(uintptr_t)number, V_PS_TCP));
	*out = (uintptr_t)id;
	return rc;
}

void s_number_id(uintptr_t id, uint64_t number) { ((struct v_cm_id *)id)->context = (void *)(uintptr_t)number; }

uintptr_t s_id_context(uintptr_t id) { return (uintptr_t)((struct v_cm_id *)id)->verbs; }

int s_has_qp(uintptr_t id) { return ((struct v_cm_id *)id)->qp != NULL; }

int s_destroy_id(struct s_lib *l, uintptr_t id) {
	errno = 0;
	return result(l->destroy_id((struct v_cm_id *)id));
}

static struct sockaddr *to_socket(const struct s_address *a, struct sockaddr_storage *s) {
	memset(s, 0, sizeof *s);
	if (a->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)s;
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, 4);
		return (struct sockaddr *)s;
	}
	if (a->family == 6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)s;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(a->port);
		in6->sin6_scope_id = a->zone;
		memcpy(&in6->sin6_addr, a->ip, 16);
		return (struct sockaddr *)s;
	}
	return NULL;
}

static void from_socket(const struct sockaddr *s, struct s_address *a) {
	memset(a, 0, sizeof *a);
	if (s->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)s;
		a->family = 4;
		a->port = ntohs(in->sin_port);
		memcpy(a->ip, &in->sin_addr, 4);
	} else if (s->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)s;
		a->family = 6;
		a->port = ntohs(in6->sin6_port);
		a->zone = in6->sin6_scope_id;
		memcpy(a->ip, &in6->sin6_addr, 16);
	}
}

// The port that came of it is the result. Listeners of IPv4 and of IPv6 may have the same port: neither takes what is meant for the other.
int s_listen(struct s_lib *l, uintptr_t id, struct s_address *at, int backlog) {
	struct v_cm_id *i = (struct v_cm_id *)id;
	struct sockaddr_storage s;
	int only = 1;
	errno = 0;
	int rc = result(l->set_option(i, V_OPTION_ID, V_OPTION_ID_AFONLY, &only, sizeof only));
	if (!rc) rc = result(l->bind_addr(i, to_socket(at, &s)));
	if (!rc) rc = result(l->listen(i, backlog));
	return rc ? rc : ntohs(l->get_src_port(i));
}

// An option of one byte; 0 leaves it as it is.
static int set_byte(struct s_lib *l, struct v_cm_id *id, int option, uint8_t value) {
	errno = 0;
	return value ? result(l->set_option(id, V_OPTION_ID, option, &value, sizeof value)) : 0;
}

// Options come before the search for the route, of which they are part.
int s_resolve(struct s_lib *l, uintptr_t id, struct s_address *from, struct s_address *to, uint8_t ack_timeout, uint8_t tos) {
	struct v_cm_id *i = (struct v_cm_id *)id;
	struct sockaddr_storage f, t;
	int rc = set_byte(l, i, V_OPTION_ID_ACK_TIMEOUT, ack_timeout);
	if (!rc) rc = set_byte(l, i, V_OPTION_ID_TOS, tos);
	if (rc) return rc;
	errno = 0;
	return result(l->resolve_addr(i, to_socket(from, &f), to_socket(to, &t), RESOLVE_MS));
}

static struct v_conn_param params(struct s_params p, void *data, int bytes) {
	struct v_conn_param c;
	memset(&c, 0, sizeof c);
	c.private_data = bytes ? data : NULL;
	c.private_data_len = bytes;
	c.responder_resources = p.reads_in;
	c.initiator_depth = p.reads_out;
	c.flow_control = 1;
	c.retry_count = p.retries;
	c.rnr_retry_count = p.rnr;
	return c;
}

int s_connect(struct s_lib *l, uintptr_t id, struct s_params p, void *data, int bytes) {
	struct v_conn_param c = params(p, data, bytes);
	errno = 0;
	return result(l->connect((struct v_cm_id *)id, &c));
}

int s_accept(struct s_lib *l, uintptr_t id, struct s_params p, void *data, int bytes) {
	struct v_conn_param c = params(p, data, bytes);
	int rc = set_byte(l, (struct v_cm_id *)id, V_OPTION_ID_ACK_TIMEOUT, p.ack_timeout);
	if (rc) return rc;
	errno = 0;
	return result(l->accept((struct v_cm_id *)id, &c));
}

int s_reject(struct s_lib *l, uintptr_t id, void *data, int bytes) {
	errno = 0;
	return result(l->reject((struct v_cm_id *)id, bytes ? data : NULL, bytes));
}

int s_disconnect(struct s_lib *l, uintptr_t id) {
	errno = 0;
	return result(l->disconnect((struct v_cm_id *)id));
}

// Something was received on a connection that is not known to be established: the last message of the handshake was lost.
int s_communication(struct s_lib *l, uintptr_t id) {
	errno = 0;
	return result(l->notify((struct v_cm_id *)id, V_EVENT_COMM_EST));
}

// A card that does not let the timer be changed leaves its peers waiting longer, and all else as it is.
static void shorten_rnr_timer(struct s_lib *l, struct v_qp *qp) {
	struct v_qp_attr a;
	memset(&a, 0, sizeof a);
	a.min_rnr_timer = RNR_TIMER;
	l->modify_qp(qp, &a, V_QP_MIN_RNR_TIMER);
}

// All that is needed of an event is copied while it keeps its ID alive; then it is acknowledged, and what it pointed to may be gone. When an address
// is resolved, the search for the route begins here, for the same reason; if it cannot, the event becomes a failure of that.
int s_next_event(struct s_lib *l, uintptr_t channel, struct s_event *out) {
	struct v_cm_event *e = NULL;
	errno = 0;
	int rc = result(l->get_cm_event((struct v_event_channel *)channel, &e));
	if (rc) return rc;
	memset(out, 0, offsetof(struct s_event, private_data));
	out->kind = e->event;
	out->status = e->status;
	out->id = (uintptr_t)e->id;
	out->context = (uintptr_t)e->id->verbs;
	if (e->event == V_CM_CONNECT_REQUEST) {
		out->listener = (uintptr_t)e->listen_id;
		out->listener_no = (uintptr_t)e->listen_id->context;
	} else {
		out->number = (uintptr_t)e->id->context;
	}
	from_socket(&e->id->local.sa, &out->local);
	from_socket(&e->id->peer.sa, &out->peer);
	out->params.reads_in = e->conn.responder_resources;
	out->params.reads_out = e->conn.initiator_depth;
	out->params.retries = e->conn.retry_count;
	out->params.rnr = e->conn.rnr_retry_count;
	if (e->conn.private_data) {
		out->private_bytes = e->conn.private_data_len;
		memcpy(out->private_data, e->conn.private_data, e->conn.private_data_len);
	}
	if (e->event == V_CM_ADDR_RESOLVED && e->status == 0) {
		errno = 0;
		rc = result(l->resolve_route(e->id, RESOLVE_MS));
		if (rc) {
			out->kind = V_CM_ROUTE_ERROR;
			out->status = rc;
		}
	}
	if (e->event == V_CM_ESTABLISHED && e->id->qp) shorten_rnr_timer(l, e->id->qp);
	l->ack_cm_event(e);
	return 0;
}
