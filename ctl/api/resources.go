package api

// This file holds the methods about what devices and targets draw on: buffers, sockets, accelerators, keys; and about
// notifications of what became of devices.

// IOBufSetOptionsParams come with every saved configuration. Buffers here are the reactors' own, made as they are needed.
type IOBufSetOptionsParams struct {
	SmallPoolCount uint64 `json:"small_pool_count,omitempty" default:"8192" doc:"buffers"`
	LargePoolCount uint64 `json:"large_pool_count,omitempty" default:"1024" doc:"buffers"`
	SmallBufsize   uint32 `json:"small_bufsize,omitempty" default:"8192" doc:"bytes"`
	LargeBufsize   uint32 `json:"large_bufsize,omitempty" default:"135168" doc:"bytes"`
	EnableNUMA     bool   `json:"enable_numa,omitempty" default:"false" doc:"a pool for each node"`
}

// IOBufStats are the buffers of one reactor. Its pool is one; it stands as the large one.
type IOBufStats struct {
	Module    string    `json:"module"`
	SmallPool IOBufPool `json:"small_pool"`
	LargePool IOBufPool `json:"large_pool"`
}

// IOBufPool counts where buffers came from.
type IOBufPool struct {
	Cache     uint64 `json:"cache" doc:"from the reactor's own"`
	Main      uint64 `json:"main" doc:"from the common pool"`
	Retry     uint64 `json:"retry" doc:"not at once"`
	CacheSize uint64 `json:"cache_size,omitempty" doc:"buffers"`
}

// SockImplParams name a kind of socket.
type SockImplParams struct {
	ImplName string `json:"impl_name" rpc:"required" enum:"uring,posix,ssl" doc:"uring; posix is another name for it"`
}

// SockImpl is a kind of socket.
type SockImpl struct {
	ImplName string `json:"impl_name"`
}

// SockOptions are the options of a kind of socket; what is left out stays as it is.
type SockOptions struct {
	RecvBufSize              *uint32 `json:"recv_buf_size,omitempty" doc:"bytes of the kernel's buffer; its own tuning where it was never set"`
	SendBufSize              *uint32 `json:"send_buf_size,omitempty" doc:"bytes of the kernel's buffer; its own tuning where it was never set"`
	EnableRecvPipe           *bool   `json:"enable_recv_pipe,omitempty" doc:"no effect"`
	EnableQuickack           *bool   `json:"enable_quickack,omitempty" doc:"acknowledge what comes first on a connection at once"`
	EnablePlacementID        *uint32 `json:"enable_placement_id,omitempty" max:"3" doc:"2 serves a connection, other things being equal, on the reactor whose CPU receives its packets; 0, 1, 3 do not look at that"`
	EnableZerocopySendServer *bool   `json:"enable_zerocopy_send_server,omitempty" doc:"no effect"`
	EnableZerocopySendClient *bool   `json:"enable_zerocopy_send_client,omitempty" doc:"no effect"`
	ZerocopyThreshold        *uint32 `json:"zerocopy_threshold,omitempty" doc:"no effect"`
	TLSVersion               *uint32 `json:"tls_version,omitempty" doc:"no effect"`
	EnableKTLS               *bool   `json:"enable_ktls,omitempty" doc:"no effect"`
}

// SockImplSetOptionsParams set them.
type SockImplSetOptionsParams struct {
	ImplName string `json:"impl_name" rpc:"required" enum:"uring,posix,ssl" doc:"uring; posix is another name for it"`
	SockOptions
}

// AccelSetOptionsParams come with every saved configuration.
type AccelSetOptionsParams struct {
	SmallCacheSize *uint32 `json:"small_cache_size,omitempty" doc:"ignored"`
	LargeCacheSize *uint32 `json:"large_cache_size,omitempty" doc:"ignored"`
	TaskCount      *uint32 `json:"task_count,omitempty" doc:"ignored"`
	SequenceCount  *uint32 `json:"sequence_count,omitempty" doc:"ignored"`
	BufCount       *uint32 `json:"buf_count,omitempty" doc:"ignored"`
}

// AccelCryptoKeyCreateParams are a key for encrypted devices.
type AccelCryptoKeyCreateParams struct {
	Name      string `json:"name" rpc:"required"`
	Cipher    string `json:"cipher" rpc:"required" enum:"AES_CBC,AES_XTS" doc:"AES_XTS"`
	Key       string `json:"key" rpc:"required" secret:"true" doc:"first half, hexadecimal"`
	Key2      string `json:"key2,omitempty" secret:"true" doc:"second half, hexadecimal; AES_XTS needs it"`
	TweakMode string `json:"tweak_mode,omitempty" default:"SIMPLE_LBA" enum:"SIMPLE_LBA,JOIN_NEG_LBA_WITH_LBA,INCR_512_FULL_LBA,INCR_512_UPPER_LBA"`
}

// AccelCryptoKeyDestroyParams name a key.
type AccelCryptoKeyDestroyParams struct {
	Name    string `json:"name,omitempty"`
	KeyName string `json:"key_name,omitempty" doc:"older word for name"`
}

// AccelCryptoKeysGetParams name a key, or none for all.
type AccelCryptoKeysGetParams struct {
	KeyName string `json:"key_name,omitempty"`
}

// CryptoKey is a key for encrypted devices.
type CryptoKey struct {
	Name      string `json:"name"`
	Cipher    string `json:"cipher"`
	Key       string `json:"key" doc:"masked for who is no admin"`
	Key2      string `json:"key2,omitempty" doc:"masked for who is no admin"`
	TweakMode string `json:"tweak_mode"`
}

// FSDevSetOptsParams come with every saved configuration; there are no file system devices here.
type FSDevSetOptsParams struct {
	FSDevIOPoolSize  uint32 `json:"fsdev_io_pool_size" rpc:"required" doc:"ignored"`
	FSDevIOCacheSize uint32 `json:"fsdev_io_cache_size" rpc:"required" doc:"ignored"`
}

// KeyringFileAddKeyParams name a key and its file.
type KeyringFileAddKeyParams struct {
	Name string `json:"name" rpc:"required"`
	Path string `json:"path" rpc:"required" doc:"absolute path of a file of mode 0600"`
}

// KeyringFileRemoveKeyParams name a key.
type KeyringFileRemoveKeyParams struct {
	Name string `json:"name" rpc:"required"`
}

// Key is a key in the keyring.
type Key struct {
	Name    string `json:"name"`
	Module  string `json:"module"`
	Removed bool   `json:"removed" doc:"removed, but still in use"`
	Probed  bool   `json:"probed"`
	Refcnt  uint32 `json:"refcnt" doc:"users, the keyring among them"`
	Path    string `json:"path"`
}

// KeyringLinuxSetOptionsParams turn keys of the kernel's keyring on.
type KeyringLinuxSetOptionsParams struct {
	Enable bool `json:"enable,omitempty" default:"false" doc:"only false"`
}

// NotifyGetNotificationsParams select events.
type NotifyGetNotificationsParams struct {
	ID  uint64  `json:"id,omitempty" default:"0" doc:"first event; the oldest kept one if it is gone"`
	Max *uint64 `json:"max,omitempty" doc:"events, at most; all without it"`
}

// Notification is one event.
type Notification struct {
	Type string `json:"type"`
	Ctx  string `json:"ctx" doc:"device"`
	ID   uint64 `json:"id"`
}

var (
	IOBufSetOptions = changes[IOBufSetOptionsParams, bool]("iobuf_set_options", Startup,
		"Take the sizes of a saved configuration; buffers are the reactors' own here, bounded by serve --memory.")
	IOBufGetStats = reads[None, []IOBufStats]("iobuf_get_stats", Runtime, "Give the buffer pools' counters.")

	SockSetDefaultImpl = changes[SockImplParams, bool]("sock_set_default_impl", Startup,
		"Choose the kind of socket to use.")
	SockGetDefaultImpl = reads[None, SockImpl]("sock_get_default_impl", Always, "Tell the kind of socket in use.")
	SockImplGetOptions = reads[SockImplParams, SockOptions]("sock_impl_get_options", Always,
		"Give the options of a kind of socket.")
	SockImplSetOptions = changes[SockImplSetOptionsParams, bool]("sock_impl_set_options", Startup,
		"Set the options of a kind of socket.")

	AccelSetOptions = changes[AccelSetOptionsParams, bool]("accel_set_options", Startup,
		"Take the options of a saved configuration; nothing is handed to an accelerator here.")
	AccelCryptoKeyCreate = admin(changes[AccelCryptoKeyCreateParams, bool]("accel_crypto_key_create", Always,
		"Make a key for encrypted devices."))
	AccelCryptoKeyDestroy = admin(changes[AccelCryptoKeyDestroyParams, bool]("accel_crypto_key_destroy", Always,
		"Forget a key that no device uses."))
	AccelCryptoKeysGet = reads[AccelCryptoKeysGetParams, []CryptoKey]("accel_crypto_keys_get", Always,
		"List the keys for encrypted devices; only an admin is told what they are.")
	FSDevSetOpts = changes[FSDevSetOptsParams, bool]("fsdev_set_opts", Always,
		"Take the options of a saved configuration; there are no file system devices here.")

	KeyringFileAddKey = admin(changes[KeyringFileAddKeyParams, bool]("keyring_file_add_key", Always,
		"Put a key into the keyring; it is read from its file when it is used."))
	KeyringFileRemoveKey = admin(changes[KeyringFileRemoveKeyParams, bool]("keyring_file_remove_key", Always,
		"Take a key out of the keyring."))
	KeyringGetKeys         = reads[None, []Key]("keyring_get_keys", Always, "List the keys in the keyring, not what they are.")
	KeyringLinuxSetOptions = admin(changes[KeyringLinuxSetOptionsParams, bool]("keyring_linux_set_options", Startup,
		"Use keys of the kernel's keyring, or not."))

	NotifyGetTypes         = reads[None, []string]("notify_get_types", Always, "List the kinds of events.")
	NotifyGetNotifications = reads[NotifyGetNotificationsParams, []Notification]("notify_get_notifications", Always,
		"List what became of devices.")
)
