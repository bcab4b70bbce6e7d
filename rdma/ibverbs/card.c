//go:build cgo

// This file is cards, and what is made on them. Control goroutines call it.
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

// Functions of libibverbs answer with the errno, those of librdmacm with -1 and errno.
static int result(int rc) {
	if (!rc) return 0;
	if (rc == -1) return -(errno ? errno : EIO);
	return rc < 0 ? rc : -rc;
}

static int no_pointer(void) { return -(errno ? errno : EIO); }

static int nonblocking(int fd) {
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
	return 0;
}

int s_devices(struct s_lib *l, uintptr_t *list) {
	int n = 0;
	errno = 0;
	struct v_context **devices = l->get_devices(&n);
	if (!devices) return errno == 0 || errno == ENODEV ? 0 : -errno;
	*list = (uintptr_t)devices;
	return n;
}

uintptr_t s_device(uintptr_t list, int i) { return (uintptr_t)((struct v_context **)list)[i]; }

void s_free_devices(struct s_lib *l, uintptr_t list) { l->free_devices((struct v_context **)list); }

int s_transport(uintptr_t context) { return ((struct v_context *)context)->device->transport_type; }

int s_comp_vectors(uintptr_t context) { return ((struct v_context *)context)->comp_vectors; }

int s_async_fd(uintptr_t context) {
	int fd = ((struct v_context *)context)->async_fd;
	int rc = nonblocking(fd);
	return rc ? rc : fd;
}

int s_name(struct s_lib *l, uintptr_t context, char *name, int bytes) {
	const char *s = l->get_device_name(((struct v_context *)context)->device);
	int n = s ? strnlen(s, bytes) : 0;
	memcpy(name, s, n);
	return n;
}

// A port's MTU is a power of two, 256 for 1. Ports count from 1.
int s_card_info(struct s_lib *l, uintptr_t context, struct s_card_info *out) {
	struct v_context *c = (struct v_context *)context;
	struct v_device_attr a;
	memset(&a, 0, sizeof a);
	int rc = result(l->query_device(c, &a));
	if (rc) return rc;
	out->guid = be64toh(a.node_guid);
	out->qp_depth = a.max_qp_wr;
	out->sges = a.max_sge;
	out->cq_depth = a.max_cqe;
	out->srq_depth = a.max_srq > 0 ? a.max_srq_wr : 0;
	out->reads_in = a.max_qp_rd_atom;
	out->reads_out = a.max_qp_init_rd_atom;
	out->invalidates = (a.device_cap_flags & V_DEVICE_MEM_MGT_EXTENSIONS) != 0; // SEND with Invalidate is one of these
	out->mtu = 0;
	out->ethernet = 0;
	for (int i = 1; i <= a.phys_port_cnt; i++) {
		struct v_port_attr p;
		memset(&p, 0, sizeof p);
		rc = result(l->query_port(c, i, &p));
		if (rc) return rc;
		int active = p.state == V_PORT_ACTIVE && p.active_mtu >= 1 && p.active_mtu <= 5;
		if (i == 1 || active) out->ethernet = p.link_layer == V_LINK_LAYER_ETHERNET;
		if (active) {
			out->mtu = 128 << p.active_mtu;
			break;
		}
	}
	return 0;
}

// No question is answered with how much a send may carry inline: a queue pair is made for trial.
int s_inline_max(struct s_lib *l, uintptr_t context, uintptr_t pd, int sges) {
	static const uint32_t sizes[] = { 512, 256, 128, 64, 32, 16 };
	struct v_cq *cq = l->create_cq((struct v_context *)context, 2, NULL, NULL, 0);
	if (!cq) return no_pointer();
	int most = 0;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !most; i++) {
		struct v_qp_init_attr a;
		memset(&a, 0, sizeof a);
		a.send_cq = a.recv_cq = cq;
		a.qp_type = V_QPT_RC;
		a.cap.max_send_wr = a.cap.max_recv_wr = 1;
		a.cap.max_send_sge = a.cap.max_recv_sge = sges;
		a.cap.max_inline_data = sizes[i];
		struct v_qp *qp = l->create_qp((struct v_pd *)pd, &a);
		if (!qp) continue;
		most = a.cap.max_inline_data;
		l->destroy_qp(qp);
	}
	l->destroy_cq(cq);
	return most;
}

// An event is acknowledged before anybody hears of it: destroying what it is about waits for that.
int s_next_async(struct s_lib *l, uintptr_t context, struct s_async *out) {
	struct v_async_event e;
	memset(&e, 0, sizeof e);
	errno = 0;
	if (l->get_async_event((struct v_context *)context, &e)) return no_pointer();
	memset(out, 0, sizeof *out);
	out->event = e.event_type;
	switch (e.event_type) {
	case V_EVENT_CQ_ERR:
		out->cq = (uintptr_t)e.element.cq;
		break;
	case V_EVENT_QP_FATAL:
	case V_EVENT_QP_REQ_ERR:
	case V_EVENT_QP_ACCESS_ERR:
	case V_EVENT_COMM_EST:
	case V_EVENT_QP_LAST_WQE_REACHED:
		out->qp = (uintptr_t)e.element.qp;
		break;
	case V_EVENT_SRQ_ERR:
		out->srq = (uintptr_t)e.element.srq;
		break;
	case V_EVENT_PORT_ACTIVE:
	case V_EVENT_PORT_ERR:
		out->port = e.element.port_num;
		break;
	}
	l->ack_async_event(&e);
	return 0;
}

int s_alloc_pd(struct s_lib *l, uintptr_t context, uintptr_t *out) {
	errno = 0;
	struct v_pd *pd = l->alloc_pd((struct v_context *)context);
	*out = (uintptr_t)pd;
	return pd ? 0 : no_pointer();
}

int s_dealloc_pd(struct s_lib *l, uintptr_t pd) { return result(l->dealloc_pd((struct v_pd *)pd)); }

int s_reg_mr(struct s_lib *l, uintptr_t pd, void *b, size_t bytes, int access, struct s_mr *out) {
	errno = 0;
	struct v_mr *mr = l->reg_mr((struct v_pd *)pd, b, bytes, access);
	if (!mr) return no_pointer();
	out->handle = (uintptr_t)mr;
	out->lkey = mr->lkey;
	out->rkey = mr->rkey;
	return 0;
}

int s_dereg_mr(struct s_lib *l, uintptr_t mr) { return result(l->dereg_mr((struct v_mr *)mr)); }

int s_create_cq(struct s_lib *l, uintptr_t context, int depth, int vector, uintptr_t *out) {
	struct v_context *c = (struct v_context *)context;
	errno = 0;
	struct v_channel *channel = l->create_comp_channel(c);
	if (!channel) return no_pointer();
	int rc = nonblocking(channel->fd);
	struct v_cq *cq = NULL;
	if (!rc) {
		errno = 0;
		cq = l->create_cq(c, depth, NULL, channel, vector);
		if (!cq) rc = no_pointer();
	}
	if (rc) l->destroy_comp_channel(channel);
	*out = (uintptr_t)cq;
	return rc;
}

int s_cq_fd(uintptr_t cq) { return ((struct v_cq *)cq)->channel->fd; }

int s_destroy_cq(struct s_lib *l, uintptr_t cq) {
	struct v_channel *channel = ((struct v_cq *)cq)->channel;
	int rc = result(l->destroy_cq((struct v_cq *)cq));
	return rc ? rc : result(l->destroy_comp_channel(channel));
}

int s_create_srq(struct s_lib *l, uintptr_t pd, int depth, int sges, uintptr_t *out) {
	struct v_srq_init_attr a;
	memset(&a, 0, sizeof a);
	a.max_wr = depth;
	a.max_sge = sges;
	errno = 0;
	struct v_srq *srq = l->create_srq((struct v_pd *)pd, &a);
	*out = (uintptr_t)srq;
	return srq ? 0 : no_pointer();
}

int s_destroy_srq(struct s_lib *l, uintptr_t srq) { return result(l->destroy_srq((struct v_srq *)srq)); }

int s_create_qp(struct s_lib *l, uintptr_t id, uintptr_t pd, struct s_qp *qp) {
	struct v_cm_id *i = (struct v_cm_id *)id;
	struct v_qp_init_attr a;
	memset(&a, 0, sizeof a);
	a.send_cq = (struct v_cq *)qp->send_cq;
	a.recv_cq = (struct v_cq *)qp->recv_cq;
	a.srq = (struct v_srq *)qp->srq;
	a.qp_type = V_QPT_RC;
	a.cap.max_send_wr = qp->send_depth;
	a.cap.max_recv_wr = qp->srq ? 0 : qp->recv_depth;
	a.cap.max_send_sge = qp->sges;
	a.cap.max_recv_sge = qp->srq ? 0 : qp->sges;
	a.cap.max_inline_data = qp->inline_bytes;
	errno = 0;
	int rc = result(l->cm_create_qp(i, (struct v_pd *)pd, &a));
	if (rc) return rc;
	qp->handle = (uintptr_t)i->qp;
	qp->number = i->qp->number;
	qp->send_depth = a.cap.max_send_wr;
	qp->recv_depth = a.cap.max_recv_wr;
	qp->inline_bytes = a.cap.max_inline_data;
	return 0;
}

int s_fail_qp(struct s_lib *l, uintptr_t qp) {
	struct v_qp_attr a;
	memset(&a, 0, sizeof a);
	a.qp_state = V_QPS_ERR;
	return result(l->modify_qp((struct v_qp *)qp, &a, V_QP_STATE));
}

void s_destroy_qp(struct s_lib *l, uintptr_t id) { l->cm_destroy_qp((struct v_cm_id *)id); }
