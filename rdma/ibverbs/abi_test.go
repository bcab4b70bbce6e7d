//go:build cgo

package ibverbs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

// abi is what abi.h says, beside what the headers of rdma-core call it. A size is compared where sized is set: of the others the libraries have more.
var abi = []struct {
	ours, theirs string
	sized        bool
	fields       string // ours=theirs, or one name for both
}{
	{"v_device", "ibv_device", false, "node_type transport_type name"},
	{"v_context", "ibv_context", false, "device poll_cq=ops.poll_cq req_notify_cq=ops.req_notify_cq post_srq_recv=ops.post_srq_recv " +
		"post_send=ops.post_send post_recv=ops.post_recv cmd_fd async_fd comp_vectors=num_comp_vectors"},
	{"v_channel", "ibv_comp_channel", true, "context fd references=refcnt"},
	{"v_cq", "ibv_cq", false, "context channel cq_context handle depth=cqe"},
	{"v_srq", "ibv_srq", false, "context"},
	{"v_qp", "ibv_qp", false, "context qp_context pd send_cq recv_cq srq handle number=qp_num"},
	{"v_mr", "ibv_mr", true, "context pd addr length handle lkey rkey"},
	{"v_sge", "ibv_sge", true, "addr length lkey"},
	{"v_send_wr", "ibv_send_wr", true, "wr_id next sg_list num_sge opcode send_flags invalidate_rkey remote_addr=wr.rdma.remote_addr rkey=wr.rdma.rkey"},
	{"v_recv_wr", "ibv_recv_wr", true, "wr_id next sg_list num_sge"},
	{"v_wc", "ibv_wc", true, "wr_id status opcode vendor_err byte_len invalidated_rkey qp_num src_qp wc_flags pkey_index slid sl dlid_path_bits"},
	{"v_device_attr", "ibv_device_attr", true, "fw_ver node_guid sys_image_guid max_mr_size page_size_cap vendor_id vendor_part_id hw_ver max_qp " +
		"max_qp_wr device_cap_flags max_sge max_sge_rd max_cq max_cqe max_mr max_pd max_qp_rd_atom max_ee_rd_atom max_res_rd_atom " +
		"max_qp_init_rd_atom max_ee_init_rd_atom atomic_cap max_srq max_srq_wr max_srq_sge max_pkeys local_ca_ack_delay phys_port_cnt"},
	{"v_port_attr", "ibv_port_attr", true, "state max_mtu active_mtu gid_tbl_len link_layer flags port_cap_flags2"},
	{"v_qp_cap", "ibv_qp_cap", true, "max_send_wr max_recv_wr max_send_sge max_recv_sge max_inline_data"},
	{"v_qp_init_attr", "ibv_qp_init_attr", true, "qp_context send_cq recv_cq srq cap qp_type sq_sig_all"},
	{"v_qp_attr", "ibv_qp_attr", true, "qp_state min_rnr_timer"},
	{"v_srq_init_attr", "ibv_srq_init_attr", true, "srq_context max_wr=attr.max_wr max_sge=attr.max_sge srq_limit=attr.srq_limit"},
	{"v_async_event", "ibv_async_event", true, "element.cq element.qp element.srq element.port_num event_type"},
	{"v_event_channel", "rdma_event_channel", true, "fd"},
	{"v_cm_id", "rdma_cm_id", false, "verbs channel context qp local.sa=route.addr.src_addr local.storage=route.addr.src_storage " +
		"peer.sa=route.addr.dst_addr peer.storage=route.addr.dst_storage"},
	{"v_conn_param", "rdma_conn_param", true, "private_data private_data_len responder_resources initiator_depth flow_control retry_count rnr_retry_count " +
		"srq qp_num"},
	{"v_cm_event", "rdma_cm_event", false, "id listen_id event status conn=param.conn"},
}

// numbers are the enumerators, with the prefix of ours and of theirs.
var numbers = []struct{ ours, theirs, names string }{
	{"V_TRANSPORT_", "IBV_TRANSPORT_", "IB IWARP"},
	{"V_DEVICE_", "IBV_DEVICE_", "MEM_MGT_EXTENSIONS"},
	{"V_ACCESS_", "IBV_ACCESS_", "LOCAL_WRITE REMOTE_WRITE REMOTE_READ"},
	{"V_WR_", "IBV_WR_", "RDMA_WRITE SEND RDMA_READ SEND_WITH_INV"},
	{"V_SEND_", "IBV_SEND_", "FENCE SIGNALED INLINE"},
	{"V_WC_", "IBV_WC_", "SEND RDMA_WRITE RDMA_READ RECV WITH_INV"},
	{"V_PORT_", "IBV_PORT_", "ACTIVE"},
	{"V_LINK_LAYER_", "IBV_LINK_LAYER_", "ETHERNET"},
	{"V_", "IBV_", "QPT_RC QP_STATE QP_MIN_RNR_TIMER QPS_ERR"},
	{"V_EVENT_", "IBV_EVENT_", "CQ_ERR QP_FATAL QP_REQ_ERR QP_ACCESS_ERR COMM_EST SQ_DRAINED PATH_MIG PATH_MIG_ERR DEVICE_FATAL PORT_ACTIVE PORT_ERR SRQ_ERR " +
		"SRQ_LIMIT_REACHED QP_LAST_WQE_REACHED"},
	{"V_CM_", "RDMA_CM_EVENT_", "ADDR_RESOLVED ADDR_ERROR ROUTE_RESOLVED ROUTE_ERROR CONNECT_REQUEST CONNECT_RESPONSE CONNECT_ERROR UNREACHABLE " +
		"REJECTED ESTABLISHED DISCONNECTED DEVICE_REMOVAL ADDR_CHANGE TIMEWAIT_EXIT"},
	{"V_", "RDMA_", "PS_TCP OPTION_ID OPTION_ID_TOS OPTION_ID_AFONLY OPTION_ID_ACK_TIMEOUT"},
}

// statuses are those of package rdma, which are the card's own: in their order from 0.
const statuses = "SUCCESS LOC_LEN_ERR LOC_QP_OP_ERR LOC_EEC_OP_ERR LOC_PROT_ERR WR_FLUSH_ERR MW_BIND_ERR BAD_RESP_ERR LOC_ACCESS_ERR REM_INV_REQ_ERR " +
	"REM_ACCESS_ERR REM_OP_ERR RETRY_EXC_ERR RNR_RETRY_EXC_ERR LOC_RDD_VIOL_ERR REM_INV_RD_REQ_ERR REM_ABORT_ERR INV_EECN_ERR INV_EEC_STATE_ERR FATAL_ERR " +
	"RESP_TIMEOUT_ERR GENERAL_ERR"

// TestABI lets the C compiler compare abi.h with the headers of rdma-core.
func TestABI(t *testing.T) {
	var b strings.Builder
	b.WriteString("#include <infiniband/verbs.h>\n#include <rdma/rdma_cma.h>\n#include \"abi.h\"\n")
	same := func(ours, theirs string) {
		fmt.Fprintf(&b, "_Static_assert(%s == %s, \"%s\");\n", ours, theirs, strings.ReplaceAll(ours, `"`, ""))
	}
	for _, s := range abi {
		if s.sized {
			same("sizeof(struct "+s.ours+")", "sizeof(struct "+s.theirs+")")
		} else {
			fmt.Fprintf(&b, "_Static_assert(sizeof(struct %s) <= sizeof(struct %s), \"%s is larger\");\n", s.ours, s.theirs, s.ours)
		}
		for f := range strings.FieldsSeq(s.fields) {
			o, th, two := strings.Cut(f, "=")
			if !two {
				th = o
			}
			same(fmt.Sprintf("offsetof(struct %s, %s)", s.ours, o), fmt.Sprintf("offsetof(struct %s, %s)", s.theirs, th))
			same(fmt.Sprintf("sizeof(((struct %s *)0)->%s)", s.ours, o), fmt.Sprintf("sizeof(((struct %s *)0)->%s)", s.theirs, th))
		}
	}
	for _, n := range numbers {
		for name := range strings.FieldsSeq(n.names) {
			same("(int)"+n.ours+name, "(int)"+n.theirs+name)
		}
	}
	named := strings.Fields(statuses)
	if last := int(rdma.StatusGeneral); len(named) != last+1 {
		t.Errorf("package rdma has %d statuses, and %d are compared", last+1, len(named))
	}
	for i, name := range named {
		same(fmt.Sprint(i), "(int)IBV_WC_"+name)
	}
	if err := compiles(t, b.String()); err != nil {
		t.Error(err)
	}
}

// TestTheComparisonFindsADifference: the compiler that says nothing could be one that compares nothing.
func TestTheComparisonFindsADifference(t *testing.T) {
	const wrong = "#include <infiniband/verbs.h>\n#include \"abi.h\"\n" +
		"_Static_assert(offsetof(struct v_wc, qp_num) == offsetof(struct ibv_wc, src_qp), \"the wrong field\");\n"
	if err := compiles(t, wrong); err == nil || !strings.Contains(err.Error(), "the wrong field") {
		t.Errorf("the compiler said %v", err)
	}
}

func compiles(t *testing.T, source string) error {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "abi.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("gcc", "-std=gnu11", "-fsyntax-only", "-I", here, file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("gcc: %w (scripts/deps test installs it, and the headers)\n%s", err, out)
	}
	return nil
}
