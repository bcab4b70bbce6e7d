package ctl

import (
	"crypto/md5"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// targetDoor is an engine whose iSCSI target has one node, "test", on a malloc device, that everybody reaches by portal group 1.
type targetDoor struct {
	*optionRig
	testEngine
}

// doors starts one with options and with more members for the node.
func (x *optionRig) doors(options, node string) targetDoor {
	x.Helper()
	d := targetDoor{x, startEngine(x.T)}
	d.testEngine.steps(x.T, []step{{"iscsi_set_options", `{` + options + `}`, `true`}})
	if err := d.Frame.Start(x.Context()); err != nil {
		x.Fatal(err)
	}
	d.does([]step{
		{"bdev_malloc_create", `{"name": "m", "num_blocks": 2048, "block_size": 512}`, `"m"`},
		{"iscsi_create_portal_group", `{"tag": 1, "portals": [{"host": "127.0.0.1", "port": "0"}]}`, `true`},
		{"iscsi_create_initiator_group", `{"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}`, `true`},
		{"iscsi_create_target_node", `{"name": "test", "alias_name": "an alias", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": [{"bdev_name": "m", "lun_id": 0}]` + node + `}`, `true`},
	})
	return d
}

func (d targetDoor) does(list []step) { d.Helper(); d.testEngine.steps(d.T, list) }

// addr is where the portals of a group listen.
func (d targetDoor) addr(tag int) netip.AddrPort {
	d.Helper()
	for _, g := range d.testEngine.ISCSI.PortalGroups() {
		if g.Tag == tag {
			return netip.MustParseAddrPort(g.Portals[0].String())
		}
	}
	d.Fatalf("there is no portal group %d", tag)
	return netip.AddrPort{}
}

// login logs in without proof and tells the status, with the connection if it is in.
func (d targetDoor) login(keys ...string) (iscsi.LoginStatus, *iscsitest.Peer) {
	d.Helper()
	p := iscsitest.Dial(d.T, d.addr(1))
	r, _ := p.Step(iscsi.OperationalStage, iscsi.FullFeature, iscsitest.Keys(keys...)...)
	p.Enter(r)
	return r.Status, p
}

// discovers begins a discovery session by a portal group, without proof.
func (d targetDoor) discovers(tag int) iscsi.LoginStatus {
	d.Helper()
	r, _ := iscsitest.Dial(d.T, d.addr(tag)).Step(iscsi.OperationalStage, iscsi.FullFeature, discoverer...)
	return r.Status
}

var (
	discoverer = []string{"InitiatorName=" + iscsitest.Initiator, "SessionType=Discovery"}
	normal     = []string{"InitiatorName=" + iscsitest.Initiator, "TargetName=" + iscsitest.Node, "SessionType=Normal"}
)

// proves logs in by CHAP, as one of discoverer and normal, and tells the status. mutual asks the target to prove itself, which it has to do with
// the secret.
func (d targetDoor) proves(tag int, who []string, user, secret, mutual string) iscsi.LoginStatus {
	d.Helper()
	p := iscsitest.Dial(d.T, d.addr(tag))
	const challenge = "0x000102030405060708090a0b0c0d0e0f"
	r, _ := p.Step(iscsi.SecurityNegotiation, iscsi.SecurityNegotiation, append(slices.Clone(who), "AuthMethod=CHAP")...)
	if r.Status != iscsi.LoginSuccess {
		return r.Status
	}
	if r, _ = p.Step(iscsi.SecurityNegotiation, iscsi.SecurityNegotiation, "CHAP_A=5"); r.Status != iscsi.LoginSuccess {
		return r.Status
	}
	say := []string{"CHAP_N=" + user, "CHAP_R=" + chapAnswer(p.Keys["CHAP_I"], secret, p.Keys["CHAP_C"])}
	if mutual != "" {
		say = append(say, "CHAP_I=9", "CHAP_C="+challenge)
	}
	r, _ = p.Step(iscsi.SecurityNegotiation, iscsi.OperationalStage, say...)
	if r.Status == iscsi.LoginSuccess && mutual != "" && !strings.EqualFold(p.Keys["CHAP_R"], chapAnswer("9", mutual, challenge)) {
		d.Errorf("the target proves itself with %s", p.Keys["CHAP_R"])
	}
	return r.Status
}

// chapAnswer is the hash of RFC 1994 section 4.1.
func chapAnswer(identifier, secret, challenge string) string {
	id, _ := strconv.Atoi(identifier)
	c, err := hex.DecodeString(strings.TrimPrefix(strings.ToLower(challenge), "0x"))
	if err != nil {
		return ""
	}
	sum := md5.Sum(append(append([]byte{byte(id)}, secret...), c...))
	return "0x" + hex.EncodeToString(sum[:])
}

const (
	secretsOfGroup3 = `{"tag": 3, "secrets": [{"user": "u", "secret": "secret-of-u-1", "muser": "t", "msecret": "secret-of-t-1"}]}`
	proofU, proofT  = "secret-of-u-1", "secret-of-t-1"
)

// rules looks at what each member of a rule of authentication does: set makes the rule count.
func (d targetDoor) rules(set func(rule string), tag int, who []string) {
	d.Helper()
	d.does([]step{{"iscsi_create_auth_group", secretsOfGroup3, `true`}, {"iscsi_create_auth_group", `{"tag": 4, "secrets": [{"user": "u", "secret": "another-secret"}]}`, `true`}})
	unproved := func() iscsi.LoginStatus {
		said := iscsitest.Keys()
		if who[1] == discoverer[1] {
			said = discoverer
		}
		r, _ := iscsitest.Dial(d.T, d.addr(tag)).Step(iscsi.OperationalStage, iscsi.FullFeature, said...)
		return r.Status
	}
	set(`"disable_chap": true`)
	d.is("disable_chap, with CHAP alone", d.proves(tag, who, "u", proofU, ""), iscsi.LoginAuthenticationFail)
	d.is("disable_chap, without", unproved(), iscsi.LoginSuccess)
	set(`"require_chap": true, "chap_group": 3`)
	d.is("require_chap, without", unproved(), iscsi.LoginAuthenticationFail)
	d.is("require_chap, proved", d.proves(tag, who, "u", proofU, ""), iscsi.LoginSuccess)
	d.is("require_chap, wrong", d.proves(tag, who, "u", "wrong", ""), iscsi.LoginAuthenticationFail)
	set(`"require_chap": true, "mutual_chap": true, "chap_group": 3`)
	d.is("mutual_chap, one way", d.proves(tag, who, "u", proofU, ""), iscsi.LoginAuthenticationFail)
	d.is("mutual_chap, both ways", d.proves(tag, who, "u", proofU, proofT), iscsi.LoginSuccess)
	set(`"require_chap": true, "chap_group": 4`)
	d.is("another chap_group", d.proves(tag, who, "u", proofU, ""), iscsi.LoginAuthenticationFail)
	set(`"disable_chap": false`)
	d.is("no rule, without", unproved(), iscsi.LoginSuccess)
}

// iscsiEffects are those of the iSCSI target.
var iscsiEffects = []optionEffect{
	{"iscsi_set_options: auth_file node_base max_sessions max_queue_depth default_time2wait first_burst_length immediate_data error_recovery_level allow_duplicated_isid", func(x *optionRig) {
		file := filepath.Join(x.TempDir(), "auth.conf")
		if err := os.WriteFile(file, []byte("[AuthGroup9]\n  Auth u a-long-secret\n"), 0o600); err != nil {
			x.Fatal(err)
		}
		bad := startEngine(x.T)
		bad.steps(x.T, []step{{"iscsi_set_options", `{"error_recovery_level": 1}`, `-22`}, {"iscsi_set_options", `{"error_recovery_level": 0}`, `true`}})
		d := x.doors(`"auth_file": "`+file+`", "max_sessions": 2, "max_queue_depth": 7, "default_time2wait": 17, "first_burst_length": 1024, "immediate_data": false, "allow_duplicated_isid": true`, `, "queue_depth": 99`)
		d.does([]step{{"iscsi_get_auth_groups", `{}`, `\[{"tag":9,"secrets":\[{"user":"u","secret":"a-long-secret"}\]}\]`}})
		_, one := d.login()
		x.is("default_time2wait", one.Keys["DefaultTime2Wait"], 17)
		x.is("first_burst_length", one.Keys["FirstBurstLength"], 1024)
		x.is("immediate_data", one.Keys["ImmediateData"], "No")
		x.is("max_queue_depth", one.MaxCmdSN-one.ExpCmdSN+1, 7)
		status, _ := d.login()
		x.is("a second session", status, iscsi.LoginSuccess)
		one.Quiet("the second session has the same ISID, and replaces none")
		status, _ = d.login()
		x.is("one more than max_sessions", status, iscsi.LoginOutOfResources)
		d = x.doors(`"node_base": "iqn.1992-01.com.example"`, `, "queue_depth": 0`)
		d.does([]step{{"iscsi_get_target_nodes", `{}`, `\[{"name":"iqn.1992-01.com.example:test",.*`}})
		_, one = d.login("TargetName=iqn.1992-01.com.example:test")
		x.is("default of first_burst_length", one.Keys["FirstBurstLength"], 65536)
		x.is("default of immediate_data", one.Keys["ImmediateData"], "Yes")
		x.is("default of max_queue_depth", one.MaxCmdSN-one.ExpCmdSN+1, 64)
		d.login("TargetName=iqn.1992-01.com.example:test")
		one.WantClosed("allow_duplicated_isid is off")
	}},
	{"iscsi_set_options: nop_timeout nop_in_interval", func(x *optionRig) {
		d := x.doors(`"nop_in_interval": 1, "nop_timeout": 1`, `, "queue_depth": 0`)
		_, p := d.login()
		p.Want("an initiator that says nothing is asked", iscsi.OpNOPIn)
		p.WantClosed("and does not answer")
	}},
	{"iscsi_set_options: disable_chap require_chap mutual_chap chap_group", func(x *optionRig) {
		for rule, want := range map[string]iscsi.LoginStatus{
			`"disable_chap": true`: iscsi.LoginSuccess, `"require_chap": true, "mutual_chap": true, "chap_group": 3`: iscsi.LoginAuthenticationFail,
		} {
			d := x.doors(rule, `, "queue_depth": 0`)
			d.does([]step{{"iscsi_create_auth_group", secretsOfGroup3, `true`}})
			x.is(rule, d.discovers(1), want)
			proved := iscsi.LoginAuthenticationFail
			if want == proved {
				proved = iscsi.LoginSuccess
			}
			x.is(rule+", proved", d.proves(1, discoverer, "u", proofU, proofT), proved)
			x.is(rule+", one way", d.proves(1, discoverer, "u", proofU, ""), iscsi.LoginAuthenticationFail)
		}
	}},
	{"iscsi_set_discovery_auth: disable_chap require_chap mutual_chap chap_group; iscsi_create_auth_group: tag secrets", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		d.rules(func(rule string) { d.does([]step{{"iscsi_set_discovery_auth", `{` + rule + `}`, `true`}}) }, 1, discoverer)
	}},
	{"iscsi_portal_group_set_auth: tag disable_chap require_chap mutual_chap chap_group", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		d.does([]step{{"iscsi_create_portal_group", `{"tag": 2, "portals": [{"host": "127.0.0.1", "port": "0"}]}`, `true`}})
		d.rules(func(rule string) { d.does([]step{{"iscsi_portal_group_set_auth", `{"tag": 2, ` + rule + `}`, `true`}}) }, 2, discoverer)
		d.does([]step{{"iscsi_portal_group_set_auth", `{"tag": 2, "require_chap": true}`, `true`}})
		x.is("by another group", d.discovers(1), iscsi.LoginSuccess)
	}},
	{"iscsi_target_node_set_auth: name disable_chap require_chap mutual_chap chap_group", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		d.rules(func(rule string) {
			d.does([]step{{"iscsi_target_node_set_auth", `{"name": "test", ` + rule + `}`, `true`}})
		}, 1, normal)
	}},
	{"iscsi_create_target_node: name alias_name pg_ig_maps luns queue_depth header_digest data_digest disable_chap require_chap mutual_chap chap_group", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 5, "header_digest": true, "data_digest": true`)
		status, p := d.login("HeaderDigest=CRC32C,None", "DataDigest=None,CRC32C")
		x.is("a login", status, iscsi.LoginSuccess)
		x.is("alias_name", p.Keys["TargetAlias"], "an alias")
		x.is("queue_depth", p.MaxCmdSN-p.ExpCmdSN+1, 5)
		x.is("header_digest", p.Keys["HeaderDigest"], "CRC32C")
		x.is("data_digest", p.Keys["DataDigest"], "CRC32C")
		p.Unit(0) // luns
		d.does([]step{{"iscsi_create_target_node", `{"name": "closed", "alias_name": "", "pg_ig_maps": [], "luns": [], "queue_depth": 0}`, `true`}})
		status, _ = d.login("TargetName=" + iscsi.DefaultNodeBase + ":closed")
		x.is("no pg_ig_maps", status, iscsi.LoginNotAllowed)
		d.does([]step{
			{"iscsi_create_target_node", `{"name": "bare", "alias_name": "", "pg_ig_maps": [], "luns": [], "queue_depth": 0, "disable_chap": true}`, `true`},
			{"iscsi_create_target_node", `{"name": "proved", "alias_name": "", "pg_ig_maps": [], "luns": [], "queue_depth": 0, "require_chap": true, "mutual_chap": true, "chap_group": 3}`, `true`},
			{"iscsi_get_target_nodes", `{}`, `.*:bare",.*"disable_chap":true,"require_chap":false.*:proved",.*"disable_chap":false,"require_chap":true,"mutual_chap":true,"chap_group":3.*`}, // the rules are those of set_auth
		})
	}},
	{"iscsi_create_portal_group: tag portals private wait; iscsi_start_portal_group: tag; iscsi_delete_portal_group: tag; iscsi_target_node_add_pg_ig_maps: name pg_ig_maps; iscsi_target_node_remove_pg_ig_maps: name pg_ig_maps", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		d.does([]step{
			{"iscsi_create_portal_group", `{"tag": 2, "portals": [{"host": "127.0.0.1", "port": "0"}], "private": true, "wait": true}`, `true`},
			{"iscsi_get_portal_groups", `{}`, `.*{"tag":2,"portals":\[{"host":"127.0.0.1","port":"0"}\],"private":true}\]`}, // wait: it has no port
			{"iscsi_start_portal_group", `{"tag": 2}`, `true`},
		})
		login := func() iscsi.LoginStatus {
			r, _ := iscsitest.Dial(x.T, d.addr(2)).Step(iscsi.OperationalStage, iscsi.FullFeature, iscsitest.Keys()...)
			return r.Status
		}
		x.is("no map", login(), iscsi.LoginNotAllowed)
		d.does([]step{{"iscsi_target_node_add_pg_ig_maps", `{"name": "test", "pg_ig_maps": [{"pg_tag": 2, "ig_tag": 1}]}`, `true`}})
		x.is("a map", login(), iscsi.LoginSuccess)
		shown := iscsitest.Discovery(x.T, d.addr(1)).Ask("what is there", "SendTargets=All")
		x.is("private", len(shown), 2) // the name and one address
		d.does([]step{{"iscsi_target_node_remove_pg_ig_maps", `{"name": "test", "pg_ig_maps": [{"pg_tag": 2, "ig_tag": 1}]}`, `true`}})
		x.is("the map is gone", login(), iscsi.LoginNotAllowed)
		d.does([]step{{"iscsi_delete_portal_group", `{"tag": 2}`, `true`}, {"iscsi_get_portal_groups", `{}`, `\[{"tag":1,[^}]*}\],"private":false}\]`}})
	}},
	{"iscsi_create_initiator_group: tag initiators netmasks; iscsi_initiator_group_add_initiators: tag initiators netmasks; iscsi_initiator_group_remove_initiators: tag initiators netmasks; iscsi_delete_initiator_group: tag", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		d.does([]step{
			{"iscsi_create_initiator_group", `{"tag": 2, "initiators": ["iqn.1992-01.com.example:a"], "netmasks": ["192.0.2.0/24"]}`, `true`},
			{"iscsi_target_node_add_pg_ig_maps", `{"name": "test", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 2}]}`, `true`},
			{"iscsi_delete_initiator_group", `{"tag": 1}`, `true`},
		})
		can := func(name string) iscsi.LoginStatus {
			x.Helper()
			status, _ := d.login("InitiatorName=iqn.1992-01.com.example:" + name)
			return status
		}
		x.is("netmasks", can("a"), iscsi.LoginNotAllowed)
		d.does([]step{{"iscsi_initiator_group_add_initiators", `{"tag": 2, "netmasks": ["127.0.0.0/8"]}`, `true`}})
		x.is("netmasks added", can("a"), iscsi.LoginSuccess)
		x.is("initiators", can("b"), iscsi.LoginNotAllowed)
		d.does([]step{{"iscsi_initiator_group_add_initiators", `{"tag": 2, "initiators": ["iqn.1992-01.com.example:b"]}`, `true`}})
		x.is("initiators added", can("b"), iscsi.LoginSuccess)
		d.does([]step{{"iscsi_initiator_group_remove_initiators", `{"tag": 2, "initiators": ["iqn.1992-01.com.example:a"]}`, `true`}})
		x.is("initiators removed", can("a"), iscsi.LoginNotAllowed)
		d.does([]step{{"iscsi_initiator_group_remove_initiators", `{"tag": 2, "netmasks": ["127.0.0.0/8"]}`, `true`}})
		x.is("netmasks removed", can("b"), iscsi.LoginNotAllowed)
	}},
	{"iscsi_target_node_add_lun: name bdev_name lun_id; iscsi_target_node_remove_lun: name lun_id; iscsi_delete_target_node: name", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		d.does([]step{{"bdev_malloc_create", `{"name": "n", "num_blocks": 2048, "block_size": 512}`, `"n"`}, {"iscsi_target_node_add_lun", `{"name": "test", "bdev_name": "n", "lun_id": 9}`, `true`}})
		_, p := d.login()
		p.Unit(9)
		d.does([]step{{"iscsi_target_node_remove_lun", `{"name": "test", "lun_id": 9}`, `true`}})
		x.is("lun_id removed", p.Command(9, iscsitest.Read10(0, 1), iscsitest.Reads, 512, nil).Code(), 0x052500)
		p.Logout("before its target goes")
		d.does([]step{{"iscsi_delete_target_node", `{"name": "test"}`, `true`}})
		status, _ := d.login()
		x.is("a target that is gone", status, iscsi.LoginNotFound)
	}},
	{"iscsi_target_node_set_redirect: name pg_tag redirect_host redirect_port; iscsi_target_node_request_logout: name pg_tag", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		_, in := d.login()
		d.does([]step{{"iscsi_target_node_request_logout", `{"name": "test", "pg_tag": 1}`, `true`}})
		in.Want("it came by portal group 1", iscsi.OpAsync)
		in.Logout("as it was asked to")
		d.does([]step{{"iscsi_target_node_set_redirect", `{"name": "test", "pg_tag": 1, "redirect_host": "192.0.2.1", "redirect_port": "3261"}`, `true`}})
		status, p := d.login()
		x.is("a redirection", status, iscsi.LoginMovedForNow)
		x.is("redirect_host and redirect_port", strings.HasPrefix(p.Keys["TargetAddress"], "192.0.2.1:3261"), true)
	}},
	{"iscsi_delete_auth_group: tag; iscsi_auth_group_add_secret: tag user secret muser msecret; iscsi_auth_group_remove_secret: tag user", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0, "require_chap": true, "chap_group": 3`)
		d.does([]step{{"iscsi_create_auth_group", secretsOfGroup3, `true`}, {"iscsi_auth_group_add_secret", `{"tag": 3, "user": "v", "secret": "secret-of-v-1", "muser": "w", "msecret": "secret-of-w-1"}`, `true`}})
		x.is("a secret that was added", d.proves(1, normal, "v", "secret-of-v-1", "secret-of-w-1"), iscsi.LoginSuccess)
		d.does([]step{{"iscsi_auth_group_remove_secret", `{"tag": 3, "user": "v"}`, `true`}})
		x.is("one that was removed", d.proves(1, normal, "v", "secret-of-v-1", ""), iscsi.LoginAuthenticationFail)
		x.is("another of the group", d.proves(1, normal, "u", proofU, ""), iscsi.LoginSuccess)
		d.does([]step{{"iscsi_delete_auth_group", `{"tag": 3}`, `true`}})
		x.is("a group that is gone", d.proves(1, normal, "u", proofU, ""), iscsi.LoginAuthenticationFail)
	}},
	{"iscsi_enable_histogram: name enable; iscsi_get_histogram: name", func(x *optionRig) {
		d := x.doors("", `, "queue_depth": 0`)
		d.does([]step{{"iscsi_enable_histogram", `{"name": "test", "enable": true}`, `true`}})
		_, p := d.login()
		p.Unit(0)
		h, err := d.testEngine.ISCSI.Histogram("test")
		if err != nil || h.Total() == 0 {
			x.Errorf("no command is counted: %v", err)
		}
		d.does([]step{{"iscsi_enable_histogram", `{"name": "test", "enable": false}`, `true`}, {"iscsi_get_histogram", `{"name": "test"}`, `-32602`}})
	}},
}
