// Package initiator is the engine's own NVMe over Fabrics host: it makes devices of the namespaces of a remote controller.
//
// The model: a Controller is one attachment to a subsystem. While it is connected it has an association: an Admin queue on
// its home reactor, and I/O queues spread over the reactors. A queue is one connection and lives on one reactor. What carries it is
// its transport: tcp.go, with the protocol apart from the socket in conn.go, or rdma.go. What a controller is on one reactor is its share: the queues there, and the requests
// that wait for them. Each namespace is a bdev device, whose channel on a reactor hands requests to the share there. A reactor
// without a queue hands its requests to one that has some.
//
// The life of a controller (connecting, scanning, reconnecting) is a goroutine that sends its commands one after another;
// requests never touch it.
//
// The way of a request: device.go Submit → share.go submit → request.go build → conn.go start → output.go → tcp.go sends;
// tcp.go receives → conn.go next → request.go ended → the device above. Over RDMA: request.go build → rdma.go start, post; the target
// reads or writes the request's memory (rdmamemory.go); rdma.go Received → request.go ended.
//
// Invariants
//   - A request is answered once, on the reactor that submitted it. While there is no connection it waits, in order; it is
//     never refused because a queue is full.
//   - The memory of a request is the connection's until nothing of the socket, or of the card and the target, can touch it any more.
//   - A request whose command was sent and not answered is sent again only if doing it twice is the same as doing it once;
//     otherwise it fails, since nobody knows whether it was done.
//   - What the target says is checked before it is used: a wrong tag, offset or length ends the connection.
//
// Units: data in bytes, LBAs in blocks of the namespace; counts are 1-based, whatever they are on the wire.
//
// It has one path to a subsystem; several controllers are several devices.
package initiator
