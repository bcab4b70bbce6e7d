// This file is what Go calls. Handles and addresses are uintptr_t, so that Go keeps no pointer that its collector would look at. A result below 0 is
// an errno, negative.
#ifndef POLLUX_IBVERBS_SHIM_H
#define POLLUX_IBVERBS_SHIM_H

#include "abi.h"

// s_lib are the functions of both libraries that are called by name.
struct s_lib {
	const char *(*get_device_name)(struct v_device *);
	int (*query_device)(struct v_context *, struct v_device_attr *);
	int (*query_port)(struct v_context *, uint8_t, struct v_port_attr *);
	struct v_pd *(*alloc_pd)(struct v_context *);
	int (*dealloc_pd)(struct v_pd *);
	struct v_mr *(*reg_mr)(struct v_pd *, void *, size_t, int);
	int (*dereg_mr)(struct v_mr *);
	struct v_channel *(*create_comp_channel)(struct v_context *);
	int (*destroy_comp_channel)(struct v_channel *);
	struct v_cq *(*create_cq)(struct v_context *, int, void *, struct v_channel *, int);
	int (*destroy_cq)(struct v_cq *);
	int (*get_cq_event)(struct v_channel *, struct v_cq **, void **);
	void (*ack_cq_events)(struct v_cq *, unsigned int);
	struct v_srq *(*create_srq)(struct v_pd *, struct v_srq_init_attr *);
	int (*destroy_srq)(struct v_srq *);
	struct v_qp *(*create_qp)(struct v_pd *, struct v_qp_init_attr *);
	int (*modify_qp)(struct v_qp *, struct v_qp_attr *, int);
	int (*destroy_qp)(struct v_qp *);
	int (*get_async_event)(struct v_context *, struct v_async_event *);
	void (*ack_async_event)(struct v_async_event *);

	struct v_context **(*get_devices)(int *);
	void (*free_devices)(struct v_context **);
	struct v_event_channel *(*create_event_channel)(void);
	void (*destroy_event_channel)(struct v_event_channel *);
	int (*create_id)(struct v_event_channel *, struct v_cm_id **, void *, int);
	int (*destroy_id)(struct v_cm_id *);
	int (*set_option)(struct v_cm_id *, int, int, void *, size_t);
	int (*bind_addr)(struct v_cm_id *, struct sockaddr *);
	int (*listen)(struct v_cm_id *, int);
	uint16_t (*get_src_port)(struct v_cm_id *);
	int (*resolve_addr)(struct v_cm_id *, struct sockaddr *, struct sockaddr *, int);
	int (*resolve_route)(struct v_cm_id *, int);
	int (*cm_create_qp)(struct v_cm_id *, struct v_pd *, struct v_qp_init_attr *);
	void (*cm_destroy_qp)(struct v_cm_id *);
	int (*connect)(struct v_cm_id *, struct v_conn_param *);
	int (*accept)(struct v_cm_id *, struct v_conn_param *);
	int (*reject)(struct v_cm_id *, const void *, uint8_t);
	int (*disconnect)(struct v_cm_id *);
	int (*notify)(struct v_cm_id *, int);
	int (*get_cm_event)(struct v_event_channel *, struct v_cm_event **);
	int (*ack_cm_event)(struct v_cm_event *);
};

// s_open opens both libraries. 0, and what is missing in why, if it cannot; too_old is then set if a library is there and lacks something.
struct s_lib *s_open(const char *verbs, const char *cm, char *why, int why_bytes, int *too_old);

// The work requests and completions of package rdma.
struct s_send {
	uint64_t id;
	uint64_t qp;
	uint64_t remote;
	uint32_t remote_key;
	uint32_t invalidate;
	struct v_sge sge[2];
	uint8_t opcode, flags, sges;
};

struct s_recv {
	uint64_t id;
	struct v_sge sge[2];
	uint8_t sges;
};

struct s_completion {
	uint64_t id;
	uint32_t qpn;
	uint32_t status;
	uint32_t bytes;
	uint32_t invalid;
	uint32_t vendor;
	uint8_t kind, flags;
};

// s_count is how many were taken, and the errno of what came after them, 0 if nothing failed.
typedef uint64_t s_count;
static inline s_count s_counted(int n, int err) { return (uint64_t)(uint32_t)err << 32 | (uint32_t)n; }

s_count s_post(struct s_send *w, int n);
s_count s_post_recv(uintptr_t qp, struct s_recv *w, int n);
s_count s_post_shared(uintptr_t srq, struct s_recv *w, int n);
s_count s_poll(uintptr_t cq, struct s_completion *w, int n);
int s_arm(uintptr_t cq);
int s_heard(struct s_lib *l, uintptr_t cq);

// Cards.
int s_devices(struct s_lib *l, uintptr_t *list); // the length
uintptr_t s_device(uintptr_t list, int i);
void s_free_devices(struct s_lib *l, uintptr_t list);
int s_transport(uintptr_t context);
int s_async_fd(uintptr_t context);
int s_comp_vectors(uintptr_t context);
int s_name(struct s_lib *l, uintptr_t context, char *name, int bytes);

struct s_card_info {
	uint64_t guid;
	int qp_depth, sges, cq_depth, srq_depth, reads_in, reads_out;
	int mtu, ethernet, invalidates;
};

int s_card_info(struct s_lib *l, uintptr_t context, struct s_card_info *out);
int s_inline_max(struct s_lib *l, uintptr_t context, uintptr_t pd, int sges);

struct s_async {
	int event, port;
	uintptr_t cq, qp, srq;
};

int s_next_async(struct s_lib *l, uintptr_t context, struct s_async *out); // -EAGAIN: none

// What is made on a card. The result of those that make is the errno, negative, and the handle is in out.
int s_alloc_pd(struct s_lib *l, uintptr_t context, uintptr_t *out);
int s_dealloc_pd(struct s_lib *l, uintptr_t pd);

struct s_mr {
	uintptr_t handle;
	uint32_t lkey, rkey;
};

int s_reg_mr(struct s_lib *l, uintptr_t pd, void *b, size_t bytes, int access, struct s_mr *out);
int s_dereg_mr(struct s_lib *l, uintptr_t mr);
int s_create_cq(struct s_lib *l, uintptr_t context, int depth, int vector, uintptr_t *out);
int s_cq_fd(uintptr_t cq);
int s_destroy_cq(struct s_lib *l, uintptr_t cq);
int s_create_srq(struct s_lib *l, uintptr_t pd, int depth, int sges, uintptr_t *out);
int s_destroy_srq(struct s_lib *l, uintptr_t srq);

struct s_qp {
	// in
	uintptr_t send_cq, recv_cq, srq;
	uint32_t send_depth, recv_depth, sges, inline_bytes;
	// out, with the last three
	uintptr_t handle;
	uint32_t number;
};

int s_create_qp(struct s_lib *l, uintptr_t id, uintptr_t pd, struct s_qp *qp);
int s_fail_qp(struct s_lib *l, uintptr_t qp);
void s_destroy_qp(struct s_lib *l, uintptr_t id);

// The connection manager.
struct s_address {
	uint8_t ip[16];
	uint32_t zone;
	uint16_t port;
	uint8_t family; // 4, 6, or 0: none
};

struct s_params {
	uint8_t reads_in, reads_out, retries, rnr;
	uint8_t ack_timeout; // of s_accept, 0: the system's
};

struct s_event {
	uintptr_t id, listener;       // the libraries' own
	uint64_t number, listener_no; // ours; number is not set of a new connection
	uintptr_t context;
	int kind, status;
	struct s_params params;
	struct s_address local, peer;
	uint8_t private_bytes;
	uint8_t private_data[255];
};

int s_create_channel(struct s_lib *l, uintptr_t *out, int *fd);
void s_destroy_channel(struct s_lib *l, uintptr_t channel);
int s_create_id(struct s_lib *l, uintptr_t channel, uint64_t number, uintptr_t *out);
void s_number_id(uintptr_t id, uint64_t number);
uintptr_t s_id_context(uintptr_t id);
int s_has_qp(uintptr_t id);
int s_destroy_id(struct s_lib *l, uintptr_t id);
int s_listen(struct s_lib *l, uintptr_t id, struct s_address *at, int backlog);
int s_resolve(struct s_lib *l, uintptr_t id, struct s_address *from, struct s_address *to, uint8_t ack_timeout, uint8_t tos);
int s_connect(struct s_lib *l, uintptr_t id, struct s_params p, void *data, int bytes);
int s_accept(struct s_lib *l, uintptr_t id, struct s_params p, void *data, int bytes);
int s_reject(struct s_lib *l, uintptr_t id, void *data, int bytes);
int s_disconnect(struct s_lib *l, uintptr_t id);
int s_communication(struct s_lib *l, uintptr_t id);
int s_next_event(struct s_lib *l, uintptr_t channel, struct s_event *out); // -EAGAIN: none

#endif
