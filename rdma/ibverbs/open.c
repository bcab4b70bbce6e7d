//go:build cgo

// This file is how the libraries are opened: by name, with the versions of their functions that verbs.h and rdma_cma.h of rdma-core 44 bind.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "shim.h"

struct wanted {
	size_t at; // in s_lib
	const char *name, *version;
};

#define WANT(field, name, version) { offsetof(struct s_lib, field), name, version }

static const struct wanted of_verbs[] = {
	WANT(get_device_name, "ibv_get_device_name", "IBVERBS_1.1"),
	WANT(query_device, "ibv_query_device", "IBVERBS_1.1"),
	WANT(query_port, "ibv_query_port", "IBVERBS_1.1"),
	WANT(alloc_pd, "ibv_alloc_pd", "IBVERBS_1.1"),
	WANT(dealloc_pd, "ibv_dealloc_pd", "IBVERBS_1.1"),
	WANT(reg_mr, "ibv_reg_mr", "IBVERBS_1.1"),
	WANT(dereg_mr, "ibv_dereg_mr", "IBVERBS_1.1"),
	WANT(create_comp_channel, "ibv_create_comp_channel", "IBVERBS_1.0"),
	WANT(destroy_comp_channel, "ibv_destroy_comp_channel", "IBVERBS_1.0"),
	WANT(create_cq, "ibv_create_cq", "IBVERBS_1.1"),
	WANT(destroy_cq, "ibv_destroy_cq", "IBVERBS_1.1"),
	WANT(get_cq_event, "ibv_get_cq_event", "IBVERBS_1.1"),
	WANT(ack_cq_events, "ibv_ack_cq_events", "IBVERBS_1.1"),
	WANT(create_srq, "ibv_create_srq", "IBVERBS_1.1"),
	WANT(destroy_srq, "ibv_destroy_srq", "IBVERBS_1.1"),
	WANT(create_qp, "ibv_create_qp", "IBVERBS_1.1"),
	WANT(modify_qp, "ibv_modify_qp", "IBVERBS_1.1"),
	WANT(destroy_qp, "ibv_destroy_qp", "IBVERBS_1.1"),
	WANT(get_async_event, "ibv_get_async_event", "IBVERBS_1.1"),
	WANT(ack_async_event, "ibv_ack_async_event", "IBVERBS_1.1"),
};

static const struct wanted of_cm[] = {
	WANT(get_devices, "rdma_get_devices", "RDMACM_1.0"),
	WANT(free_devices, "rdma_free_devices", "RDMACM_1.0"),
	WANT(create_event_channel, "rdma_create_event_channel", "RDMACM_1.0"),
	WANT(destroy_event_channel, "rdma_destroy_event_channel", "RDMACM_1.0"),
	WANT(create_id, "rdma_create_id", "RDMACM_1.0"),
	WANT(destroy_id, "rdma_destroy_id", "RDMACM_1.0"),
	WANT(set_option, "rdma_set_option", "RDMACM_1.0"),
	WANT(bind_addr, "rdma_bind_addr", "RDMACM_1.0"),
	WANT(listen, "rdma_listen", "RDMACM_1.0"),
	WANT(get_src_port, "rdma_get_src_port", "RDMACM_1.0"),
	WANT(resolve_addr, "rdma_resolve_addr", "RDMACM_1.0"),
	WANT(resolve_route, "rdma_resolve_route", "RDMACM_1.0"),
	WANT(cm_create_qp, "rdma_create_qp", "RDMACM_1.0"),
	WANT(cm_destroy_qp, "rdma_destroy_qp", "RDMACM_1.0"),
	WANT(connect, "rdma_connect", "RDMACM_1.0"),
	WANT(accept, "rdma_accept", "RDMACM_1.0"),
	WANT(reject, "rdma_reject", "RDMACM_1.0"),
	WANT(disconnect, "rdma_disconnect", "RDMACM_1.0"),
	WANT(notify, "rdma_notify", "RDMACM_1.0"),
	WANT(get_cm_event, "rdma_get_cm_event", "RDMACM_1.0"),
	WANT(ack_cm_event, "rdma_ack_cm_event", "RDMACM_1.0"),
};

static int find(struct s_lib *l, void *so, const char *path, const struct wanted *w, size_t n, char *why, int why_bytes) {
	for (size_t i = 0; i < n; i++) {
		void *f = dlvsym(so, w[i].name, w[i].version);
		if (!f) {
			snprintf(why, why_bytes, "%s has no %s of version %s", path, w[i].name, w[i].version);
			return 0;
		}
		*(void **)((char *)l + w[i].at) = f;
	}
	return 1;
}

// The libraries are never closed: librdmacm keeps its cards open for as long as it is loaded, and drivers have threads.
struct s_lib *s_open(const char *verbs, const char *cm, char *why, int why_bytes, int *too_old) {
	*too_old = 0;
	void *v = dlopen(verbs, RTLD_NOW | RTLD_LOCAL);
	void *c = v ? dlopen(cm, RTLD_NOW | RTLD_LOCAL) : NULL;
	if (!v || !c) {
		snprintf(why, why_bytes, "%s", dlerror());
		return NULL;
	}
	struct s_lib *l = calloc(1, sizeof *l);
	if (!l) {
		snprintf(why, why_bytes, "out of memory");
		return NULL;
	}
	if (!find(l, v, verbs, of_verbs, sizeof of_verbs / sizeof *of_verbs, why, why_bytes) ||
	    !find(l, c, cm, of_cm, sizeof of_cm / sizeof *of_cm, why, why_bytes)) {
		*too_old = 1;
		free(l);
		return NULL;
	}
	return l;
}
