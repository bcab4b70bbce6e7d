// This file is what is read and written directly of the structures of libibverbs.so.1 and librdmacm.so.1, whose layout is their stable ABI:
// verbs.h and rdma_cma.h of rdma-core 44. A structure that ends in "…" is longer there, and always made by the libraries. TestABI compares
// sizes, offsets and numbers with the real headers, which a build does not need.
#ifndef POLLUX_IBVERBS_ABI_H
#define POLLUX_IBVERBS_ABI_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct v_context;
struct v_cq;
struct v_qp;
struct v_srq;
struct v_pd;
struct v_sge;
struct v_send_wr;
struct v_recv_wr;
struct v_wc;

// struct ibv_device …
struct v_device {
	void *ops[2];
	int node_type;
	int transport_type;
	char name[64];
};

enum {
	V_TRANSPORT_IB = 0,
	V_TRANSPORT_IWARP = 1,
};

// struct ibv_context …: five of its operations are called directly, the others have been functions of the library for long.
struct v_context {
	struct v_device *device;
	void *ops_before_poll_cq[11];
	int (*poll_cq)(struct v_cq *, int, struct v_wc *);
	int (*req_notify_cq)(struct v_cq *, int);
	void *ops_before_post_srq_recv[7];
	int (*post_srq_recv)(struct v_srq *, struct v_recv_wr *, struct v_recv_wr **);
	void *ops_before_post_send[4];
	int (*post_send)(struct v_qp *, struct v_send_wr *, struct v_send_wr **);
	int (*post_recv)(struct v_qp *, struct v_recv_wr *, struct v_recv_wr **);
	void *ops_after_post_recv[5];
	int cmd_fd;
	int async_fd;
	int comp_vectors;
};

// struct ibv_comp_channel
struct v_channel {
	struct v_context *context;
	int fd;
	int references;
};

// struct ibv_cq …
struct v_cq {
	struct v_context *context;
	struct v_channel *channel;
	void *cq_context;
	uint32_t handle;
	int depth;
};

// struct ibv_srq …
struct v_srq {
	struct v_context *context;
};

// struct ibv_qp …
struct v_qp {
	struct v_context *context;
	void *qp_context;
	struct v_pd *pd;
	struct v_cq *send_cq;
	struct v_cq *recv_cq;
	struct v_srq *srq;
	uint32_t handle;
	uint32_t number;
};

// struct ibv_mr
struct v_mr {
	struct v_context *context;
	struct v_pd *pd;
	void *addr;
	size_t length;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
};

enum {
	V_DEVICE_MEM_MGT_EXTENSIONS = 1 << 21,
	V_ACCESS_LOCAL_WRITE = 1,
	V_ACCESS_REMOTE_WRITE = 2,
	V_ACCESS_REMOTE_READ = 4,
};

// struct ibv_sge
struct v_sge {
	uint64_t addr;
	uint32_t length;
	uint32_t lkey;
};

// struct ibv_send_wr: of its unions the members that an RC queue pair has without atomic operations.
struct v_send_wr {
	uint64_t wr_id;
	struct v_send_wr *next;
	struct v_sge *sg_list;
	int num_sge;
	int opcode;
	unsigned int send_flags;
	uint32_t invalidate_rkey;
	uint64_t remote_addr;
	uint32_t rkey;
	uint32_t rest[19];
};

enum {
	V_WR_RDMA_WRITE = 0,
	V_WR_SEND = 2,
	V_WR_RDMA_READ = 4,
	V_WR_SEND_WITH_INV = 9,
};

enum {
	V_SEND_FENCE = 1,
	V_SEND_SIGNALED = 2,
	V_SEND_INLINE = 8,
};

// struct ibv_recv_wr
struct v_recv_wr {
	uint64_t wr_id;
	struct v_recv_wr *next;
	struct v_sge *sg_list;
	int num_sge;
};

// struct ibv_wc
struct v_wc {
	uint64_t wr_id;
	uint32_t status;
	uint32_t opcode;
	uint32_t vendor_err;
	uint32_t byte_len;
	uint32_t invalidated_rkey;
	uint32_t qp_num;
	uint32_t src_qp;
	uint32_t wc_flags;
	uint16_t pkey_index;
	uint16_t slid;
	uint8_t sl;
	uint8_t dlid_path_bits;
};

enum {
	V_WC_SEND = 0,
	V_WC_RDMA_WRITE = 1,
	V_WC_RDMA_READ = 2,
	V_WC_RECV = 128,
	V_WC_WITH_INV = 8,
};

// struct ibv_device_attr
struct v_device_attr {
	char fw_ver[64];
	uint64_t node_guid; // big endian
	uint64_t sys_image_guid;
	uint64_t max_mr_size;
	uint64_t page_size_cap;
	uint32_t vendor_id;
	uint32_t vendor_part_id;
	uint32_t hw_ver;
	int max_qp;
	int max_qp_wr;
	unsigned int device_cap_flags;
	int max_sge;
	int max_sge_rd;
	int max_cq;
	int max_cqe;
	int max_mr;
	int max_pd;
	int max_qp_rd_atom;
	int max_ee_rd_atom;
	int max_res_rd_atom;
	int max_qp_init_rd_atom;
	int max_ee_init_rd_atom;
	int atomic_cap;
	int max_ee;
	int max_rdd;
	int max_mw;
	int max_raw_ipv6_qp;
	int max_raw_ethy_qp;
	int max_mcast_grp;
	int max_mcast_qp_attach;
	int max_total_mcast_qp_attach;
	int max_ah;
	int max_fmr;
	int max_map_per_fmr;
	int max_srq;
	int max_srq_wr;
	int max_srq_sge;
	uint16_t max_pkeys;
	uint8_t local_ca_ack_delay;
	uint8_t phys_port_cnt;
};

// struct ibv_port_attr
struct v_port_attr {
	int state;
	int max_mtu;
	int active_mtu;
	int gid_tbl_len;
	uint32_t port_cap_flags;
	uint32_t max_msg_sz;
	uint32_t bad_pkey_cntr;
	uint32_t qkey_viol_cntr;
	uint16_t pkey_tbl_len;
	uint16_t lid;
	uint16_t sm_lid;
	uint8_t lmc;
	uint8_t max_vl_num;
	uint8_t sm_sl;
	uint8_t subnet_timeout;
	uint8_t init_type_reply;
	uint8_t active_width;
	uint8_t active_speed;
	uint8_t phys_state;
	uint8_t link_layer;
	uint8_t flags;
	uint16_t port_cap_flags2;
};

enum {
	V_PORT_ACTIVE = 4,
	V_LINK_LAYER_ETHERNET = 2,
};

// struct ibv_qp_cap
struct v_qp_cap {
	uint32_t max_send_wr;
	uint32_t max_recv_wr;
	uint32_t max_send_sge;
	uint32_t max_recv_sge;
	uint32_t max_inline_data;
};

// struct ibv_qp_init_attr
struct v_qp_init_attr {
	void *qp_context;
	struct v_cq *send_cq;
	struct v_cq *recv_cq;
	struct v_srq *srq;
	struct v_qp_cap cap;
	int qp_type;
	int sq_sig_all;
};

enum { V_QPT_RC = 2 };

// struct ibv_qp_attr, of which only what the mask names is looked at.
struct v_qp_attr {
	int qp_state;
	uint8_t between[124];
	uint8_t min_rnr_timer;
	uint8_t after[15];
};

enum {
	V_QP_STATE = 1,
	V_QP_MIN_RNR_TIMER = 1 << 15,
	V_QPS_ERR = 6,
};

// struct ibv_srq_init_attr
struct v_srq_init_attr {
	void *srq_context;
	uint32_t max_wr;
	uint32_t max_sge;
	uint32_t srq_limit;
};

// struct ibv_async_event
struct v_async_event {
	union {
		struct v_cq *cq;
		struct v_qp *qp;
		struct v_srq *srq;
		int port_num;
	} element;
	int event_type;
};

enum {
	V_EVENT_CQ_ERR = 0,
	V_EVENT_QP_FATAL = 1,
	V_EVENT_QP_REQ_ERR = 2,
	V_EVENT_QP_ACCESS_ERR = 3,
	V_EVENT_COMM_EST = 4,
	V_EVENT_SQ_DRAINED = 5,
	V_EVENT_PATH_MIG = 6,
	V_EVENT_PATH_MIG_ERR = 7,
	V_EVENT_DEVICE_FATAL = 8,
	V_EVENT_PORT_ACTIVE = 9,
	V_EVENT_PORT_ERR = 10,
	V_EVENT_SRQ_ERR = 14,
	V_EVENT_SRQ_LIMIT_REACHED = 15,
	V_EVENT_QP_LAST_WQE_REACHED = 16,
};

// struct rdma_event_channel
struct v_event_channel {
	int fd;
};

// struct rdma_cm_id …
struct v_cm_id {
	struct v_context *verbs;
	struct v_event_channel *channel;
	void *context;
	struct v_qp *qp;
	union { // rdma_get_local_addr(3), rdma_get_peer_addr(3)
		struct sockaddr sa;
		struct sockaddr_storage storage;
	} local, peer;
};

// struct rdma_conn_param
struct v_conn_param {
	const void *private_data;
	uint8_t private_data_len;
	uint8_t responder_resources;
	uint8_t initiator_depth;
	uint8_t flow_control;
	uint8_t retry_count;
	uint8_t rnr_retry_count;
	uint8_t srq;
	uint32_t qp_num;
};

// struct rdma_cm_event …
struct v_cm_event {
	struct v_cm_id *id;
	struct v_cm_id *listen_id;
	int event;
	int status;
	struct v_conn_param conn;
};

enum {
	V_CM_ADDR_RESOLVED = 0,
	V_CM_ADDR_ERROR = 1,
	V_CM_ROUTE_RESOLVED = 2,
	V_CM_ROUTE_ERROR = 3,
	V_CM_CONNECT_REQUEST = 4,
	V_CM_CONNECT_RESPONSE = 5,
	V_CM_CONNECT_ERROR = 6,
	V_CM_UNREACHABLE = 7,
	V_CM_REJECTED = 8,
	V_CM_ESTABLISHED = 9,
	V_CM_DISCONNECTED = 10,
	V_CM_DEVICE_REMOVAL = 11,
	V_CM_ADDR_CHANGE = 14,
	V_CM_TIMEWAIT_EXIT = 15,
};

enum {
	V_PS_TCP = 0x0106,
	V_OPTION_ID = 0,
	V_OPTION_ID_TOS = 0,
	V_OPTION_ID_AFONLY = 2,
	V_OPTION_ID_ACK_TIMEOUT = 3,
};

#endif
