package bdev

// This file is what those who serve a device share of it. The device does not know what it is.

// Attach lets f see what is attached to the device, nil if nothing is, and attaches what f gives; nil ends it. It is control work; f must not come back.
func (d *Device) Attach(f func(was any) any) {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	d.attached = f(d.attached)
}
