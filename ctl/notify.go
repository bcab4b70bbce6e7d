package ctl

import (
	"context"
	"slices"

	"github.com/pollux-storage/pollux/ctl/api"
)

// Notifications are what became of devices, for a program that asks now and then (SPDK's lib/notify).
type Notifications struct {
	events history[api.Notification]
}

// The kinds of notifications.
const (
	NotifyBdevRegister   = "bdev_register"
	NotifyBdevUnregister = "bdev_unregister"
	NotifyBdevResize     = "bdev_resize"
)

// notificationMax is how many are kept, as many as SPDK keeps (SPDK_NOTIFY_MAX_EVENTS).
const notificationMax = 1024

// NewNotifications makes an empty list and registers the methods about it.
func NewNotifications(r *Registry) *Notifications {
	n := &Notifications{events: history[api.Notification]{limit: notificationMax}}
	Register(r, api.NotifyGetTypes, func(context.Context, *api.None) ([]string, error) {
		return slices.Clone([]string{NotifyBdevRegister, NotifyBdevUnregister, NotifyBdevResize}), nil
	})
	Register(r, api.NotifyGetNotifications, func(_ context.Context, p *api.NotifyGetNotificationsParams) ([]api.Notification, error) {
		return n.events.from(p.ID, p.Max, func(*api.Notification) bool { return true }), nil
	})
	return n
}

// Add appends one of a kind about a device.
func (n *Notifications) Add(kind, device string) {
	n.events.add(func(id uint64) api.Notification { return api.Notification{Type: kind, Ctx: device, ID: id} })
}
