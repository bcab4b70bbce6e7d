package iscsi

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestQemu puts images on both LUNs by qemu's iSCSI driver and reads them back, with CHAP too.
func TestQemu(t *testing.T) {
	need(t, "qemu-img")
	need(t, "qemu-io")
	t.Parallel()
	e := startEngine(t)
	image := filepath.Join(t.TempDir(), "image")
	makeImage(t, image)
	for _, run := range []struct{ name, url string }{
		{"mem", e.url(0, plainTarget, memLUN)},
		{"volume", e.url(1, plainTarget, volumeLUN)},
		{"volume, CHAP", e.url(0, chapTarget, volumeLUN)},
	} {
		t.Run(run.name, func(t *testing.T) {
			t.Parallel()
			copyImage(t, image, run.url)
			makeDiskInside(t, image, run.url)
			patterns(t, run.url)
		})
	}
}

// makeImage makes an image of a LUN's size: data, holes, and zeros that are written.
func makeImage(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(lunBytes); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{})
	block := make([]byte, 1<<20)
	for at := int64(0); at < lunBytes; at += 2 * int64(len(block)) {
		if _, err := random.Read(block); err != nil {
			t.Fatal(err)
		}
		clear(block[len(block)/2 : len(block)*3/4])
		if _, err := f.WriteAt(block, at); err != nil {
			t.Fatal(err)
		}
	}
}

// copyImage copies it to the LUN and back.
func copyImage(t *testing.T, image, url string) {
	t.Helper()
	tool(t, "qemu-img", "convert", "-n", "-p", "-f", "raw", "-O", "raw", image, url)
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", image, url)
	back := filepath.Join(t.TempDir(), "back.qcow2")
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", url, back)
	tool(t, "qemu-img", "check", back)
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, back)
}

// makeDiskInside puts a qcow2 image with a snapshot of its own on the LUN.
func makeDiskInside(t *testing.T, image, url string) {
	t.Helper()
	const bytes = "48M"
	tool(t, "qemu-img", "create", "-f", "qcow2", url, bytes)
	tool(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1M 8M", "-c", "flush", url)
	tool(t, "qemu-img", "snapshot", "-c", "before", url)
	tool(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0xa5 4M 8M", "-c", "read -P 0x5a 1M 3M", "-c", "read -P 0xa5 4M 8M", url)
	tool(t, "qemu-img", "check", "-f", "qcow2", url)
	tool(t, "qemu-img", "snapshot", "-a", "before", url)
	tool(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0x5a 1M 8M", "-c", "read -P 0 9M 8M", url)
	tool(t, "qemu-img", "check", "-f", "qcow2", url)
}

// patterns writes and reads by qemu-io, which compares: small and large, unaligned, in several pieces, many at a time, zeros and discards.
func patterns(t *testing.T, url string) {
	t.Helper()
	tool(t, "qemu-io", "-f", "raw",
		"-c", "write -P 0x11 0 4k", "-c", "write -P 0x22 4k 60k", "-c", "write -P 0x33 1M 16M", "-c", "writev -P 0x44 32M 4k 8k 512 3584",
		"-c", "write -f -P 0x55 40M 128k", "-c", "write -P 0x66 41M 512", "-c", "write -P 0x77 43000000 1000",
		"-c", "aio_write -P 0x88 48M 1M", "-c", "aio_write -P 0x99 49M 1M", "-c", "aio_write -P 0xaa 50M 1M", "-c", "aio_write -P 0xbb 51M 1M", "-c", "aio_flush",
		"-c", "write -z 2M 1M", "-c", "write -z -u 4M 1M", "-c", "discard 6M 1M", "-c", "flush",
		"-c", "read -P 0x11 0 4k", "-c", "read -P 0x22 4k 60k", "-c", "read -P 0x33 1M 1M", "-c", "read -P 0 2M 1M", "-c", "read -P 0x33 3M 1M",
		"-c", "read -P 0 4M 1M", "-c", "read -P 0x33 5M 1M", "-c", "read -P 0x33 7M 10M", "-c", "read -P 0x44 32M 16k", "-c", "read -P 0x55 40M 128k",
		"-c", "read -P 0x66 41M 512", "-c", "read -P 0x77 43000000 1000", "-c", "read -P 0x88 48M 1M", "-c", "read -P 0x99 49M 1M",
		"-c", "read -P 0xaa 50M 1M", "-c", "read -P 0xbb 51M 1M", url)
}

// tool runs a program, which has to succeed. (qemu-io's status is 1 when a pattern is not found; it says so besides.)
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), suiteLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verification failed") {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
