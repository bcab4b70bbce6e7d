// This file is a library that can be opened as libibverbs.so.1 and as librdmacm.so.1: it writes down how it is called, and does what fake_do tells
// it. It is compiled against the real headers, so that who calls it has to agree with those.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#undef ibv_query_port
#undef ibv_reg_mr

enum { CARDS = 4, MANY = 64, DONE = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 20];
static size_t log_bytes;
static int quiet;

static void note(const char *f, ...) {
	if (quiet) return;
	pthread_mutex_lock(&lock);
	va_list a;
	va_start(a, f);
	int n = vsnprintf(log_text + log_bytes, sizeof log_text - log_bytes - 1, f, a);
	va_end(a);
	if (n > 0 && log_bytes + n + 1 < sizeof log_text) {
		log_bytes += n;
		log_text[log_bytes++] = '\n';
	}
	pthread_mutex_unlock(&lock);
}

// Failures that were ordered: each is used once, when a function is called for the (after+1)th time.
static struct { char name[48]; int err, after; } fails[16];
static int nfails;

static int fails_now(const char *name) {
	int err = 0;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < nfails && !err; i++) {
		if (strcmp(fails[i].name, name)) continue;
		if (fails[i].after-- > 0) continue;
		err = fails[i].err;
		fails[i].name[0] = 0;
	}
	pthread_mutex_unlock(&lock);
	if (err) note("%s fails", name);
	return err;
}

#define OR_FAIL(value) do { int e = fails_now(__func__); if (e) { errno = e; return value; } } while (0)
#define OR_ERRNO do { int e = fails_now(__func__); if (e) return e; } while (0)

// Cards.
static int cards = 1, first_card = 1, transport = IBV_TRANSPORT_IB;
static struct ibv_device devices[CARDS];
static struct ibv_context contexts[CARDS];
static int async_in[CARDS];
static int no_extensions;
static int port_state[2] = { IBV_PORT_DOWN, IBV_PORT_ACTIVE };

// What is made, each numbered from 1 in the order in which it was.
static struct ibv_qp *qps[MANY];
static struct ibv_cq *cqs[MANY];
static struct ibv_srq *srqs[MANY];
static int nqps, ncqs, nsrqs, nids, nchannels, alive;

struct id {
	struct rdma_cm_id id;
	int number, unacked;
};
static struct id *ids[MANY];

struct channel {
	struct rdma_event_channel channel;
	int in;
};
static struct channel *channels[MANY];

struct comp {
	struct ibv_comp_channel channel;
	int in;
};

struct cq {
	struct ibv_cq cq;
	int number, always;
	struct ibv_wc done[DONE];
	int first, last;
};

#define NUMBERED(type, table, count) \
	static int number_of_##type(struct ibv_##type *p) { \
		for (int i = 0; i < count; i++) if (table[i] == p) return i + 1; \
		return 0; \
	}
NUMBERED(qp, qps, nqps)
NUMBERED(cq, cqs, ncqs)
NUMBERED(srq, srqs, nsrqs)

static int number_of_id(struct rdma_cm_id *id) { return ((struct id *)id)->number; }
static int number_of_card(struct ibv_context *c) { return c ? (int)(c - contexts) + 1 : 0; }

// Work requests.
static long takes = -1; // how many more are taken; -1: all
static int refuses;
static char said[4096];

static const char *pieces(struct ibv_sge *s, int n, int inlined) {
	size_t at = 0;
	said[0] = 0;
	for (int i = 0; i < n; i++) {
		if (inlined) at += snprintf(said + at, sizeof said - at, " \"%.*s\"", (int)s[i].length, (char *)(uintptr_t)s[i].addr);
		else at += snprintf(said + at, sizeof said - at, " %#llx+%u/%u", (unsigned long long)s[i].addr, s[i].length, s[i].lkey);
	}
	return said;
}

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *w, struct ibv_send_wr **bad) {
	static const char *ops[] = { [IBV_WR_SEND] = "SEND", [IBV_WR_SEND_WITH_INV] = "SEND_WITH_INV", [IBV_WR_RDMA_WRITE] = "WRITE", [IBV_WR_RDMA_READ] = "READ" };
	note("post_send qp%d", number_of_qp(qp));
	for (; w; w = w->next) {
		if (takes == 0) {
			*bad = w;
			return refuses;
		}
		if (takes > 0) takes--;
		if (quiet) continue;
		char more[128] = "";
		if (w->opcode == IBV_WR_SEND_WITH_INV) sprintf(more, " invalidate=%u", w->invalidate_rkey);
		if (w->opcode == IBV_WR_RDMA_WRITE || w->opcode == IBV_WR_RDMA_READ)
			sprintf(more, " remote=%#llx/%u", (unsigned long long)w->wr.rdma.remote_addr, w->wr.rdma.rkey);
		note("  %llu %s%s%s%s%s%s", (unsigned long long)w->wr_id, ops[w->opcode], w->send_flags & IBV_SEND_SIGNALED ? " signaled" : "",
			w->send_flags & IBV_SEND_INLINE ? " inline" : "", w->send_flags & IBV_SEND_FENCE ? " fence" : "", more,
			pieces(w->sg_list, w->num_sge, w->send_flags & IBV_SEND_INLINE));
	}
	return 0;
}

static int receives(struct ibv_recv_wr *w, struct ibv_recv_wr **bad) {
	for (; w; w = w->next) {
		if (takes == 0) {
			*bad = w;
			return refuses;
		}
		if (takes > 0) takes--;
		if (!quiet) note("  %llu%s", (unsigned long long)w->wr_id, pieces(w->sg_list, w->num_sge, 0));
	}
	return 0;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *w, struct ibv_recv_wr **bad) {
	note("post_recv qp%d", number_of_qp(qp));
	return receives(w, bad);
}

static int post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *w, struct ibv_recv_wr **bad) {
	note("post_srq_recv srq%d", number_of_srq(srq));
	return receives(w, bad);
}

static int poll_cq(struct ibv_cq *c, int n, struct ibv_wc *w) {
	struct cq *q = (struct cq *)c;
	note("poll_cq cq%d %d", q->number, n);
	int err = fails_now("poll_cq");
	if (err) return -err;
	if (q->always) {
		for (int i = 0; i < n; i++) w[i] = q->done[0];
		return n;
	}
	int i = 0;
	for (; i < n && q->first < q->last; i++) w[i] = q->done[q->first++];
	return i;
}

static int req_notify_cq(struct ibv_cq *c, int solicited) {
	note("req_notify_cq cq%d solicited=%d", ((struct cq *)c)->number, solicited);
	return fails_now("req_notify_cq");
}

static void start(void) {
	static int done;
	if (done) return;
	done = 1;
	for (int i = 0; i < CARDS; i++) {
		int fds[2];
		if (pipe(fds)) abort();
		snprintf(devices[i].name, sizeof devices[i].name, "fake%d", i + 1);
		devices[i].transport_type = transport;
		contexts[i].device = &devices[i];
		contexts[i].async_fd = fds[0];
		async_in[i] = fds[1];
		contexts[i].num_comp_vectors = 2;
		contexts[i].ops.post_send = post_send;
		contexts[i].ops.post_recv = post_recv;
		contexts[i].ops.post_srq_recv = post_srq_recv;
		contexts[i].ops.poll_cq = poll_cq;
		contexts[i].ops.req_notify_cq = req_notify_cq;
	}
}

const char *ibv_get_device_name(struct ibv_device *d) { return d->name; }

int ibv_query_device(struct ibv_context *c, struct ibv_device_attr *a) {
	OR_ERRNO;
	memset(a, 0xAA, sizeof *a); // what is not asked for is not to be relied on
	a->node_guid = htobe64(0x0102030405060708ull + number_of_card(c));
	a->device_cap_flags = no_extensions ? ~IBV_DEVICE_MEM_MGT_EXTENSIONS : IBV_DEVICE_MEM_MGT_EXTENSIONS;
	a->max_qp_wr = 8192;
	a->max_sge = 30;
	a->max_cqe = 65536;
	a->max_srq = 16;
	a->max_srq_wr = 4096;
	a->max_qp_rd_atom = 16;
	a->max_qp_init_rd_atom = 8;
	a->phys_port_cnt = 2;
	return 0;
}

int ibv_query_port(struct ibv_context *c, uint8_t port, struct _compat_ibv_port_attr *out) {
	(void)c;
	OR_ERRNO;
	struct ibv_port_attr *a = (void *)out;
	memset(a, 0xAA, offsetof(struct ibv_port_attr, port_cap_flags2));
	a->state = port_state[port - 1];
	a->active_mtu = port == 1 ? IBV_MTU_1024 : IBV_MTU_4096;
	a->link_layer = IBV_LINK_LAYER_ETHERNET;
	return 0;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *c) {
	OR_FAIL(NULL);
	note("ibv_alloc_pd card%d", number_of_card(c));
	struct ibv_pd *pd = calloc(1, sizeof *pd);
	pd->context = c;
	alive++;
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd) {
	OR_ERRNO;
	note("ibv_dealloc_pd card%d", number_of_card(pd->context));
	free(pd);
	alive--;
	return 0;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access) {
	OR_FAIL(NULL);
	note("ibv_reg_mr %zu bytes access=%d", length, access);
	struct ibv_mr *mr = calloc(1, sizeof *mr);
	mr->context = pd->context;
	mr->pd = pd;
	mr->addr = addr;
	mr->length = length;
	mr->lkey = 11;
	mr->rkey = 12;
	alive++;
	return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr) {
	OR_ERRNO;
	note("ibv_dereg_mr %zu bytes", mr->length);
	free(mr);
	alive--;
	return 0;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *c) {
	OR_FAIL(NULL);
	struct comp *q = calloc(1, sizeof *q);
	int fds[2];
	if (pipe(fds)) abort();
	q->channel.context = c;
	q->channel.fd = fds[0];
	q->in = fds[1];
	alive++;
	return &q->channel;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *c) {
	OR_ERRNO;
	note("ibv_destroy_comp_channel");
	close(c->fd);
	close(((struct comp *)c)->in);
	free(c);
	alive--;
	return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *c, int cqe, void *context, struct ibv_comp_channel *channel, int vector) {
	OR_FAIL(NULL);
	struct cq *q = calloc(1, sizeof *q);
	q->cq.context = c;
	q->cq.channel = channel;
	q->cq.cq_context = context;
	q->cq.cqe = cqe;
	alive++;
	if (channel) {
		cqs[ncqs++] = &q->cq;
		q->number = ncqs;
		note("ibv_create_cq cq%d depth=%d vector=%d", ncqs, cqe, vector);
	}
	return &q->cq;
}

int ibv_destroy_cq(struct ibv_cq *c) {
	OR_ERRNO;
	if (c->channel) note("ibv_destroy_cq cq%d unacknowledged=%d", ((struct cq *)c)->number, -(int)c->comp_events_completed);
	free(c);
	alive--;
	return 0;
}

// comp_events_completed counts down with each event that is read, and up with each that is acknowledged.
int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context) {
	OR_FAIL(-1);
	if (read(channel->fd, cq, sizeof *cq) != sizeof *cq) return -1;
	(*cq)->comp_events_completed--;
	*context = (*cq)->cq_context;
	note("ibv_get_cq_event cq%d", number_of_cq(*cq));
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int n) {
	cq->comp_events_completed += n;
	note("ibv_ack_cq_events cq%d %u", number_of_cq(cq), n);
}

struct ibv_srq *ibv_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *a) {
	OR_FAIL(NULL);
	struct ibv_srq *s = calloc(1, sizeof *s);
	s->context = pd->context;
	s->pd = pd;
	srqs[nsrqs++] = s;
	alive++;
	note("ibv_create_srq srq%d depth=%u sges=%u limit=%u", nsrqs, a->attr.max_wr, a->attr.max_sge, a->attr.srq_limit);
	return s;
}

int ibv_destroy_srq(struct ibv_srq *s) {
	OR_ERRNO;
	note("ibv_destroy_srq srq%d", number_of_srq(s));
	free(s);
	alive--;
	return 0;
}

enum { INLINE_MAX = 256 };

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *a) {
	OR_FAIL(NULL);
	if (a->cap.max_inline_data > INLINE_MAX) {
		errno = EINVAL;
		return NULL;
	}
	struct ibv_qp *qp = calloc(1, sizeof *qp);
	qp->context = pd->context;
	qp->pd = pd;
	qp->qp_context = a->qp_context;
	qp->send_cq = a->send_cq;
	qp->recv_cq = a->recv_cq;
	qp->srq = a->srq;
	qp->qp_type = a->qp_type;
	alive++;
	return qp;
}

int ibv_destroy_qp(struct ibv_qp *qp) {
	OR_ERRNO;
	free(qp);
	alive--;
	return 0;
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *a, int mask) {
	OR_ERRNO;
	if (mask & IBV_QP_STATE) note("ibv_modify_qp qp%d state=%d mask=%d", number_of_qp(qp), a->qp_state, mask);
	else note("ibv_modify_qp qp%d rnr=%d mask=%d", number_of_qp(qp), a->min_rnr_timer, mask);
	return 0;
}

int ibv_get_async_event(struct ibv_context *c, struct ibv_async_event *e) {
	OR_FAIL(-1);
	return read(c->async_fd, e, sizeof *e) == sizeof *e ? 0 : -1;
}

void ibv_ack_async_event(struct ibv_async_event *e) { note("ibv_ack_async_event %d", e->event_type); }

struct ibv_context **rdma_get_devices(int *n) {
	start();
	OR_FAIL(NULL);
	if (!cards) {
		errno = ENODEV;
		return NULL;
	}
	struct ibv_context **list = calloc(CARDS + 1, sizeof *list);
	*n = 0;
	for (int i = first_card - 1; i < cards; i++) list[(*n)++] = &contexts[i];
	alive++;
	return list;
}

void rdma_free_devices(struct ibv_context **list) {
	free(list);
	alive--;
}

struct rdma_event_channel *rdma_create_event_channel(void) {
	OR_FAIL(NULL);
	struct channel *c = calloc(1, sizeof *c);
	int fds[2];
	if (pipe(fds)) abort();
	c->channel.fd = fds[0];
	c->in = fds[1];
	channels[nchannels++] = c;
	alive++;
	return &c->channel;
}

void rdma_destroy_event_channel(struct rdma_event_channel *c) {
	note("rdma_destroy_event_channel");
	close(c->fd);
	close(((struct channel *)c)->in);
	alive--;
}

static struct id *new_id(struct rdma_event_channel *c, void *context) {
	struct id *id = calloc(1, sizeof *id);
	id->id.channel = c;
	id->id.context = context;
	ids[nids++] = id;
	id->number = nids;
	alive++;
	return id;
}

int rdma_create_id(struct rdma_event_channel *c, struct rdma_cm_id **out, void *context, enum rdma_port_space ps) {
	OR_FAIL(-1);
	struct id *id = new_id(c, context);
	note("rdma_create_id id%d ps=%#x", id->number, ps);
	*out = &id->id;
	return 0;
}

int rdma_destroy_id(struct rdma_cm_id *i) {
	OR_FAIL(-1);
	struct id *id = (struct id *)i;
	note("rdma_destroy_id id%d unacknowledged=%d", id->number, id->unacked);
	ids[id->number - 1] = NULL;
	memset(id, 0xDD, sizeof *id); // who still uses it shall notice
	free(id);
	alive--;
	return 0;
}

int rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t bytes) {
	OR_FAIL(-1);
	note("rdma_set_option id%d %d/%d=%d (%zu)", number_of_id(id), level, name, bytes == 1 ? *(uint8_t *)value : *(int *)value, bytes);
	return 0;
}

static const char *address(const struct sockaddr *s, char *b) {
	char ip[64];
	if (!s) return "any";
	if (s->sa_family == AF_INET) {
		const struct sockaddr_in *in = (void *)s;
		sprintf(b, "%s@%d", inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip), ntohs(in->sin_port));
	} else {
		const struct sockaddr_in6 *in = (void *)s;
		sprintf(b, "%s%%%u@%d", inet_ntop(AF_INET6, &in->sin6_addr, ip, sizeof ip), in->sin6_scope_id, ntohs(in->sin6_port));
	}
	return b;
}

int rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *s) {
	OR_FAIL(-1);
	char b[128];
	note("rdma_bind_addr id%d %s", number_of_id(id), address(s, b));
	memcpy(&id->route.addr.src_storage, s, s->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	if (!id->route.addr.src_sin.sin_port) id->route.addr.src_sin.sin_port = htons(40000);
	return 0;
}

int rdma_listen(struct rdma_cm_id *id, int backlog) {
	OR_FAIL(-1);
	note("rdma_listen id%d backlog=%d", number_of_id(id), backlog);
	return 0;
}

__be16 rdma_get_src_port(struct rdma_cm_id *id) { return id->route.addr.src_sin.sin_port; }

int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int ms) {
	OR_FAIL(-1);
	char a[128], b[128];
	note("rdma_resolve_addr id%d from %s to %s in %d ms", number_of_id(id), address(from, a), address(to, b), ms);
	return 0;
}

int rdma_resolve_route(struct rdma_cm_id *id, int ms) {
	OR_FAIL(-1);
	note("rdma_resolve_route id%d in %d ms unacknowledged=%d", number_of_id(id), ms, ((struct id *)id)->unacked);
	return 0;
}

static uint32_t power(uint32_t n) {
	uint32_t p = 1;
	while (p < n) p *= 2;
	return n ? p : 0;
}

int rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *a) {
	OR_FAIL(-1);
	if (pd->context != id->verbs) {
		errno = EINVAL;
		return -1;
	}
	id->qp = ibv_create_qp(pd, a);
	if (!id->qp) return -1;
	qps[nqps++] = id->qp;
	id->qp->qp_num = 100 + nqps;
	note("rdma_create_qp qp%d id%d type=%d cq%d cq%d srq%d send=%u recv=%u sges=%u,%u inline=%u sig_all=%d", nqps, number_of_id(id), a->qp_type,
		number_of_cq(a->send_cq), number_of_cq(a->recv_cq), number_of_srq(a->srq), a->cap.max_send_wr, a->cap.max_recv_wr, a->cap.max_send_sge,
		a->cap.max_recv_sge, a->cap.max_inline_data, a->sq_sig_all);
	a->cap.max_send_wr = power(a->cap.max_send_wr);
	a->cap.max_recv_wr = power(a->cap.max_recv_wr);
	a->cap.max_inline_data = power(a->cap.max_inline_data);
	return 0;
}

void rdma_destroy_qp(struct rdma_cm_id *id) {
	note("rdma_destroy_qp qp%d", number_of_qp(id->qp));
	ibv_destroy_qp(id->qp);
	id->qp = NULL;
}

static void told(const char *what, struct rdma_cm_id *id, struct rdma_conn_param *p) {
	note("%s id%d in=%d out=%d flow=%d retries=%d rnr=%d \"%.*s\"", what, number_of_id(id), p->responder_resources, p->initiator_depth, p->flow_control,
		p->retry_count, p->rnr_retry_count, p->private_data_len, p->private_data ? (char *)p->private_data : "");
}

int rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *p) {
	OR_FAIL(-1);
	told("rdma_connect", id, p);
	return 0;
}

int rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *p) {
	OR_FAIL(-1);
	told("rdma_accept", id, p);
	return 0;
}

int rdma_reject(struct rdma_cm_id *id, const void *data, uint8_t bytes) {
	OR_FAIL(-1);
	note("rdma_reject id%d \"%.*s\"", number_of_id(id), bytes, data ? (char *)data : "");
	return 0;
}

int rdma_disconnect(struct rdma_cm_id *id) {
	OR_FAIL(-1);
	note("rdma_disconnect id%d", number_of_id(id));
	return 0;
}

int rdma_notify(struct rdma_cm_id *id, enum ibv_event_type e) {
	OR_FAIL(-1);
	note("rdma_notify id%d %d", number_of_id(id), e);
	return 0;
}

struct event {
	struct rdma_cm_event event;
	char data[256];
	struct id *of;
};

int rdma_get_cm_event(struct rdma_event_channel *c, struct rdma_cm_event **out) {
	OR_FAIL(-1);
	struct event *e;
	if (read(c->fd, &e, sizeof e) != sizeof e) return -1;
	e->of->unacked++;
	*out = &e->event;
	return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *out) {
	struct event *e = (struct event *)out;
	e->of->unacked--;
	note("rdma_ack_cm_event %d", out->event);
	memset(e, 0xEE, sizeof *e);
	free(e);
	return 0;
}

// What the test orders: a word, and arguments of the form name=value.
static const char *text(const char *cmd, const char *name, char *b) {
	char key[32];
	snprintf(key, sizeof key, " %s=", name);
	const char *at = strstr(cmd, key);
	b[0] = 0;
	if (at) sscanf(at + strlen(key), "%255s", b);
	return b;
}

static long number(const char *cmd, const char *name) {
	char b[256];
	return strtol(text(cmd, name, b), NULL, 0);
}

static void set_address(struct sockaddr_storage *s, const char *cmd, const char *name) {
	char b[256];
	text(cmd, name, b);
	char *at = strchr(b, '@');
	if (!at) return;
	*at = 0;
	struct sockaddr_in *in = (void *)s;
	struct sockaddr_in6 *in6 = (void *)s;
	if (inet_pton(AF_INET, b, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(atoi(at + 1));
	} else if (inet_pton(AF_INET6, b, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(atoi(at + 1));
		in6->sin6_scope_id = number(cmd, "zone");
	}
}

static void send_event(const char *cmd) {
	struct event *e = calloc(1, sizeof *e);
	struct id *of = ids[number(cmd, "id") - 1], *about = of;
	e->event.event = number(cmd, "kind");
	e->event.status = number(cmd, "status");
	if (e->event.event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		about = new_id(of->id.channel, of->id.context);
		e->event.listen_id = &of->id;
	}
	if (number(cmd, "card")) about->id.verbs = &contexts[number(cmd, "card") - 1];
	set_address(&about->id.route.addr.src_storage, cmd, "local");
	set_address(&about->id.route.addr.dst_storage, cmd, "peer");
	e->event.id = &about->id;
	e->of = of;
	struct rdma_conn_param *p = &e->event.param.conn;
	text(cmd, "private", e->data);
	p->private_data_len = e->data[0] ? number(cmd, "bytes") : 0;
	if (p->private_data_len) p->private_data = e->data;
	p->responder_resources = number(cmd, "in");
	p->initiator_depth = number(cmd, "out");
	p->retry_count = number(cmd, "retries");
	p->rnr_retry_count = number(cmd, "rnr");
	struct channel *c = (struct channel *)of->id.channel;
	if (write(c->in, &e, sizeof e) != sizeof e) abort();
}

static void send_async(const char *cmd) {
	struct ibv_async_event e;
	memset(&e, 0, sizeof e);
	e.event_type = number(cmd, "kind");
	if (number(cmd, "qp")) e.element.qp = qps[number(cmd, "qp") - 1];
	else if (number(cmd, "cq")) e.element.cq = cqs[number(cmd, "cq") - 1];
	else if (number(cmd, "srq")) e.element.srq = srqs[number(cmd, "srq") - 1];
	else e.element.port_num = number(cmd, "port");
	if (write(async_in[number(cmd, "card") - 1], &e, sizeof e) != sizeof e) abort();
}

static void complete(const char *cmd) {
	struct cq *q = (struct cq *)cqs[number(cmd, "cq") - 1];
	struct ibv_wc *w = &q->done[q->last++];
	memset(w, 0xAA, sizeof *w);
	w->wr_id = number(cmd, "id");
	w->status = number(cmd, "status");
	w->opcode = number(cmd, "opcode");
	w->byte_len = number(cmd, "bytes");
	w->qp_num = number(cmd, "qpn");
	w->vendor_err = number(cmd, "vendor");
	w->wc_flags = number(cmd, "flags");
	w->invalidated_rkey = number(cmd, "invalid");
}

// fake_do carries out an order. What it has to say, out of which "log" takes all that was written down, is in out; -1: the order is unknown.
int fake_do(const char *cmd, char *out, int out_bytes) {
	char word[32] = "";
	sscanf(cmd, "%31s", word);
	start();
	out[0] = 0;
	if (!strcmp(word, "log")) {
		pthread_mutex_lock(&lock);
		snprintf(out, out_bytes, "%.*s", (int)log_bytes, log_text);
		log_bytes = 0;
		pthread_mutex_unlock(&lock);
	} else if (!strcmp(word, "alive")) {
		snprintf(out, out_bytes, "%d", alive);
	} else if (!strcmp(word, "quiet")) {
		quiet = number(cmd, "on");
	} else if (!strcmp(word, "fail")) {
		pthread_mutex_lock(&lock);
		text(cmd, "of", fails[nfails].name);
		fails[nfails].err = number(cmd, "errno");
		fails[nfails].after = number(cmd, "after");
		nfails++;
		pthread_mutex_unlock(&lock);
	} else if (!strcmp(word, "take")) {
		takes = number(cmd, "n");
		refuses = number(cmd, "errno");
	} else if (!strcmp(word, "cards")) {
		cards = number(cmd, "n");
		first_card = number(cmd, "first") ? number(cmd, "first") : 1;
	} else if (!strcmp(word, "transport")) {
		devices[number(cmd, "card") - 1].transport_type = number(cmd, "is");
	} else if (!strcmp(word, "extensions")) {
		no_extensions = !number(cmd, "has");
	} else if (!strcmp(word, "port")) {
		port_state[number(cmd, "n") - 1] = number(cmd, "state");
	} else if (!strcmp(word, "event")) {
		send_event(cmd);
	} else if (!strcmp(word, "async")) {
		send_async(cmd);
	} else if (!strcmp(word, "unplug")) { // reading its events fails from now on, and whoever waits for one notices
		close(async_in[number(cmd, "card") - 1]);
		nfails = 1;
		strcpy(fails[0].name, "ibv_get_async_event");
		fails[0].err = EIO;
		fails[0].after = 0;
	} else if (!strcmp(word, "complete")) {
		complete(cmd);
	} else if (!strcmp(word, "always")) {
		((struct cq *)cqs[number(cmd, "cq") - 1])->always = 1;
	} else if (!strcmp(word, "tell")) {
		struct ibv_cq *q = cqs[number(cmd, "cq") - 1];
		if (write(((struct comp *)q->channel)->in, &q, sizeof q) != sizeof q) abort();
	} else {
		return -1;
	}
	return 0;
}
