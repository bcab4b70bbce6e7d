package bench

import (
	"fmt"
	"strings"
)

// This file is an engine that serves over iSCSI.

// iscsiObject is the parameters of a call.
type iscsiObject = map[string]any

// ServeISCSI makes a device of the given kind in the engine and gives the address of the LUN that it is.
func (e *Engine) ServeISCSI(t TargetSpec) (TargetSpec, error) {
	device, name, err := e.makeDevice(&t)
	if err != nil {
		return TargetSpec{}, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return TargetSpec{}, err
	}
	iqn := "iqn.2026-01.io.pollux:" + strings.ToLower(name)
	for _, step := range []struct {
		method string
		params iscsiObject
	}{
		{"iscsi_create_portal_group", iscsiObject{"tag": e.devices, "portals": []iscsiObject{{"host": "127.0.0.1", "port": ports[0]}}}},
		{"iscsi_create_initiator_group", iscsiObject{"tag": e.devices, "initiators": []string{"ANY"}, "netmasks": []string{"127.0.0.0/8"}}},
		{"iscsi_create_target_node", iscsiObject{"name": iqn, "alias_name": name, "pg_ig_maps": []iscsiObject{{"pg_tag": e.devices, "ig_tag": e.devices}},
			"luns": []iscsiObject{{"bdev_name": device, "lun_id": 0}}, "queue_depth": iscsiQueueDepth, "disable_chap": true}},
	} {
		if err := e.call(step.method, step.params); err != nil {
			return TargetSpec{}, fmt.Errorf("serving device %s over iSCSI: %w", device, err)
		}
	}
	e.iscsi = true
	return TargetSpec{Kind: "iscsi", Path: "iscsi://127.0.0.1:" + ports[0] + "/" + iqn + "/0"}, nil
}

// iscsiQueueDepth is that of its targets: the deepest queue that is compared has a place for each request.
const iscsiQueueDepth = 128
