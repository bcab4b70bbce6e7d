//go:build cgo

// This file is what reactors call: one call for all that a turn has gathered.
#include <errno.h>

#include "shim.h"

enum {
	CHAIN = 64, // work requests that go to the card together: 8 KiB of stack
	OPCODES = 4,
};

static const int opcode_of[OPCODES] = { V_WR_SEND, V_WR_SEND_WITH_INV, V_WR_RDMA_WRITE, V_WR_RDMA_READ };

// The flags of package rdma are three bits: Signaled, Inline, Fence.
static const unsigned flags_of[8] = {
	0,
	V_SEND_SIGNALED,
	V_SEND_INLINE,
	V_SEND_INLINE | V_SEND_SIGNALED,
	V_SEND_FENCE,
	V_SEND_FENCE | V_SEND_SIGNALED,
	V_SEND_FENCE | V_SEND_INLINE,
	V_SEND_FENCE | V_SEND_INLINE | V_SEND_SIGNALED,
};

// Drivers answer with the errno; some older ones with -1, or with its negative.
static int errno_of(int rc) {
	if (rc == -1) return errno ? errno : EIO;
	return rc < 0 ? -rc : rc;
}

// Work requests of one queue pair that stand together go to it as one chain; their pieces stay where they are. So the count is exact, whatever
// fails: nothing behind it was given to any card.
s_count s_post(struct s_send *w, int n) {
	struct v_send_wr chain[CHAIN];
	int done = 0;
	while (done < n) {
		uint64_t qp = w[done].qp;
		int k = 0, bad = 0;
		while (done + k < n && k < CHAIN && w[done + k].qp == qp) {
			struct s_send *f = &w[done + k];
			if (!qp || f->opcode >= OPCODES || f->flags > 7 || f->sges > 2) {
				bad = 1;
				break;
			}
			struct v_send_wr *t = &chain[k++];
			t->wr_id = f->id;
			t->next = t + 1;
			t->sg_list = f->sge;
			t->num_sge = f->sges;
			t->opcode = opcode_of[f->opcode];
			t->send_flags = flags_of[f->flags];
			t->invalidate_rkey = f->invalidate;
			t->remote_addr = f->remote;
			t->rkey = f->remote_key;
		}
		if (k) {
			chain[k - 1].next = NULL;
			struct v_qp *q = (struct v_qp *)(uintptr_t)qp;
			struct v_send_wr *failed = NULL;
			int rc = q->context->post_send(q, chain, &failed);
			if (rc) {
				if (failed >= chain && failed < chain + k) done += failed - chain;
				return s_counted(done, errno_of(rc));
			}
			done += k;
		}
		if (bad) return s_counted(done, EINVAL);
	}
	return s_counted(done, 0);
}

typedef int (*receiver)(void *queue, struct v_recv_wr *, struct v_recv_wr **);

static inline s_count post_receives(void *queue, receiver post, struct s_recv *w, int n) {
	struct v_recv_wr chain[CHAIN];
	int done = 0;
	while (done < n) {
		int k = 0, bad = 0;
		while (done + k < n && k < CHAIN) {
			struct s_recv *f = &w[done + k];
			if (f->sges > 2) {
				bad = 1;
				break;
			}
			struct v_recv_wr *t = &chain[k++];
			t->wr_id = f->id;
			t->next = t + 1;
			t->sg_list = f->sge;
			t->num_sge = f->sges;
		}
		if (k) {
			chain[k - 1].next = NULL;
			struct v_recv_wr *failed = NULL;
			int rc = post(queue, chain, &failed);
			if (rc) {
				if (failed >= chain && failed < chain + k) done += failed - chain;
				return s_counted(done, errno_of(rc));
			}
			done += k;
		}
		if (bad) return s_counted(done, EINVAL);
	}
	return s_counted(done, 0);
}

s_count s_post_recv(uintptr_t qp, struct s_recv *w, int n) {
	struct v_qp *q = (struct v_qp *)qp;
	return post_receives(q, (receiver)q->context->post_recv, w, n);
}

s_count s_post_shared(uintptr_t srq, struct s_recv *w, int n) {
	struct v_srq *q = (struct v_srq *)srq;
	return post_receives(q, (receiver)q->context->post_srq_recv, w, n);
}

static inline uint8_t kind_of(uint32_t opcode) {
	switch (opcode) {
	case V_WC_RDMA_WRITE: return 1;
	case V_WC_RDMA_READ: return 2;
	case V_WC_RECV: return 3;
	default: return 0;
	}
}

s_count s_poll(uintptr_t cq, struct s_completion *w, int n) {
	struct v_wc batch[CHAIN];
	struct v_cq *q = (struct v_cq *)cq;
	int done = 0;
	while (done < n) {
		int want = n - done < CHAIN ? n - done : CHAIN;
		int got = q->context->poll_cq(q, want, batch);
		if (got < 0) return s_counted(done, errno_of(got));
		for (int i = 0; i < got; i++) {
			const struct v_wc *f = &batch[i];
			struct s_completion *t = &w[done + i];
			int ok = f->status == 0;
			int invalid = ok && (f->wc_flags & V_WC_WITH_INV);
			t->id = f->wr_id;
			t->qpn = f->qp_num;
			t->status = f->status;
			t->vendor = f->vendor_err;
			// Of a work request that failed, the rest is undefined.
			t->bytes = ok ? f->byte_len : 0;
			t->kind = ok ? kind_of(f->opcode) : 0;
			t->flags = invalid ? 1 : 0;
			t->invalid = invalid ? f->invalidated_rkey : 0;
		}
		done += got;
		if (got < want) break;
	}
	return s_counted(done, 0);
}

int s_arm(uintptr_t cq) {
	struct v_cq *q = (struct v_cq *)cq;
	int rc = q->context->req_notify_cq(q, 0);
	return rc ? -errno_of(rc) : 0;
}

// A CQ has a channel of its own, so every event there is its own. Each is acknowledged, or destroying the CQ would wait for that.
int s_heard(struct s_lib *l, uintptr_t cq) {
	struct v_cq *q = (struct v_cq *)cq, *of;
	void *context;
	for (;;) {
		errno = 0;
		if (l->get_cq_event(q->channel, &of, &context)) {
			return errno == EAGAIN || errno == EINTR ? 0 : -(errno ? errno : EIO);
		}
		l->ack_cq_events(of, 1);
	}
}
